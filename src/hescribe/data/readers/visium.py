"""Visium: the ``outs`` folder of Space Ranger, old and new.

Genes are named by symbol, as in the rest of the package; see ``name_genes`` for symbols used twice.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from hescribe.data.readers.base import RawSection, find_samples, match_spots, name_sample
from hescribe.data.readers.tenx_matrix import FILTERED, has_matrix, name_genes, read_matrix
from hescribe.data.untrusted import parse_json
from hescribe.errors import DataAccessError, FormatError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

BARCODE, IN_TISSUE, ROW, COL, Y_PX, X_PX = POSITIONS = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)


@dataclass(kw_only=True)
class VisiumReader(Params):
    """Reads one ``outs`` folder, or every one in a folder of samples.

    The image is ``tissue_hires_image.png``; name the full one in an import manifest where it is at hand.
    """

    name: ClassVar[str] = "visium"
    summary: ClassVar[str] = "Visium: outs folders of Space Ranger, h5 or mtx"

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder, in the order of their names."""
        found = find_samples(source, has_matrix)
        if not found:
            raise DataAccessError(f"{source} holds neither {FILTERED}.h5 nor {FILTERED}/: it is no outs folder")
        return [_read_outs(folder) for folder in track(found, "reading sections")]


def _read_outs(folder: Path) -> RawSection:
    matrix = read_matrix(folder).genes_only()
    positions = _read_positions(folder / "spatial")
    listed = positions.index[positions[IN_TISSUE] == 1]
    both = match_spots(matrix.barcodes, listed, matrix.where)
    spots = [b for b in matrix.barcodes if b in both]
    place = positions.loc[spots]
    image, scale = find_reduced_image(folder / "spatial")
    genes, notes = name_genes(matrix.features)
    return RawSection(
        id=name_sample(folder),
        where=matrix.where,
        counts=matrix.counts[np.flatnonzero(np.isin(matrix.barcodes, spots))],
        genes=genes,
        gene_ids=tuple(matrix.features["id"]),
        spots=tuple(spots),
        xy_px=place[[X_PX, Y_PX]].to_numpy(dtype=np.float64),
        array_xy=place[[COL, ROW]].to_numpy(dtype=np.int64),
        technology="visium",
        image=image,
        coordinate_scale=scale,
        dropped_spots=tuple([b for b in matrix.barcodes if b not in both] + [b for b in listed if b not in both]),
        notes=notes,
    )


def _read_positions(folder: Path) -> pd.DataFrame:
    """Return the places of all spots by barcode."""
    new, old = folder / "tissue_positions.csv", folder / "tissue_positions_list.csv"
    path = new if new.is_file() else old
    if not path.is_file():
        raise DataAccessError(f"{folder} holds neither {new.name} nor {old.name}")
    try:
        with path.open() as file:
            has_head = file.readline().startswith(BARCODE)
        names = None if has_head else list(POSITIONS)
        table = pd.read_csv(path, header=0 if has_head else None, names=names, dtype={BARCODE: str})
        table = table.set_index(BARCODE)[list(POSITIONS[1:])].apply(pd.to_numeric)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path} is no table of spot positions: {error}") from error
    problems = []
    if table.index.hasnans:
        problems.append(f"line {np.flatnonzero(table.index.isna())[0] + 1 + has_head} names no spot")
    elif table.index.has_duplicates:
        problems.append(f"spot {table.index[table.index.duplicated()][0]} is listed twice")
    if len(empty := table.index[table.isna().any(axis=1)]):
        problems.append(f"the line of spot {empty[0]} lacks a number; the file may be truncated")
    if problems:
        raise SchemaError(str(path), problems)
    return table


def find_reduced_image(folder: Path) -> tuple[Path | None, float]:
    """Return the reduced image and its pixels per pixel of the full one, None and 1 if there is none.

    Raises
    ------
    FormatError
        If the scale of an image that is there is not stated.
    """
    image, factors = folder / "tissue_hires_image.png", folder / "scalefactors_json.json"
    if not image.is_file():
        return None, 1.0
    try:
        scale = float(parse_json(factors.read_bytes(), factors)["tissue_hires_scalef"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{factors} does not say how {image.name} was reduced (tissue_hires_scalef)") from error
    if not 0 < scale < float("inf"):
        raise FormatError(f"{factors} says that {image.name} was reduced by {scale}, which is no scale")
    return image, scale
