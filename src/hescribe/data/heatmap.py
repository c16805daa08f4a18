"""A predicted section as OME-TIFF: one channel a gene, in micrometres from the slide's corner, for any slide viewer."""

from pathlib import Path

import numpy as np
import tifffile
from anndata import AnnData
from scipy.spatial import cKDTree

from hescribe import keys
from hescribe._support import write_whole
from hescribe.data.predicted import predicted_values

PER_SPACING = 4  # pixels between two neighbouring spots
MOST_PX = 4000  # along the longer side
REACH = 0.75  # of the spacing: how far from its nearest spot a pixel still shows it


def write_heatmap(table: AnnData, path: Path, genes: list[str], *, spacing_um: float) -> None:
    """Write predicted expression as a picture of float32 that knows its scale.

    Each pixel shows the nearest spot, and is NaN far from all of them.

    Parameters
    ----------
    table
        As ``predict`` writes it.
    path
        File to write, ``*.ome.tif``.
    genes
        Of the table; the channels.
    spacing_um
        Distance of neighbouring spots.

    Raises
    ------
    PanelError
        If the table lacks a gene.
    """
    values = predicted_values(table, genes)
    xy_um = np.asarray(table.obsm[keys.SPATIAL_UM], dtype=float)
    width_um, height_um = xy_um.max(axis=0) + spacing_um
    step = max(spacing_um / PER_SPACING, max(width_um, height_um) / MOST_PX)
    columns, rows = (np.arange(step / 2, side, step) for side in (width_um, height_um))
    places = np.stack(np.meshgrid(columns, rows), axis=-1)
    _, nearest = cKDTree(xy_um).query(places, distance_upper_bound=REACH * spacing_um)
    shown = np.vstack([values, np.full((1, len(genes)), np.nan, np.float32)])[nearest]  # beyond all: the last row
    metadata = {
        "axes": "CYX", "Channel": {"Name": genes}, "PhysicalSizeX": step, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": step, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    with write_whole(path) as tmp:
        tifffile.imwrite(
            tmp, np.moveaxis(shown, -1, 0), ome=True, metadata=metadata, photometric="minisblack", compression="zlib",
            resolution=(1e4 / step, 1e4 / step), resolutionunit="CENTIMETER",
        )  # fmt: skip
