"""What the image predictors read of a section: features of the spot, and of the rings around it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.features import embed_section
from hescribe.errors import InputError
from hescribe.prep.graph import rings
from hescribe.prep.scale import Scale

Standardise = Literal["train", "section"]

MAX_RINGS = 100


@dataclass(frozen=True, kw_only=True)
class SpotInputs:
    """Image features of a spot, alone or with its surroundings.

    Parameters
    ----------
    encoder
        Name of the image encoder.
    fov_um
        Sides of the patches; None takes those of the encoder's card.
    n_rings
        Rings of neighbours whose mean features are appended.
    standardise
        ``"train"``: by the train spots' mean and sd. ``"section"``: each section by its own image,
        the test section too (transductive, but no expression is used).
    """

    encoder: str
    fov_um: tuple[float, ...] | None
    n_rings: int
    standardise: Standardise

    def __post_init__(self) -> None:
        if self.standardise not in ("train", "section"):
            raise InputError(f"standardise must be 'train' or 'section', got {self.standardise!r}")
        if not 0 <= self.n_rings <= MAX_RINGS:
            raise InputError(f"n_rings must be from 0 to {MAX_RINGS}, which reach across a section; got {self.n_rings}")

    def read(self, section: Section) -> np.ndarray:
        """Return the inputs of all spots, shape ``(n_spots, n_dims)``, unscaled or section-standardised."""
        x = embed_section(section, self.encoder, fov_um=self.fov_um)
        if self.standardise == "section":
            x = Scale.of(x).apply(x)
        return np.hstack([x, *(ring.astype(np.float32) @ x for ring in rings(section, self.n_rings))])

    def read_kept(self, train: Cohort) -> np.ndarray:
        """Return the inputs of the kept spots of all sections, shape ``(n_spots, n_dims)``."""
        return np.concatenate([self.read(s)[s.kept] for s in train])

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that a prediction sees, in um."""
        fov = self.fov_um or create_encoder(self.encoder).card.fov_um
        pitch = max((s.card.pitch_um or 0.0) for s in train)
        return max(fov) + 2 * self.n_rings * pitch


class ImageParams(Protocol):
    """The parameters of a method that say how images are read."""

    encoder: str
    fov_um: tuple[float, ...] | None
    n_rings: int
    standardise: Standardise
    frozen: bool
    tuning: Literal["full", "low_rank"]
    rank: int
    jitter: float
    n_components: int | None

    def check_unchanged(self, names: tuple[str, ...], *, given: str) -> None:
        """Raise ``InputError`` if a parameter that the chosen way does not read was changed."""
        ...


def check_images(params: ImageParams) -> None:
    """Raise ``InputError`` if a parameter of the other way to read images was changed."""
    names = ("tuning", "rank", "jitter") if params.frozen else ("n_rings", "standardise")
    params.check_unchanged(names, given=f"frozen={params.frozen}")
