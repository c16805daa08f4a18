"""Visium: the ``outs`` folder of Space Ranger, old and new.

Genes are named by symbol, as in the rest of the package. Where a table uses one symbol for several
genes, each of them is named ``SYMBOL_ID``, so that the names do not depend on the order of the table.
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pandas as pd
from scipy import io, sparse

from hescribe.data.readers.base import RawSection, match_spots
from hescribe.errors import DataAccessError, FormatError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

MATRIX_FILE, MATRIX_FOLDER = "filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix"
EXPRESSION = "Gene Expression"
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
        folders = [source, source / "outs"]
        if source.is_dir():
            folders += sorted(p for child in source.iterdir() for p in (child, child / "outs"))
        found = [f for f in folders if (f / MATRIX_FILE).is_file() or (f / MATRIX_FOLDER).is_dir()]
        if not found:
            raise DataAccessError(f"{source} holds neither {MATRIX_FILE} nor {MATRIX_FOLDER}/: it is no outs folder")
        return [_read_outs(folder) for folder in track(found, "reading sections")]


def _read_outs(folder: Path) -> RawSection:
    h5 = folder / MATRIX_FILE
    where = h5 if h5.is_file() else folder / MATRIX_FOLDER
    counts, barcodes, features = _read_h5(h5) if h5.is_file() else _read_mtx(where)
    keep = (features["type"] == EXPRESSION).to_numpy()
    if not keep.any():
        raise SchemaError(str(where), [f"no feature is of the type {EXPRESSION!r}"])
    features = features[keep]
    positions = _read_positions(folder / "spatial")
    listed = positions.index[positions[IN_TISSUE] == 1]
    both = match_spots(barcodes, listed, where)
    spots = [b for b in barcodes if b in both]
    place = positions.loc[spots]
    image, scale = _find_image(folder / "spatial")
    shared = features["name"].duplicated(keep=False)
    names = features["name"].where(~shared, features["name"] + "_" + features["id"])
    notes = (f"{shared.sum()} genes share their symbol and are named SYMBOL_ID",) if shared.any() else ()
    return RawSection(
        id=folder.resolve().parent.name if folder.name == "outs" else folder.resolve().name,
        where=where,
        counts=counts[np.flatnonzero(np.isin(barcodes, spots))][:, np.flatnonzero(keep)],
        genes=tuple(names),
        gene_ids=tuple(features["id"]),
        spots=tuple(spots),
        xy_px=place[[X_PX, Y_PX]].to_numpy(dtype=np.float64),
        array_xy=place[[COL, ROW]].to_numpy(dtype=np.int64),
        technology="visium",
        image=image,
        coordinate_scale=scale,
        dropped_spots=tuple([b for b in barcodes if b not in both] + [b for b in listed if b not in both]),
        notes=notes,
    )


def _read_h5(path: Path) -> tuple[sparse.csr_matrix, list[str], pd.DataFrame]:
    try:
        with h5py.File(path) as file:
            matrix = file["matrix"]
            n_genes, n_spots = (int(n) for n in matrix["shape"][:])
            parts = tuple(matrix[k][:] for k in ("data", "indices", "indptr"))
            barcodes = _text(matrix["barcodes"])
            features = pd.DataFrame(
                {k: _text(matrix["features"][v]) for k, v in (("id", "id"), ("name", "name"), ("type", "feature_type"))}
            )
        # Genes by spots in compressed columns is spots by genes in compressed rows.
        counts = sparse.csr_matrix(parts, shape=(n_spots, n_genes))
        counts.check_format(full_check=True)
    except (OSError, KeyError, ValueError) as error:
        raise FormatError(f"{path} is damaged or no matrix of Space Ranger 1.0 or later: {error}") from error
    return _check_sizes(counts, barcodes, features, path)


def _read_mtx(folder: Path) -> tuple[sparse.csr_matrix, list[str], pd.DataFrame]:
    matrix = _find(folder, "matrix.mtx")
    try:
        counts = sparse.csr_matrix(io.mmread(matrix).T)
    except (OSError, EOFError, ValueError, zlib.error, OverflowError) as error:
        raise FormatError(f"{matrix} is damaged or truncated: {error}") from error
    barcodes = [row[0] for row in _read_lines(_find(folder, "barcodes.tsv"))]
    table = _find(folder, "features.tsv", "genes.tsv")  # genes.tsv has no third column: all are genes
    rows = [(*row, EXPRESSION)[:3] for row in _read_lines(table)]
    if any(len(row) < 3 for row in rows):
        raise FormatError(f"{table} must have an id and a name on each line")
    return _check_sizes(counts, barcodes, pd.DataFrame(rows, columns=["id", "name", "type"]), matrix)


def _check_sizes(
    counts: sparse.csr_matrix, barcodes: list[str], features: pd.DataFrame, where: Path
) -> tuple[sparse.csr_matrix, list[str], pd.DataFrame]:
    if counts.shape != (len(barcodes), len(features)):
        raise FormatError(
            f"{where} holds {counts.shape[1]} genes x {counts.shape[0]} spots, and its lists name {len(features)} x "
            f"{len(barcodes)}: the files do not belong together or one is truncated"
        )
    return counts, barcodes, features


def _read_positions(folder: Path) -> pd.DataFrame:
    """Return the places of all spots by barcode."""
    new, old = folder / "tissue_positions.csv", folder / "tissue_positions_list.csv"
    path = new if new.is_file() else old
    if not path.is_file():
        raise DataAccessError(f"{folder} holds neither {new.name} nor {old.name}")
    try:
        with path.open() as file:
            has_head = file.readline().startswith(BARCODE)
        table = pd.read_csv(path, header=0 if has_head else None, names=None if has_head else list(POSITIONS))
        table = table.set_index(BARCODE)[list(POSITIONS[1:])].apply(pd.to_numeric)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path} is no table of spot positions: {error}") from error
    problems = []
    if table.index.has_duplicates:
        problems.append(f"spot {table.index[table.index.duplicated()][0]} is listed twice")
    if len(empty := table.index[table.isna().any(axis=1)]):
        problems.append(f"the line of spot {empty[0]} lacks a number; the file may be truncated")
    if problems:
        raise SchemaError(str(path), problems)
    return table


def _find_image(folder: Path) -> tuple[Path | None, float]:
    """Return the reduced image and its pixels per pixel of the full one, None and 1 if there is none."""
    image, factors = folder / "tissue_hires_image.png", folder / "scalefactors_json.json"
    if not image.is_file():
        return None, 1.0
    try:
        scale = float(json.loads(factors.read_text())["tissue_hires_scalef"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{factors} does not say how {image.name} was reduced (tissue_hires_scalef)") from error
    return image, scale


def _find(folder: Path, *names: str) -> Path:
    for path in (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")):
        if path.is_file():
            return path
    raise DataAccessError(f"{folder} has no {' or '.join(names)}, gzipped or not")


def _read_lines(path: Path) -> list[tuple[str, ...]]:
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(f"{path} is damaged or truncated: {error}") from error
    return [tuple(line.split("\t")) for line in text.decode("utf-8", "replace").splitlines()]


def _text(values: h5py.Dataset) -> list[str]:
    return [v.decode("utf-8", "replace") for v in values[:]]
