"""Bags in the zarr stores of wsidata and LazySlide: a table of features over tiles that are shapes of the slide.

A store is SpatialData: ``tables/<features>`` says in ``uns["spatialdata_attrs"]`` which shapes its rows are of, and
``shapes/<tiles>`` holds them as squares in pixels of level 0.
"""

from pathlib import Path
from typing import Any

import numpy as np

from hescribe._support import import_extra
from hescribe.data.untrusted import check_claim, named_damage
from hescribe.errors import FormatError, InputError
from hescribe.slide.bags import Places

TILE_ID = "tile_id"


def read_store(path: Path) -> np.ndarray:
    """Return the features of the one table over tiles of a store, shape ``(n_tiles, n_dims)``.

    Raises
    ------
    FormatError
        If it holds none.
    InputError
        If it holds several, or one that is sparse: counts, not features.
    """
    name, table = _find_table(path)
    if not hasattr(table["X"], "shape"):
        raise InputError(f"{path}: table {name} is sparse: counts, not features; embed the slide first")
    stored = sum(f.stat().st_size for f in (path / "tables" / name / "X").rglob("*") if f.is_file())
    check_claim(table["X"].nbytes, stored, path)
    return np.asarray(table["X"][:])


def read_store_places(path: Path) -> Places | None:
    """Return the centres of the tiles, in the order of the features; None where their shapes are not in the store."""
    from anndata.io import read_elem  # noqa: PLC0415 - imports anndata's zarr half

    _, table = _find_table(path)
    facts: dict[str, Any] = read_elem(table["uns/spatialdata_attrs"])
    region = str(np.atleast_1d(facts["region"])[0])
    file = path / "shapes" / region / "shapes.parquet"
    if not file.is_file():
        return None
    tiles = import_extra("geopandas", "spatial", "reading tiles of a store").read_parquet(file)
    order = tiles.set_index(TILE_ID).index if TILE_ID in tiles else tiles.index
    rows = order.get_indexer(read_elem(table["obs"])[str(facts["instance_key"])])
    if (rows < 0).any():
        raise FormatError(f"{path}: shapes {region} lack {int((rows < 0).sum())} tiles that have features")
    bounds = tiles.geometry.bounds.to_numpy(dtype=np.float64)[rows]  # x0, y0, x1, y1
    return Places((bounds[:, :2] + bounds[:, 2:]) / 2, float(np.median(bounds[:, 2] - bounds[:, 0])), "px")


def _find_table(path: Path) -> tuple[str, Any]:
    import zarr  # noqa: PLC0415 - comes with anndata

    with named_damage(path, "is no zarr store that can be read"):
        store = zarr.open_group(path, mode="r", use_consolidated=False)
    tables: dict[str, Any] = dict(store["tables"].groups()) if "tables" in store else {}  # type: ignore[union-attr]
    over_tiles = {k: t for k, t in tables.items() if "uns/spatialdata_attrs" in t}
    if not over_tiles:
        raise FormatError(f"{path} holds no table of features over tiles; embed the slide first")
    if len(over_tiles) > 1:
        raise InputError(
            f"{path} holds {len(over_tiles)} tables ({', '.join(sorted(over_tiles))}); keep the one to read"
        )
    name, table = next(iter(over_tiles.items()))
    _check_plain(path / "tables" / name)
    return name, table


def _check_plain(folder: Path) -> None:
    """Raise ``FormatError`` if an array is stored in a way that runs code when it is read."""
    for facts in (*folder.rglob("zarr.json"), *folder.rglob(".zarray")):
        if '"pickle"' in facts.read_text(encoding="utf-8", errors="replace"):
            raise FormatError(
                f"{facts} stores an array as pickle, which runs code when it is read; embed the slide again"
            )
