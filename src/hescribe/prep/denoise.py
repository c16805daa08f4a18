"""Adaptive median filter: zeros of a section are filled from the spots around them.

Mejia et al., SpaRED, MICCAI 2024, and SEPAL, ICCVW 2023, after the adaptive median filter of image
processing. We differ: neighbours are the spots that touch, so that a spot at the border of the
tissue has fewer of them. SpaRED takes the six nearest of every hexagonal spot however far they
are, which reaches beyond gaps and makes its graph asymmetric at borders; away from borders both agree.
"""

import numpy as np
from scipy import sparse

from hescribe.compiled import compiled
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.prep.graph import spot_graph

N_HOPS = 4  # SpaRED's code; its documentation says 3


def adaptive_median(
    values: np.ndarray | sparse.csr_matrix, graph: sparse.csr_matrix, *, n_hops: int = N_HOPS
) -> np.ndarray:
    """Return the values with their zeros filled, shape ``(n_spots, n_genes)``.

    A zero takes the median of its gene over the spots that at most 1, then 2, ... ``n_hops`` steps
    reach, itself and all zeros included: the first median that is not 0. If all are 0, it takes the
    median of the gene's non-zero values in the section; if there are none it stays 0. Other values
    are not changed.

    Parameters
    ----------
    values
        Shape ``(n_spots, n_genes)``, 0 or more: one section's counts or log expression, not centred.
    graph
        Neighbours, shape ``(n_spots, n_spots)``; a row's non-zero columns are one step away.
    n_hops
        Steps of the widest window.

    Raises
    ------
    InputError
        If a value is negative or not finite, the graph is of other spots, or ``n_hops`` is below 1.

    Examples
    --------
    >>> chain = sparse.csr_matrix(np.eye(4, k=1) + np.eye(4, k=-1))
    >>> adaptive_median(np.array([[3.0], [0.0], [5.0], [0.0]]), chain).ravel()
    array([3. , 3. , 5. , 2.5])
    """
    if n_hops < 1:
        raise InputError(f"n_hops must be at least 1, got {n_hops}")
    n_spots = values.shape[0]
    if graph.shape != (n_spots, n_spots):
        raise InputError(f"the graph joins {graph.shape[0]} spots and the values have {n_spots} rows")
    dense = np.ascontiguousarray(sparse.csr_matrix(values).toarray() if sparse.issparse(values) else values)
    dense = dense if dense.dtype == np.float32 else dense.astype(np.float64)
    if not (np.isfinite(dense).all() and (dense >= 0).all()):
        raise InputError("the adaptive median filter fills zeros and needs finite values of at least 0, not centred")
    steps = sparse.csr_matrix(graph, copy=True)
    steps.eliminate_zeros()
    return _fill(dense, _section_medians(dense), steps.indices, steps.indptr, n_hops)


def fill_section(section: Section, source: str, target: str, *, n_hops: int = N_HOPS) -> Section:
    """Return the section with the layer ``source`` filled in as the layer ``target``.

    Windows reach over the spots that touch; spots that are no targets give and take values like the others.

    Raises
    ------
    InputError
        If the layer is absent, or as ``adaptive_median`` does.
    """
    if source not in section.table.layers:
        raise InputError(f"section {section.id} has no layer {source!r}; it has {', '.join(section.table.layers)}")
    table = section.table.copy()
    table.layers[target] = adaptive_median(table.layers[source], spot_graph(section), n_hops=n_hops)
    return section.with_table(table)


def _section_medians(x: np.ndarray) -> np.ndarray:
    """Return the median of each column's non-zero values, 0 where there are none."""
    out = np.zeros(x.shape[1], x.dtype)
    for g in range(x.shape[1]):
        positive = x[x[:, g] > 0, g]
        out[g] = np.median(positive) if len(positive) else 0
    return out


@compiled
def _fill(  # noqa: C901 - nested loops are what is compiled
    x: np.ndarray, fallback: np.ndarray, neighbours: np.ndarray, starts: np.ndarray, n_hops: int
) -> np.ndarray:
    """Fill zeros: as no value is negative, a median is not 0 as soon as half of a window is positive."""
    n_spots, n_genes = x.shape
    out = x.copy()
    window = np.empty(n_spots, np.int64)  # the spot, then those one step away, then two, ...
    seen = np.full(n_spots, -1, np.int64)
    n_positive, n_window = np.empty(n_genes, np.int64), np.empty(n_genes, np.int64)
    for i in range(n_spots):
        window[0], seen[i] = i, i
        begin, end = 0, 1
        n_positive[:], n_window[:] = 0, 0  # n_window 0: no median yet that is not 0
        for _ in range(n_hops):
            reached = end
            for a in range(begin, end):
                for e in range(starts[window[a]], starts[window[a] + 1]):
                    j = neighbours[e]
                    if seen[j] != i:
                        seen[j] = i
                        window[reached] = j
                        reached += 1
            begin, end = end, reached
            for a in range(begin, end):
                for g in range(n_genes):
                    n_positive[g] += x[window[a], g] > 0
            for g in range(n_genes):
                if n_window[g] == 0 and 2 * n_positive[g] >= end:
                    n_window[g] = end
        for g in range(n_genes):
            if x[i, g] == 0:
                out[i, g] = fallback[g] if n_window[g] == 0 else np.median(x[window[: n_window[g]], g])
    return out
