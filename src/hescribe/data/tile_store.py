"""Features or predictions of a slide's tiles, in the forms that other tools read: wsidata's stores, TRIDENT's h5.

A table is what ``hescribe embed --out`` and ``hescribe predict`` write. wsidata (and LazySlide on it) opens a store
beside its slide: ``open_wsi("slide.svs", store="slide.zarr")``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from hescribe import keys
from hescribe._support import import_extra, on_disk, write_whole, write_whole_folder
from hescribe.data.h5ad import read_h5ad
from hescribe.data.spatialdata_store import load_spatialdata
from hescribe.errors import DataAccessError, FormatError, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

TILES, LIBRARY, TILE_ID = "tiles", "library_id", "tile_id"  # wsidata's names
FEATURES, PREDICTED = "features_tiles", "predicted_tiles"


def convert_tiles(source: Path, to: str, out: Path) -> list[Path]:
    """Write every table of a folder as a store or an h5 of its own, and return where.

    Parameters
    ----------
    source
        Folder of h5ad files, one a slide, or one such file.
    to
        ``"wsidata"`` or ``"trident"``.
    out
        New folder.

    Raises
    ------
    DataAccessError
        If there is no table, or ``out`` exists or cannot be written.
    FormatError
        If a file is damaged, or says neither where its tiles lie nor what is in them.
    MissingDependencyError
        If a store is asked for and spatialdata is not installed.
    """
    files = sorted(source.glob("*.h5ad")) if source.is_dir() else [source]
    if not files:
        raise DataAccessError(
            f"{source} holds no table of tiles (*.h5ad); write one with hescribe embed SLIDE --out DIR"
        )
    if out.exists():
        raise InputError(f"{out} exists; give a new folder")
    suffix, write = (".zarr", write_wsidata) if to == "wsidata" else (".h5", write_trident)
    with write_whole_folder(out) as tmp:
        for file in files:
            write(read_tiles(file), tmp / f"{file.stem}{suffix}")
    return [out / f"{file.stem}{suffix}" for file in files]


def read_tiles(path: Path) -> AnnData:
    """Return a table of tiles whose ``X`` is dense: its features, or what was predicted.

    Raises
    ------
    FormatError
        If the file is damaged, holds neither, or does not say where the tiles lie.
    """
    table = read_h5ad(path, "is no readable h5ad")
    values = table.layers.get(keys.PREDICTED, table.X)
    if values is None or sparse.issparse(values):
        raise FormatError(f"{path} holds no features and no prediction; write it with hescribe embed or predict")
    for key in (keys.SPATIAL, keys.SPATIAL_UM):
        if key not in table.obsm or not np.isfinite(table.obsm[key]).all():
            raise FormatError(f"{path} does not say where each tile lies (obsm {key!r}); write it again")
    obs, var = pd.DataFrame(index=table.obs_names), pd.DataFrame(index=table.var_names)
    places = {k: np.asarray(table.obsm[k], dtype=np.float64) for k in (keys.SPATIAL, keys.SPATIAL_UM)}
    made_by = {key: table.uns[key] for key in (keys.MADE_BY, keys.SEEN) if key in table.uns}
    uns = {keys.PREDICTED: keys.PREDICTED in table.layers, **made_by}
    return AnnData(np.asarray(values, np.float32), obs, var, uns=uns, obsm=places)


def find_side_px(table: AnnData) -> float:
    """Return the side of a tile in pixels of level 0: the distance of neighbours, so that tiles do not overlap."""
    xy = table.obsm[keys.SPATIAL]
    return max(float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1])), 1.0) if len(xy) > 1 else 1.0


def find_mpp(table: AnnData) -> float:
    """Return the um per pixel of level 0, from the two places of the tile that lies farthest out."""
    farthest = np.unravel_index(np.argmax(table.obsm[keys.SPATIAL]), table.obsm[keys.SPATIAL].shape)
    return float(table.obsm[keys.SPATIAL_UM][farthest] / max(table.obsm[keys.SPATIAL][farthest], 1e-9))


def write_wsidata(table: AnnData, path: Path) -> None:
    """Write a table as a store of wsidata: squares ``tiles``, and the table over them.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    """
    with load_spatialdata(), on_disk(path):
        _to_store(table).write(path)


def _to_store(table: AnnData) -> "SpatialData":
    from spatialdata import SpatialData  # noqa: PLC0415 - an extra
    from spatialdata.models import ShapesModel, TableModel  # noqa: PLC0415

    shapely = import_extra("shapely", "spatial", "writing tiles of a store")
    geopandas = import_extra("geopandas", "spatial", "writing tiles of a store")
    side, ids = find_side_px(table), np.arange(table.n_obs)
    low, high = (table.obsm[keys.SPATIAL] + d for d in (-side / 2, side / 2))
    squares = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    tiles = geopandas.GeoDataFrame({TILE_ID: ids, "tissue_id": 0, "geometry": squares})
    name = PREDICTED if table.uns[keys.PREDICTED] else FEATURES
    obs = pd.DataFrame({TILE_ID: ids, LIBRARY: pd.Categorical([TILES] * len(ids))}, index=table.obs_names)
    over = AnnData(table.X, obs, table.var)
    parsed = TableModel.parse(over, region=TILES, region_key=LIBRARY, instance_key=TILE_ID)
    return SpatialData(
        shapes={TILES: ShapesModel.parse(tiles)},
        tables={name: parsed},
        attrs={"tile_spec": {TILES: _spec(table, side)}},
    )


def _spec(table: AnnData, side: float) -> dict[str, Any]:
    """Return how the tiles were cut, in wsidata's words: from level 0, without overlap."""
    px = round(side)
    return {
        "height": px, "width": px, "stride_height": px, "stride_width": px, "mpp": find_mpp(table), "ops_level": 0,
        "ops_downsample": 1.0, "base_level": 0, "base_downsample": 1.0, "tissue_name": None,
    }  # fmt: skip


def write_trident(table: AnnData, path: Path) -> None:
    """Write a table as TRIDENT writes features: ``features``, and the upper left corner of each tile as ``coords``.

    What made the features, and where their encoder has seen the tissue, stands in attributes of ours.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    """
    side = find_side_px(table)
    with write_whole(path) as tmp, h5py.File(tmp, "w") as file:
        file["features"] = np.asarray(table.X, dtype=np.float32)
        file["coords"] = np.round(table.obsm[keys.SPATIAL] - side / 2).astype(np.int64)
        file["coords"].attrs.update(patch_size=round(side), patch_size_level0=round(side), overlap=0, name=path.stem)
        if keys.MADE_BY in table.uns:
            file.attrs[keys.MADE_BY] = json.dumps(table.uns[keys.MADE_BY], default=_plain)
        if keys.SEEN in table.uns:
            file.attrs[keys.SEEN] = str(table.uns[keys.SEEN])


def _plain(value: Any) -> Any:
    """Return an array or a number of numpy, as tables read from disk hold them, as JSON knows it."""
    return value.tolist()
