"""Convert: a cohort as SpatialData or as h5ad files for other tools, and back."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe._support import write_whole_folder
from hescribe.cards import DatasetCard
from hescribe.data.cohort import Cohort
from hescribe.data.facts import FACTS, write_facts
from hescribe.data.folder import INDEX, read_cohort
from hescribe.data.h5ad import write_h5ad
from hescribe.data.importing import import_cohort
from hescribe.data.section import Section
from hescribe.data.spatialdata_store import (
    DONOR,
    SECTION_KEY,
    find_mpp,
    find_radius_px,
    write_spatialdata,
)
from hescribe.data.tile_store import convert_tiles
from hescribe.errors import InputError
from hescribe.progress import track
from hescribe.units import to_px

Target = Literal["cohort", "h5ad", "spatialdata", "wsidata", "trident"]
THUMBNAIL_PX = 2000  # long side of the image inside an h5ad: Space Ranger's hires image has as many


def convert(source: Path, to: Target, out: Path) -> tuple[str, ...]:
    """Write data in another form, whole or not at all.

    Parameters
    ----------
    source
        Cohort folder; for ``to="cohort"`` a zarr store or an h5ad file (or a folder of them); for ``"wsidata"`` and
        ``"trident"`` the features or predictions of tiles.
    to
        ``"spatialdata"``: one zarr store; ``"h5ad"``: a folder with one file a section;
        ``"cohort"``: a cohort folder; ``"wsidata"``, ``"trident"``: see ``convert_tiles``.
    out
        New folder.

    Returns
    -------
    What the user should know, one sentence each.

    Raises
    ------
    InputError
        If ``to`` is unknown or ``out`` exists; else what reading and writing raise.
    """
    if to not in get_args(Target):
        raise InputError(f"{to!r} is no form to convert to; there are {', '.join(get_args(Target))}")
    if to == "cohort":
        if (source / INDEX).is_file():
            raise InputError(f"{source} is a cohort already")
        is_store = (source / "zarr.json").is_file() or (source / ".zgroup").is_file()
        return import_cohort(source, "spatialdata" if is_store else "h5ad", out).notes
    if to in {"wsidata", "trident"}:
        convert_tiles(source, to, out)
    elif to == "spatialdata":
        write_spatialdata(read_cohort(source), out)
    else:
        write_h5ads(read_cohort(source), out)
    return ()


def write_h5ads(cohort: Cohort, path: Path) -> None:
    """Write one h5ad a section, as squidpy and scanpy expect a Visium table.

    ``X`` holds the counts, ``obsm["spatial"]`` pixels of the image, ``uns["spatial"][id]`` a reduced image,
    its scale, the um per pixel and what the section's card says.

    Raises
    ------
    InputError
        If ``path`` exists.
    DataAccessError
        If it cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} exists; give a new folder")
    with write_whole_folder(path) as tmp:
        for section in track(cohort, "converting sections"):
            write_h5ad(_to_table(section, cohort.card), tmp / f"{section.id}.h5ad")


def _to_table(section: Section, dataset: DatasetCard) -> AnnData:
    table = section.table
    obs = table.obs.copy()
    obs[SECTION_KEY], obs[DONOR] = section.id, section.donor
    return AnnData(
        sparse.csr_matrix(table.layers[keys.COUNTS]),
        obs=obs,
        var=table.var.copy(),
        layers={k: v for k, v in table.layers.items() if k != keys.COUNTS},
        obsm={k: np.asarray(v) for k, v in table.obsm.items()},
        uns={keys.SPATIAL: {section.id: _to_library(section, dataset)}},
    )


def _to_library(section: Section, dataset: DatasetCard) -> dict[str, Any]:
    """Return the entry of a section under ``uns["spatial"]``."""
    factors = {"spot_diameter_fullres": 2 * find_radius_px(section)}
    mpp = find_mpp(section)
    if mpp is not None:
        factors["microns_per_pixel"] = mpp
    library: dict[str, Any] = {"metadata": {FACTS: write_facts(section, dataset)}, "scalefactors": factors}
    if section.image is not None:
        long_px = float(to_px(max(section.image.size_um), section.image.mpp))
        factors["tissue_hires_scalef"] = min(1.0, THUMBNAIL_PX / long_px)
        coarse_mpp = section.image.mpp / factors["tissue_hires_scalef"]
        library["images"] = {"hires": section.image.read(0.0, 0.0, section.image.size_um, coarse_mpp)}
    return library
