"""A predicted section as a SpatialData store: the slide reduced, a circle for each spot, and a table.

Names are those of ``data.spatialdata_store``, so that other programs find measured and predicted sections alike. The
slide itself stays where it is: a picture of at most 4,096 px lies beside the spots.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from hescribe import keys
from hescribe._support import write_whole_folder
from hescribe.data.image import ImageSource
from hescribe.data.spatialdata_store import IMAGE, SECTION_KEY, SPOT_KEY, SYSTEM_UM, TABLE, load_spatialdata
from hescribe.errors import FormatError, InputError
from hescribe.units import patch_mpp, to_px

if TYPE_CHECKING:
    from spatialdata import SpatialData

PICTURE_PX = 4096  # longer side of the slide in the store


def write_predicted(table: AnnData, image: ImageSource, path: Path, *, section_id: str, diameter_um: float) -> None:
    """Write what was predicted for a section as a zarr store, whole or not at all.

    Parameters
    ----------
    table
        As ``predict`` writes it; ``X`` of the stored table is the prediction.
    image
        The slide.
    path
        Folder, usually named ``*.zarr``; replaced if it is a store.
    section_id
        Name of the region; what SpatialData allows in no name becomes an underscore.
    diameter_um
        Of a spot.

    Raises
    ------
    MissingDependencyError
        If spatialdata is not installed.
    InputError
        If ``path`` is something else than a store.
    DataAccessError
        If it cannot be written.
    """
    if path.exists() and not (path / "zarr.json").exists():
        raise InputError(f"{path} exists and is no SpatialData store; it is not overwritten")
    region = re.sub(r"[^\w.-]", "_", section_id)
    with load_spatialdata(), write_whole_folder(path) as tmp:
        store = tmp / "store"
        _to_store(table, image, region, diameter_um).write(store)
        for part in list(store.iterdir()):
            part.rename(tmp / part.name)
        store.rmdir()


def read_predicted_store(path: Path) -> AnnData:
    """Return the table of a store that ``write_predicted`` wrote, as ``predict`` writes it.

    Raises
    ------
    FormatError
        If it is no such store.
    """
    with load_spatialdata() as spatialdata:
        try:
            stored = spatialdata.read_zarr(path).tables[TABLE]
        except Exception as error:  # zarr, anndata and pyarrow have their own
            raise FormatError(f"{path} is no SpatialData store of a prediction: {error}") from error
    if keys.PREDICTED not in stored.layers:
        raise FormatError(f"{path} holds no predicted layer")
    obs = stored.obs.set_index(stored.obs[SPOT_KEY].astype(str)).drop(columns=[SECTION_KEY, SPOT_KEY])
    obs.index.name = None
    uns = {k: v for k, v in stored.uns.items() if k != "spatialdata_attrs"}
    return AnnData(obs=obs, var=stored.var, layers=dict(stored.layers), obsm=dict(stored.obsm), uns=uns)


def _to_store(table: AnnData, image: ImageSource, region: str, diameter_um: float) -> "SpatialData":
    from spatialdata import SpatialData  # noqa: PLC0415 - an extra
    from spatialdata.models import Image2DModel, ShapesModel, TableModel  # noqa: PLC0415
    from spatialdata.transformations import Identity, Scale  # noqa: PLC0415

    mpp = max(image.mpp, patch_mpp(max(image.size_um), PICTURE_PX))
    picture = image.read(0.0, 0.0, image.size_um, mpp)
    in_um = SYSTEM_UM.format(region)
    stored = table.copy()
    stored.X = np.asarray(table.layers[keys.PREDICTED])
    stored.obs[SECTION_KEY] = pd.Categorical([region] * table.n_obs)
    stored.obs[SPOT_KEY] = table.obs_names.to_numpy(dtype=object)
    scale = Scale([float(to_px(mpp, image.mpp))] * 2, axes=("x", "y"))
    um = {axes: Scale([factor] * 2, axes=("x", "y")) for axes, factor in (("image", mpp), ("spots", image.mpp))}
    return SpatialData(
        images={
            IMAGE.format(region): Image2DModel.parse(
                np.moveaxis(picture, -1, 0), dims=("c", "y", "x"), c_coords=["r", "g", "b"],
                transformations={region: scale, in_um: um["image"]},
            )
        },
        shapes={
            region: ShapesModel.parse(
                np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64), geometry=0,
                radius=float(to_px(diameter_um, image.mpp)) / 2,
                index=table.obs_names.copy(), transformations={region: Identity(), in_um: um["spots"]},
            )
        },
        tables={TABLE: TableModel.parse(stored, region=region, region_key=SECTION_KEY, instance_key=SPOT_KEY)},
    )  # fmt: skip
