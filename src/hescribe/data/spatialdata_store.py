"""A cohort as a SpatialData zarr store: one table, and an image and circles for each section.

Names are those of spatialdata-io's Visium reader: image ``<id>_full_image``, shapes ``<id>``, coordinate
system ``<id>`` in pixels of the image. The system ``<id>_um`` holds the scale. Marconato et al.,
SpatialData, Nature Methods 2025, doi:10.1038/s41592-024-02212-x.
"""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData, concat
from scipy import sparse
from scipy.spatial import cKDTree

from hescribe import keys
from hescribe._support import import_extra, write_whole_folder
from hescribe.data.cohort import Cohort
from hescribe.data.facts import FACTS, write_facts
from hescribe.data.image import ArrayImage, ImageSource, LazyImage
from hescribe.data.plain import PlainImage
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.progress import track
from hescribe.units import to_px, to_um

if TYPE_CHECKING:
    from dask.array import Array
    from spatialdata import SpatialData

IMAGE, SYSTEM_UM, TABLE = "{}_full_image", "{}_um", "table"
SECTION_KEY, SPOT_KEY, DONOR = "section_id", "spot_id", "donor"
TILE_PX = 2048


@contextmanager
def load_spatialdata() -> Iterator[ModuleType]:
    """Yield the module ``spatialdata``; what its own dependencies warn about each other is not shown.

    Raises
    ------
    MissingDependencyError
        If it is not installed; the message names the extra.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", "zarr v3 autosharding")
        module = import_extra("spatialdata", "spatial", "reading and writing SpatialData")
        for part in ("models", "transformations"):
            importlib.import_module(f"spatialdata.{part}")
        yield module


def write_spatialdata(cohort: Cohort, path: Path) -> None:
    """Write a cohort as a zarr store, whole or not at all.

    Parameters
    ----------
    cohort
        Counts become ``X`` of the one table, and other layers are layers.
    path
        New folder, usually named ``*.zarr``.

    Raises
    ------
    InputError
        If ``path`` exists.
    MissingDependencyError
        If spatialdata is not installed.
    DataAccessError
        If it cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} exists; give a new folder")
    with load_spatialdata(), write_whole_folder(path) as tmp:
        store = tmp / "store"
        _to_spatialdata(cohort).write(store)
        for part in list(store.iterdir()):
            part.rename(tmp / part.name)
        store.rmdir()


def _to_spatialdata(cohort: Cohort) -> "SpatialData":
    from spatialdata import SpatialData  # noqa: PLC0415 - an extra
    from spatialdata.models import Image2DModel, ShapesModel, TableModel  # noqa: PLC0415

    images, shapes, tables = {}, {}, []
    for section in track(cohort, "converting sections"):
        systems = _to_systems(section)
        xy_px = section.table.obsm[keys.SPATIAL]
        shapes[section.id] = ShapesModel.parse(
            np.asarray(xy_px, dtype=np.float64),
            geometry=0,
            radius=find_radius_px(section),
            index=section.table.obs_names.copy(),
            transformations=systems,
        )
        if section.image is not None:
            images[IMAGE.format(section.id)] = Image2DModel.parse(
                _to_dask(section.image), dims=("c", "y", "x"), c_coords=["r", "g", "b"], transformations=systems
            )
        tables.append(_to_table(section))
    table = concat(tables, merge="same")
    table.obs[SECTION_KEY] = pd.Categorical(table.obs[SECTION_KEY])
    ids = [s.id for s in cohort]
    parsed = TableModel.parse(table, region=ids, region_key=SECTION_KEY, instance_key=SPOT_KEY)
    facts = {s.id: write_facts(s, cohort.card) for s in cohort}
    return SpatialData(images=images, shapes=shapes, tables={TABLE: parsed}, attrs={FACTS: facts})


def find_mpp(section: Section) -> float | None:
    """Return the um per pixel of a section's coordinates, None if it has no scale."""
    return section.image.mpp if section.image else section.card.mpp


def find_radius_px(section: Section) -> float:
    """Return half the distance of neighbouring spots in pixels: the pitch, or what the spots themselves have."""
    mpp, xy_px = find_mpp(section), np.asarray(section.table.obsm[keys.SPATIAL])
    if section.card.pitch_um and mpp:
        return float(to_px(section.card.pitch_um, mpp)) / 2
    if len(xy_px) < 2:
        return 1.0
    return max(float(np.median(cKDTree(xy_px).query(xy_px, k=2)[0][:, 1])) / 2, 1.0)


def _to_systems(section: Section) -> dict[str, Any]:
    """Return the transformations of a section's elements: pixels, and um where the scale is known."""
    from spatialdata.transformations import Identity, Scale  # noqa: PLC0415 - an extra

    mpp, systems = find_mpp(section), {section.id: Identity()}
    if mpp is not None:
        systems[SYSTEM_UM.format(section.id)] = Scale([mpp, mpp], axes=("x", "y"))
    return systems


def _to_table(section: Section) -> AnnData:
    """Return a section's table under names that are unique in the cohort, with its counts in ``X``."""
    table, counts = section.table, sparse.csr_matrix(section.table.layers[keys.COUNTS])
    obs = table.obs.copy()
    obs[SECTION_KEY], obs[SPOT_KEY], obs[DONOR] = section.id, table.obs_names.to_numpy(dtype=object), section.donor
    obs.index = pd.Index([f"{section.id}:{spot}" for spot in table.obs_names])
    layers = {k: v for k, v in table.layers.items() if k != keys.COUNTS}
    return AnnData(counts, obs=obs, var=table.var.copy(), layers=layers, obsm=dict(table.obsm))


def _to_dask(image: ImageSource) -> "Array":
    """Return an image as a lazy array of shape ``(3, h, w)``: one image is decoded at a time, a slide tile by tile."""
    import dask.array as da  # noqa: PLC0415 - comes with spatialdata

    def read_tile(block_info: dict[Any, Any]) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[None]["array-location"][1:]
        if isinstance(image, ArrayImage | LazyImage | PlainImage):
            return image.pixels[y0:y1, x0:x1].transpose(2, 0, 1)
        x_um, y_um, w_um, h_um = (float(to_um(px, image.mpp)) for px in (x0, y0, x1 - x0, y1 - y0))
        return image.read(x_um, y_um, (w_um, h_um), image.mpp).transpose(2, 0, 1)

    width, height = (round(float(to_px(um, image.mpp))) for um in image.size_um)
    sides = [tuple(min(TILE_PX, n - i) for i in range(0, n, TILE_PX)) for n in (height, width)]
    empty = np.empty((0, 0, 0), dtype=np.uint8)
    return da.map_blocks(read_tile, dtype=np.uint8, chunks=((3,), *sides), meta=empty)  # type: ignore[no-untyped-call]
