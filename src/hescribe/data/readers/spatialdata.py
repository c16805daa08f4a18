"""SpatialData: zarr stores with a table, shapes and an image for each region.

Names and coordinate systems: see ``data.spatialdata_store``.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import zarr

from hescribe import keys
from hescribe.data.facts import FACTS, read_facts
from hescribe.data.image import LazyImage
from hescribe.data.plain import MAX_PX
from hescribe.data.readers.base import RawSection
from hescribe.data.readers.h5ad import ID_COLUMNS, find_array_xy, find_depth, find_donor
from hescribe.data.readers.h5ad_parts import find_counts
from hescribe.data.spatialdata_store import SYSTEM_UM, load_spatialdata
from hescribe.errors import DataAccessError, FormatError, HescribeError, InputError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

XY = ("x", "y")
IMAGE_NAMES = ("{}_full_image", "{}_hires_image", "{}_lowres_image", "{}_he_image")


@dataclass(kw_only=True)
class SpatialDataReader(Params):
    """Reads one zarr store: a section for each region that the table annotates.

    Parameters
    ----------
    table
        Name of the table where there are several: Visium HD has one for each bin size, of the same tissue.
    image
        Name of the H&E image where it does not follow from the region's name.
    """

    name: ClassVar[str] = "spatialdata"
    summary: ClassVar[str] = "SpatialData zarr stores, with image and transformations (extra: spatial)"

    table: str = ""
    image: str = ""

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a store, in the order of their names."""
        with load_spatialdata() as spatialdata:
            try:
                return self._read_store(spatialdata.read_zarr(source), source)
            except (HescribeError, MemoryError):
                raise
            except Exception as error:  # zarr, anndata, pyarrow and dask raise what they like for a damaged store
                raise FormatError(f"{source} is damaged or no SpatialData store: {_first_line(error)}") from error

    def _read_store(self, store: "SpatialData", source: Path) -> list[RawSection]:
        name = self._choose_table(store, source)
        _check_whole(source / "tables" / name)
        table = store.tables[name]
        return [
            self._read_region(r, table, store, source) for r in track(_find_regions(table, source), "reading sections")
        ]

    def _choose_table(self, store: "SpatialData", source: Path) -> str:
        names = sorted(store.tables)
        if not names:
            raise SchemaError(str(source), ["it has no table: there are no counts"])
        if self.table not in names and (self.table or len(names) > 1):
            raise InputError(f"{source} has the tables {', '.join(names)}; name one with --set table={names[0]}")
        return self.table or names[0]

    def _read_region(self, region: str, table: "AnnData", store: "SpatialData", source: Path) -> RawSection:
        attrs = table.uns["spatialdata_attrs"]
        part = table[(table.obs[attrs["region_key"]].astype(str) == region).to_numpy()]
        shapes = store.shapes.get(region)
        if shapes is None:
            problem = f"region {region!r} is no shapes element; make shapes of labels with spatialdata.to_circles"
            raise SchemaError(str(source), [problem])
        spots = part.obs[attrs["instance_key"]]
        order = shapes.index.get_indexer(spots)
        if (order < 0).any():
            problem = f"spot {spots[order < 0].iloc[0]} of region {region!r} has no shape"
            raise SchemaError(str(source), [problem])
        centres = shapes.geometry.iloc[order].centroid
        image_name = self._choose_image(region, store, source)
        affine, mpp = _to_image(region, image_name, store, source)
        facts = read_facts(store.attrs.get(FACTS, {}).get(region), str(source))
        counts, var = find_counts(part, source)
        ids = next((c for c in ID_COLUMNS if c in var), None)
        has_labels = keys.REGION in part.obs and attrs["region_key"] != keys.REGION
        return RawSection(
            id=region,
            where=source,
            counts=counts,
            genes=tuple(var.index.astype(str)),
            gene_ids=tuple(var[ids].astype(str)) if ids else None,
            spots=tuple(spots.astype(str)),
            xy_px=np.column_stack([centres.x, centres.y]) @ affine[:2, :2].T + affine[:2, 2],
            array_xy=find_array_xy(part.obs, source),
            donor=find_donor(part.obs, region, source),
            mpp=mpp,
            image=_open_image(store.images[image_name], image_name, source) if image_name else None,
            depth=find_depth(part.obs, counts),
            regions=part.obs[keys.REGION].astype(str).to_numpy() if has_labels else None,
            **facts,
        )

    def _choose_image(self, region: str, store: "SpatialData", source: Path) -> str | None:
        """Return the name of a region's image, None if the store has none."""
        if self.image:
            if self.image not in store.images:
                raise InputError(f"{source} has no image {self.image!r}; it has {', '.join(store.images) or 'none'}")
            return self.image
        named = [name for pattern in IMAGE_NAMES if (name := pattern.format(region)) in store.images]
        if named or not store.images:
            return named[0] if named else None
        shared = [i for i in store.images if _share_system(store.images[i], store.shapes[region])]
        if len(shared) > 1:
            raise InputError(f"region {region!r} lies on {len(shared)} images; name one with --set image={shared[0]}")
        return shared[0] if shared else None


