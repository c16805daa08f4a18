"""What a command is given to read: a cohort, a section of one, or an image."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.data.section import Section


def read_sections(
    source: Path, mpp: float | None, pitch_um: float | None, at: Path | None = None, *, usual_um: float = 112.0
) -> "list[Section]":
    """Return the sections of a cohort folder, one section of it, or the spots on an image.

    Parameters
    ----------
    source
        Folder, h5ad of a section, or image.
    mpp
        um per pixel of an image, if it does not say.
    pitch_um
        Distance of the spots that are laid on an image; ``usual_um`` if None.
    at
        File that names places on the image in their stead.
    usual_um
        What the model was trained on.

    Raises
    ------
    InputError
        If an option is given for what is no image, or places and a grid at once; else see what reads them.
    """
    from hescribe.data.folder import find_section, read_cohort  # noqa: PLC0415 - the command line starts fast
    from hescribe.data.places import read_places  # noqa: PLC0415
    from hescribe.data.slide import open_image  # noqa: PLC0415
    from hescribe.prep.tissue import grid_section, placed_section  # noqa: PLC0415

    if source.is_dir() or source.suffix == ".h5ad":
        if mpp is not None:
            raise InputError("--mpp is for a bare image; the sections of a cohort have the scale of their import")
        if at is not None or pitch_um is not None:
            raise InputError("--at and --pitch-um are for a bare image; the sections of a cohort have their own spots")
    if at is not None and pitch_um is not None:
        raise InputError("--pitch-um lays a grid and --at names places; give one of them")
    if source.is_dir():
        return list(read_cohort(source))
    if source.suffix == ".h5ad":
        return [find_section(source)]
    image = open_image(source, mpp)
    if at is not None:
        return [placed_section(image, source.stem, *read_places(at, image.mpp))]
    return [grid_section(image, source.stem, usual_um if pitch_um is None else pitch_um)]


def dataset_of(source: Path) -> str:
    """Return the id of the cohort that a folder is or a section's file belongs to; empty for a bare image."""
    from hescribe.data.folder import INDEX, read_index  # noqa: PLC0415 - the command line starts fast

    folder = source if source.is_dir() else source.resolve().parent.parent
    is_cohort = source.is_dir() or (source.suffix == ".h5ad" and (folder / INDEX).is_file())
    return read_index(folder).id if is_cohort else ""


def place_of(source: Path, section: "Section", out: Path) -> str:
    """Return where the section or its image is, seen from the folder of the prediction."""
    from hescribe.data.folder import SECTIONS  # noqa: PLC0415 - the command line starts fast

    place = source / SECTIONS / f"{section.id}.h5ad" if source.is_dir() else source
    return os.path.relpath(place.resolve(), out.resolve())
