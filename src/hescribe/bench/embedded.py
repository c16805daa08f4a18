"""Embeddings of a section or slide as files, which say what made them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from hescribe import __version__, keys
from hescribe.bench.aligner_folder import AlignerEncoder
from hescribe.bench.leakage import find_trained_dataset
from hescribe.data.h5ad import write_h5ad
from hescribe.data.section import Section
from hescribe.data.tile_store import write_trident
from hescribe.encode.base import ImageEncoder, SectionEncoder
from hescribe.encode.features import embed_section
from hescribe.errors import InputError
from hescribe.experts.mixture import Mixture

FORMATS = ("h5ad", "h5")


@dataclass(frozen=True)
class Embedded:
    """A section as an encoder sees it.

    Parameters
    ----------
    section
        With an image.
    x
        Shape ``(n_spots, n_dims)`` float32.
    card
        Of the encoder.
    far
        Which spots look unlike all tissue that a mixture was trained on; None of other encoders.
    seen
        Where the encoder was trained on this tissue; None if it was not, as far as is known.
    """

    section: Section
    x: np.ndarray
    card: Any
    far: np.ndarray | None
    seen: str | None


def check_format(name: str) -> None:
    """Raise ``InputError`` if there is no such format of file."""
    if name not in FORMATS:
        raise InputError(f"--format is one of {', '.join(FORMATS)}, got {name!r}")


def embed(section: Section, encoder: ImageEncoder | SectionEncoder, cohort: str) -> Embedded:
    """Return the embedding of every spot or tile of a section; features are cached.

    Parameters
    ----------
    section
        With an image.
    encoder
        Of images, or the image side of a fitted aligner.
    cohort
        Id of the cohort of the section, to tell whether the encoder was trained on it; empty for a bare slide.
    """
    mixture = encoder.fitted.aligner if isinstance(encoder, AlignerEncoder) else None
    far = mixture.is_far(section) if isinstance(mixture, Mixture) else None
    seen = find_trained_dataset(encoder.card.trained_on, cohort, [section.id])
    return Embedded(section, embed_section(section, encoder), encoder.card, far, seen)


def write(path: Path, found: Embedded, encoder: str, *, source: str) -> None:
    """Write embeddings with what made them, whole or not at all.

    Parameters
    ----------
    path
        Its suffix is the format: ``.h5ad`` holds them as ``X`` and ``obsm["X_NAME"]``, ``.h5`` as TRIDENT
        does.
    found
        What to write.
    encoder
        As the user named it.
    source
        Where section or image are, seen from the folder of ``path``.

    Raises
    ------
    DataAccessError
        If the file cannot be written.
    """
    card, section = found.card, found.section
    assert section.image is not None
    facts = {
        "section": section.id, "source": source, "mpp": section.image.mpp, "fov_um": list(card.fov_um),
        "encoder": card.name, "revision": card.revision, "trained_on": list(card.trained_on), "version": __version__,
    }  # fmt: skip
    blind = section.blind().table
    key = f"X_{Path(encoder).name.replace(':', '_')}"
    table = AnnData(found.x, obs=blind.obs, obsm={**dict(blind.obsm), key: found.x}, uns={keys.MADE_BY: facts})
    if found.far is not None:
        table.obs[keys.FAR] = found.far
    if found.seen:
        table.uns[keys.SEEN] = found.seen  # a benchmark of slides refuses such features
    (write_trident if path.suffix == ".h5" else write_h5ad)(table, path)