def _find_regions(table: "AnnData", source: Path) -> list[str]:
    attrs = table.uns.get("spatialdata_attrs")
    if not attrs:
        raise SchemaError(str(source), ["its table annotates no region: the spots have no places"])
    if not table.n_obs:
        raise SchemaError(str(source), ["its table has no spots"])
    return sorted(set(table.obs[attrs["region_key"]].astype(str)))


def _check_whole(table: Path) -> None:
    """Refuse a table that lacks files: zarr reads lost values as zeros, and anndata lost names as numbers."""
    missing = [part for part in ("obs", "var") if not (table / part).is_dir()]
    matrices = (table / "X", *table.glob("layers/*"))
    for part in (m / name for m in matrices for name in ("data", "indices", "indptr")):
        values = zarr.open(part, mode="r") if part.is_dir() else None  # a dense matrix has none of them
        if isinstance(values, zarr.Array) and values.nchunks_initialized < values.nchunks:
            missing.append(str(part.relative_to(table)))
    if missing:
        raise FormatError(f"{table} is damaged: {missing[0]} is not there as a whole")


def _systems(element: Any) -> dict[str, Any]:  # elements are of several libraries' types
    from spatialdata.transformations import get_transformation  # noqa: PLC0415 - an extra

    return get_transformation(element, get_all=True)


def _share_system(one: Any, other: Any) -> list[str]:
    return sorted(set(_systems(one)) & set(_systems(other)))


def _to_image(
    region: str, image: str | None, store: "SpatialData", source: Path
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the affine map from a region's shapes to pixels of its image, and the scale if the store states it.

    Without image the shapes' own coordinates are the pixels.
    """
    shapes = store.shapes[region]
    affine = np.eye(3)
    if image is not None:
        shared = _share_system(shapes, store.images[image])
        if not shared:
            problem = (
                f"region {region!r} and image {image!r} share no coordinate system: where the spots lie is not known"
            )
            raise SchemaError(str(source), [problem])
        system = region if region in shared else shared[0]
        from_image = _systems(store.images[image])[system].to_affine_matrix(XY, XY)
        affine = np.linalg.inv(from_image) @ _systems(shapes)[system].to_affine_matrix(XY, XY)
    um = _systems(store.images[image] if image else shapes).get(SYSTEM_UM.format(region))
    if um is None:
        return affine, {}
    scale = float(np.linalg.norm(um.to_affine_matrix(XY, XY)[:2, :2], axis=0).mean())
    return affine, {f"coordinate system {SYSTEM_UM.format(region)}": scale}


def _open_image(element: Any, name: str, source: Path) -> "partial[LazyImage]":
    """Return what makes the image once its scale is known; of a pyramid, the finest level."""
    from spatialdata import get_pyramid_levels  # noqa: PLC0415 - an extra
    from xarray import DataTree  # noqa: PLC0415 - comes with spatialdata

    array = get_pyramid_levels(element, n=0) if isinstance(element, DataTree) else element
    array = array.transpose("y", "x", "c")
    height, width, _ = array.shape
    channels = [str(c).lower() for c in array.coords["c"].to_numpy()]
    order = [channels.index(c) for c in "rgb"] if set("rgb") <= set(channels) else [0, 1, 2]
    is_colour = set("rgb") <= set(channels) or channels == ["0", "1", "2"]
    if not is_colour or array.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        problem = (
            f"image {name!r} has the channels {', '.join(channels)} of {array.dtype}; H&E has r, g, b of 8 or 16 bits"
        )
        raise SchemaError(str(source), [problem])
    if height * width > MAX_PX:
        raise DataAccessError(
            f"image {name!r} of {source} has over {MAX_PX} pixels; name the slide's own file in an import manifest"
        )
    return partial(LazyImage, partial(_load, array.isel(c=order)), (width, height), f"{source.resolve()} {name}")


def _load(array: Any) -> np.ndarray:
    pixels = np.asarray(array.data)
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
