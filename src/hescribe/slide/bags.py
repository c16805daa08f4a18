"""Bags: the tiles of a slide as vectors, read when they are asked for, so that memory holds one slide at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from hescribe.data.section import Section
from hescribe.encode.features import embed_section
from hescribe.errors import InputError

N_NAMED = 10  # files named in a message


@dataclass(frozen=True)
class Places:
    """Where the tiles of a bag lie on their slide.

    Parameters
    ----------
    xy
        Centres, shape ``(n_tiles, 2)``.
    side
        Of a tile; None if the file does not say.
    unit
        ``"um"``, or ``"px"`` of level 0.
    """

    xy: np.ndarray
    side: float | None
    unit: Literal["um", "px"]


class Bag(Protocol):
    """The tiles of one slide, or of all slides of a donor."""

    @property
    def id(self) -> str:
        """Name of the slide."""
        ...

    def read(self) -> np.ndarray:
        """Return the vectors of the tiles, shape ``(n_tiles, n_dims)`` float32, at least one tile."""
        ...

    def read_places(self) -> Places | None:
        """Return where the tiles lie; None if nobody knows."""
        ...


@dataclass(frozen=True)
class ArrayBag:
    """A bag in memory.

    Parameters
    ----------
    id
        Name of the slide.
    features
        Shape ``(n_tiles, n_dims)``.
    places
        Where the tiles lie.

    Examples
    --------
    >>> ArrayBag("s1", np.zeros((3, 2))).read().dtype
    dtype('float32')
    """

    id: str
    features: np.ndarray
    places: Places | None = None

    def read(self) -> np.ndarray:
        """Return the vectors of the tiles."""
        return check_features(self.features, f"bag {self.id}")

    def read_places(self) -> Places | None:
        """Return where the tiles lie."""
        return self.places


@dataclass(frozen=True)
class SectionBag:
    """The tiles of a section or slide as an image encoder sees them; the features are cached.

    Parameters
    ----------
    section
        With an image; its spots are the tiles.
    encoder
        Name of the image encoder.
    """

    section: Section
    encoder: str = "efficientnet_lite0"

    @property
    def id(self) -> str:
        """Name of the section."""
        return self.section.id

    def read(self) -> np.ndarray:
        """Return the embeddings of the tiles."""
        return check_features(embed_section(self.section, self.encoder), f"section {self.id}")

    def read_places(self) -> Places | None:
        """Return the centres of the spots."""
        return Places(self.section.xy_um, self.section.card.pitch_um, "um")


@dataclass(frozen=True)
class JoinedBag:
    """Several bags as one: early fusion of the slides of a donor.

    Parameters
    ----------
    id
        Name of the donor.
    parts
        Bags of its slides.
    """

    id: str
    parts: tuple[Bag, ...]

    def read(self) -> np.ndarray:
        """Return the vectors of the tiles of all slides, one slide after the other."""
        found = [part.read() for part in self.parts]
        if len(dims := {x.shape[1] for x in found}) > 1:
            raise InputError(f"slides of {self.id} have {' and '.join(map(str, sorted(dims)))} dims; embed all alike")
        return np.concatenate(found)

    def read_places(self) -> Places | None:
        """Return nothing: tiles of several slides share no plane."""
        return None


def check_features(x: np.ndarray, where: str) -> np.ndarray:
    """Return the vectors of tiles as float32, checked.

    Raises
    ------
    InputError
        If the shape is not ``(n_tiles, n_dims)`` with at least one of both, or a value is not finite or no number.
    """
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where} has features of the type {x.dtype}; expected numbers")
    if x.ndim != 2:
        hint = "; one vector a slide is no bag of tiles" if x.ndim == 1 else ""
        raise InputError(f"{where} has features of shape {x.shape}, expected (n_tiles, n_dims){hint}")
    if not x.size:
        raise InputError(f"{where} has no tiles (shape {x.shape}); leave the slide and its label out, or tile it again")
    x = np.asarray(x, dtype=np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"{where} has features that are not finite at tile {np.argwhere(~np.isfinite(x))[0][0]}")
    return x


def match_bags(bags: Mapping[str, Bag], slides: Sequence[str]) -> list[Bag]:
    """Return the bags of labelled slides, in their order: every slide has both, or nothing is returned.

    Raises
    ------
    InputError
        If labels have no slide or slides no label; both are listed.
    """
    without_bag, without_label = [s for s in slides if s not in bags], sorted(set(bags) - set(slides))
    problems = [
        f"{what}: {', '.join(names[:N_NAMED])}{f' and {len(names) - N_NAMED} more' if len(names) > N_NAMED else ''}"
        for what, names in (("labels without features", without_bag), ("slides without a label", without_label))
        if names
    ]
    if problems:
        raise InputError(
            f"labels and features do not match; {'; '.join(problems)}. Add what is missing, or take the rows or "
            "files out"
        )
    return [bags[s] for s in slides]
