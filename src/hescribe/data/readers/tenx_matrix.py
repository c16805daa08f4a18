"""The feature-barcode matrix of 10x software: one h5 file, or a folder of mtx and lists."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from hescribe.data.readers.matrix_market import read_matrix_market
from hescribe.data.untrusted import check_sparse, open_h5, read_packed
from hescribe.errors import DataAccessError, FormatError, SchemaError

FILTERED = "filtered_feature_bc_matrix"
EXPRESSION = "Gene Expression"


@dataclass(frozen=True)
class Matrix:
    """Counts with their names.

    Parameters
    ----------
    where
        File or folder, for messages.
    counts
        Shape ``(n_barcodes, n_features)``.
    barcodes
        Names of the rows.
    features
        Columns ``id``, ``name`` and ``type``, one line per column of ``counts``.
    """

    where: Path
    counts: sparse.csr_matrix
    barcodes: list[str]
    features: pd.DataFrame

    def genes_only(self) -> "Matrix":
        """Return the matrix without antibodies, control probes and the like.

        Raises
        ------
        SchemaError
            If nothing is left.
        """
        keep = (self.features["type"] == EXPRESSION).to_numpy()
        if not keep.any():
            raise SchemaError(str(self.where), [f"no feature is of the type {EXPRESSION!r}"])
        return replace(self, counts=self.counts[:, np.flatnonzero(keep)], features=self.features[keep])


def has_matrix(folder: Path) -> bool:
    """Return whether a folder holds a filtered matrix of either form."""
    return (folder / f"{FILTERED}.h5").is_file() or (folder / FILTERED).is_dir()


def read_matrix(folder: Path) -> Matrix:
    """Read the filtered matrix of a folder, the h5 file if both forms are there.

    Raises
    ------
    DataAccessError
        If a file is missing.
    FormatError
        If a file is damaged, or matrix and lists do not fit each other.
    """
    h5 = folder / f"{FILTERED}.h5"
    matrix = _read_h5(h5) if h5.is_file() else _read_mtx(folder / FILTERED)
    n_features, n_barcodes = len(matrix.features), len(matrix.barcodes)
    if matrix.counts.shape != (n_barcodes, n_features):
        raise FormatError(
            f"{matrix.where} holds {matrix.counts.shape[1]} genes x {matrix.counts.shape[0]} spots, and its lists name "
            f"{n_features} x {n_barcodes}: the files do not belong together or one is truncated"
        )
    return matrix


def read_features(path: Path) -> pd.DataFrame:
    """Read the ``id``, ``name`` and ``type`` of the features of an h5 file, without its counts.

    Raises
    ------
    FormatError
        If the file is damaged or no such matrix.
    """
    with open_h5(path, "is damaged or no feature-barcode matrix") as file:
        return _to_features(file["matrix"])


def name_genes(features: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the genes and what to say about them.

    A symbol that several genes use becomes ``SYMBOL_ID`` for each of them, so that the names do not
    depend on the order of the table.

    Examples
    --------
    >>> name_genes(pd.DataFrame({"id": ["E1", "E2", "E3"], "name": ["A", "TWIN", "TWIN"]}))
    (('A', 'TWIN_E2', 'TWIN_E3'), ('2 genes share their symbol and are named SYMBOL_ID',))
    """
    shared = features["name"].duplicated(keep=False)
    names = features["name"].where(~shared, features["name"] + "_" + features["id"])
    notes = (f"{shared.sum()} genes share their symbol and are named SYMBOL_ID",) if shared.any() else ()
    return tuple(names), notes


def _read_h5(path: Path) -> Matrix:
    with open_h5(path, "is damaged or no matrix of Space Ranger 1.0 or later") as file:
        matrix = file["matrix"]
        n_features, n_barcodes = (int(n) for n in matrix["shape"][:])
        parts = tuple(matrix[k][:] for k in ("data", "indices", "indptr"))
        if any(part.dtype.kind not in "iu" for part in parts):
            raise FormatError(f"{path} holds counts of the type {parts[0].dtype}; counts are whole numbers")
        barcodes, features = _text(matrix["barcodes"]), _to_features(matrix)
        # Genes by spots in compressed columns is spots by genes in compressed rows.
        counts = sparse.csr_matrix(parts, shape=(n_barcodes, n_features))
        check_sparse(counts)
    return Matrix(path, counts, barcodes, features)


def _to_features(matrix: h5py.Group) -> pd.DataFrame:
    columns = (("id", "id"), ("name", "name"), ("type", "feature_type"))
    return pd.DataFrame({k: _text(matrix["features"][v]) for k, v in columns})


def _read_mtx(folder: Path) -> Matrix:
    matrix = _find(folder, "matrix.mtx")
    barcodes = [row[0] for row in _read_lines(_find(folder, "barcodes.tsv"))]
    table = _find(folder, "features.tsv", "genes.tsv")  # genes.tsv has no third column: all are genes
    rows = [(*row, EXPRESSION)[:3] for row in _read_lines(table)]
    if any(len(row) < 3 for row in rows):
        raise FormatError(f"{table} must have an id and a name on each line")
    counts = sparse.csr_matrix(read_matrix_market(matrix, (len(rows), len(barcodes))).T)
    return Matrix(matrix, counts, barcodes, pd.DataFrame(rows, columns=["id", "name", "type"]))


def _find(folder: Path, *names: str) -> Path:
    for path in (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")):
        if path.is_file():
            return path
    raise DataAccessError(f"{folder} has no {' or '.join(names)}, gzipped or not")


def _read_lines(path: Path) -> list[tuple[str, ...]]:
    text = read_packed(path).decode("utf-8", "replace")
    return [tuple(line.split("\t")) for line in text.splitlines()]


def _text(values: h5py.Dataset) -> list[str]:
    return [v.decode("utf-8", "replace") for v in values[:]]
