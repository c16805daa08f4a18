"""Moran's I of every gene of a section, in one pass over the table.

Moran, Notes on continuous stochastic phenomena, Biometrika 1950, doi:10.1093/biomet/37.1-2.17.
"""

import numpy as np
from scipy import sparse

from hescribe.compiled import compiled
from hescribe.errors import InputError

FLAT = 1e-12  # variance below this share of the squared mean is rounding


def morans_i(values: np.ndarray | sparse.csr_matrix, graph: sparse.csr_matrix) -> np.ndarray:
    """Return Moran's I of every gene, shape ``(n_genes,)``; NaN where it is undefined.

    It is undefined for a gene that is constant, and for all genes if no two spots are neighbours.

    Parameters
    ----------
    values
        Shape ``(n_spots, n_genes)``, of any unit.
    graph
        Spatial weights, shape ``(n_spots, n_spots)``; they need not be symmetric.

    Raises
    ------
    InputError
        If the graph is of other spots than the values.

    Notes
    -----
    I = n / sum(w) * sum_ij w_ij (x_i - m)(x_j - m) / sum_i (x_i - m)^2. A sparse table is walked
    row by row as it is stored, and the centred product is expanded:
    sum_ij w_ij (x_i - m)(x_j - m) = x'Wx - m x'(W1 + W'1) + m^2 sum(W).

    Examples
    --------
    >>> chain = sparse.csr_matrix(np.eye(4, k=1) + np.eye(4, k=-1))
    >>> morans_i(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), chain).round(2)
    array([ 0.33, -1.  ])
    """
    graph = sparse.csr_matrix(graph, dtype=np.float64)
    n_spots = values.shape[0]
    if graph.shape != (n_spots, n_spots):
        raise InputError(f"the graph joins {graph.shape[0]} spots and the values have {n_spots} rows")
    total = float(graph.sum())
    if sparse.issparse(values):
        x = sparse.csr_matrix(values)
        if not x.has_canonical_format:  # a value stored in parts would count as several
            x = x.copy()
            x.sum_duplicates()
        mean, square = _sparse_moments(x.data, x.indices, *x.shape)
        degree = np.asarray(graph.sum(axis=0)).ravel() + np.asarray(graph.sum(axis=1)).ravel()
        cross, by_degree = _sparse_products(
            x.data, x.indices, x.indptr, graph.data, graph.indices, graph.indptr, degree, x.shape[1]
        )
        product = cross - mean * by_degree + mean**2 * total
    else:
        x = np.ascontiguousarray(values)
        mean = x.mean(axis=0, dtype=np.float64)
        product, square = _dense_products(x, mean, graph.data, graph.indices, graph.indptr)
    undefined = (square <= FLAT * n_spots * mean**2) | (total == 0)
    return np.where(undefined, np.nan, n_spots / (total or 1.0) * product / np.where(undefined, 1.0, square))


@compiled
def _sparse_moments(data: np.ndarray, indices: np.ndarray, n_spots: int, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's mean and its sum of squared differences from it."""
    mean, square, n_stored = np.zeros(n_genes), np.zeros(n_genes), np.zeros(n_genes)
    for k in range(len(data)):
        mean[indices[k]] += data[k]
        n_stored[indices[k]] += 1
    mean /= n_spots
    for k in range(len(data)):
        square[indices[k]] += (data[k] - mean[indices[k]]) ** 2
    return mean, square + (n_spots - n_stored) * mean**2


@compiled
def _sparse_products(  # noqa: PLR0917 - a compiled loop takes arrays, in order
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    weights: np.ndarray,
    neighbours: np.ndarray,
    starts: np.ndarray,
    degree: np.ndarray,
    n_genes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return x'Wx and x'degree of every column."""
    cross, by_degree, around = np.zeros(n_genes), np.zeros(n_genes), np.zeros(n_genes)
    for i in range(len(indptr) - 1):
        around[:] = 0.0
        for e in range(starts[i], starts[i + 1]):
            for k in range(indptr[neighbours[e]], indptr[neighbours[e] + 1]):
                around[indices[k]] += weights[e] * data[k]
        for k in range(indptr[i], indptr[i + 1]):
            cross[indices[k]] += data[k] * around[indices[k]]
            by_degree[indices[k]] += data[k] * degree[i]
    return cross, by_degree


@compiled
def _dense_products(
    x: np.ndarray, mean: np.ndarray, weights: np.ndarray, neighbours: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return z'Wz and z'z of every column, where z = x - mean."""
    n_spots, n_genes = x.shape
    product, square = np.zeros(n_genes), np.zeros(n_genes)
    around = np.empty(n_genes)
    for i in range(n_spots):
        around[:] = 0.0
        for e in range(starts[i], starts[i + 1]):
            for g in range(n_genes):
                around[g] += weights[e] * (x[neighbours[e], g] - mean[g])
        for g in range(n_genes):
            z = x[i, g] - mean[g]
            product[g] += z * around[g]
            square[g] += z * z
    return product, square
