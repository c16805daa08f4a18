"""The nearest rows of a bank: one search for kNN, retrieval predictors and retrieval scores."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hescribe.errors import InputError
from hescribe.nearest.exact import measure_exact, search_exact

Metric = Literal["cosine", "l2", "l1"]
METRICS = ("cosine", "l2", "l1")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k nearest rows of a bank to each query, best first.

    Parameters
    ----------
    rows
        Rows of the bank, shape ``(n_query, k)``, int64.
    distance
        Of each, same shape, float32: 1 - cosine, or the L2 or L1 distance.
    recall
        Share of the true neighbours that an approximate search found, measured on some of the queries; None of an
        exact one.
    """

    rows: np.ndarray
    distance: np.ndarray
    recall: float | None = None


def nearest(query: np.ndarray, bank: np.ndarray, k: int, *, metric: Metric = "cosine") -> Neighbours:
    """Return the k nearest rows of the bank to each query, best first, ties to the lower row.

    The search is exact, its order that of distances in float64, and it does not depend on what else is asked for:
    not on the other queries, nor on how the work is cut. Beside the data it needs some 200 MB,
    and torch for a large search on a processor with bfloat16 units.

    Parameters
    ----------
    query
        Shape ``(n_query, n_dims)``.
    bank
        Shape ``(n_bank, n_dims)``; a memory map is read piece by piece.
    k
        Number of neighbours.
    metric
        ``"cosine"`` (lengths do not matter), ``"l2"`` or ``"l1"``.

    Raises
    ------
    InputError
        If the bank is empty or smaller than k, the dimensions differ, a value is not finite, or a vector of zeros
        meets the cosine.

    Examples
    --------
    >>> bank = np.array([[0.0, 2.0], [3.0, 0.0], [4.0, 0.0]])
    >>> found = nearest(np.array([[1.0, 0.0]]), bank, 2)
    >>> found.rows, found.distance
    (array([[1, 2]]), array([[0., 0.]], dtype=float32))
    >>> nearest(np.array([[1.0, 0.0]]), bank, 2, metric="l1").distance
    array([[2., 3.]], dtype=float32)
    """
    query, bank = np.asanyarray(query), np.asanyarray(bank)
    check_search(query, bank, k, metric)
    rows, distance = search_exact(query, bank, k, metric)
    return Neighbours(rows, distance.astype(np.float32))


def measure(query: np.ndarray, bank: np.ndarray, rows: np.ndarray, *, metric: Metric = "cosine") -> np.ndarray:
    """Return the distance of each query to rows that were found otherwise, float32, shape ``(n_query, k)``.

    Parameters
    ----------
    query, bank, metric
        As for ``nearest``; finite.
    rows
        Of the bank, shape ``(n_query, k)``.

    Raises
    ------
    InputError
        If the shapes do not fit, or a row is not in the bank.

    Examples
    --------
    >>> measure(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[1, 0]]), metric="l2")
    array([[1., 5.]], dtype=float32)
    """
    query, bank = np.asanyarray(query), np.asanyarray(bank)
    check_search(query, bank, 1, metric)
    if rows.ndim != 2 or len(rows) != len(query):
        raise InputError(f"rows must have the shape ({len(query)}, k), got {rows.shape}")
    check_rows(rows, len(bank))
    return measure_exact(query, bank, rows, metric).astype(np.float32)


def check_rows(rows: np.ndarray, n_bank: int) -> None:
    """Raise ``InputError`` if a row is not in the bank."""
    if rows.size and not 0 <= rows.min() <= rows.max() < n_bank:
        raise InputError(f"rows {rows.min()} to {rows.max()} are not all in a bank of {n_bank}")


def check_search(query: np.ndarray, bank: np.ndarray, k: int, metric: str) -> None:
    """Raise ``InputError`` if a search makes no sense."""
    if metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    for name, values in (("query", query), ("bank", bank)):
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise InputError(
                f"the {name} must be real numbers of shape (n, n_dims), got {values.dtype} of shape {values.shape}"
            )
    if not len(bank):
        raise InputError(
            "the bank is empty: there is nothing to be near to; check which donors and spots it was built of"
        )
    if query.shape[1] != bank.shape[1] or not bank.shape[1]:
        raise InputError(f"the query has {query.shape[1]} dimensions and the bank {bank.shape[1]}; embed both alike")
    if not 1 <= k <= len(bank):
        raise InputError(f"k must be between 1 and the {len(bank)} rows of the bank, got {k}")
