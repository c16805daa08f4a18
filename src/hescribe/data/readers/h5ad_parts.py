"""The parts of an h5ad file that an import needs; the others stay on disk, however large.

SpaRED keeps every patch in ``obsm`` (150 kB a spot, 6.6 GB in one file): reading whole files would
need that memory.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem
from scipy import sparse

from hescribe import keys
from hescribe.data.untrusted import check_sparse, open_h5
from hescribe.errors import SchemaError

LIBRARY_PARTS = ("scalefactors", "metadata")
Place = tuple[str, Callable[[], Any], Callable[[], pd.DataFrame]]  # name, matrix or None, its genes


@dataclass(frozen=True)
class TableParts:
    """Counts and places of a table.

    Parameters
    ----------
    obs
        One line a spot.
    var
        One line a gene of ``counts``.
    counts
        Shape ``(n_spots, n_genes)``: the first matrix of whole numbers.
    xy_px
        ``obsm["spatial"]``, shape ``(n_spots, 2)``; None if there is none.
    scalefactors, metadata
        ``uns["spatial"][library]["scalefactors"]`` and ``["metadata"]`` by library.
    obsm
        Names of all there is in ``obsm``.
    """

    obs: pd.DataFrame
    var: pd.DataFrame
    counts: sparse.csr_matrix
    xy_px: np.ndarray | None
    scalefactors: dict[str, dict[str, float]]
    metadata: dict[str, dict[str, Any]]
    obsm: tuple[str, ...]


def read_parts(path: Path) -> TableParts:
    """Read counts, names, places and scales of an h5ad file.

    Counts are ``layers["counts"]``, else ``X``, else ``raw.X``: the first that holds whole numbers only.

    Raises
    ------
    FormatError
        If it is damaged or no h5ad file.
    SchemaError
        If no matrix holds counts, or it has no spots.
    """
    with open_h5(path, "is damaged or no h5ad file") as file:
        is_new = "encoding-type" in file.attrs
        parts = _from_file(file, path) if is_new else _from_table(_read_whole(path), path)
        _check_sizes(parts, path)
    if not len(parts.obs):
        raise SchemaError(str(path), ["it has no spots"])
    return parts


def _check_sizes(parts: TableParts, path: Path) -> None:
    """Refuse parts that are of another number of spots or genes than their names, and names that are no texts."""
    for column in parts.obs.select_dtypes("category"):
        if any(np.ndim(value) for value in parts.obs[column].cat.categories):
            raise SchemaError(str(path), [f"column {column!r} of obs holds lists; each spot must have one value"])
    n_spots, n_genes = len(parts.obs), len(parts.var)
    if parts.counts.shape != (n_spots, n_genes):
        problem = f"its counts are of {parts.counts.shape}, and it names {n_spots} spots and {n_genes} genes"
        raise SchemaError(str(path), [problem])
    if parts.xy_px is not None and parts.xy_px.shape != (n_spots, 2):
        problem = f"obsm[{keys.SPATIAL!r}] is of {parts.xy_px.shape}; it must hold x and y of {n_spots} spots"
        raise SchemaError(str(path), [problem])


def _from_file(file: h5py.File, path: Path) -> TableParts:
    counts, var = _first_counts(_places_of_file(file), path)
    obsm, libraries = file.get("obsm", {}), file.get(f"uns/{keys.SPATIAL}", {})
    factors, metadata = (
        {name: read_elem(lib[part]) for name, lib in libraries.items() if part in lib} for part in LIBRARY_PARTS
    )
    xy_px = np.asarray(read_elem(obsm[keys.SPATIAL])) if keys.SPATIAL in obsm else None
    return TableParts(read_elem(file["obs"]), var, counts, xy_px, _to_numbers(factors), metadata, tuple(obsm))


def _places_of_file(file: h5py.File) -> Iterator[Place]:
    for name, matrix, var in (
        (f"layers[{keys.COUNTS!r}]", f"layers/{keys.COUNTS}", "var"),
        ("X", "X", "var"),
        ("raw.X", "raw/X", "raw/var"),
    ):
        if matrix in file:
            yield name, partial(read_elem, file[matrix]), partial(read_elem, file[var])


def _read_whole(path: Path) -> AnnData:
    """Return a table of anndata before 0.8, whose parts do not say what they are; such files are small."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique")  # the import says which
        return anndata.read_h5ad(path)


def _from_table(table: AnnData, path: Path) -> TableParts:
    counts, var = find_counts(table, path)
    libraries = table.uns.get(keys.SPATIAL, {})
    factors, metadata = ({k: v.get(part, {}) for k, v in libraries.items()} for part in LIBRARY_PARTS)
    xy_px = np.asarray(table.obsm[keys.SPATIAL]) if keys.SPATIAL in table.obsm else None
    return TableParts(table.obs, var, counts, xy_px, _to_numbers(factors), metadata, tuple(table.obsm))


def find_counts(table: AnnData, path: Path) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Return the counts of a table in memory and the genes they are over, found as in ``read_parts``.

    Raises
    ------
    SchemaError
        If no matrix holds whole numbers only.
    """
    raw = table.raw
    places: list[Place] = [
        (f"layers[{keys.COUNTS!r}]", lambda: table.layers.get(keys.COUNTS), lambda: table.var),
        ("X", lambda: table.X, lambda: table.var),
        ("raw.X", lambda: None if raw is None else raw.X, lambda: raw.var),
    ]
    return _first_counts(iter(places), path)


def _first_counts(places: Iterator[Place], path: Path) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Return the first matrix of whole numbers, and the genes it is over."""
    seen: list[str] = []
    for name, read_matrix, read_var in places:
        values = read_matrix()
        if values is None:
            continue
        if sparse.issparse(values):
            check_sparse(values)
        counts = sparse.csr_matrix(values)
        if len(wrong := counts.data[~(counts.data % 1 == 0)]):
            seen.append(f"{name} holds {wrong[0]:.4g}, which is no count")
        else:
            return counts, read_var()
    problem = f"it has no raw counts: {'; '.join(seen) or 'it has no matrix'}; export the counts before normalisation"
    raise SchemaError(str(path), [problem])


def _to_numbers(factors: dict[str, dict[str, object]]) -> dict[str, dict[str, float]]:
    return {
        name: {k: float(v) for k, v in given.items() if isinstance(v, int | float | np.number)}
        for name, given in factors.items()
    }
