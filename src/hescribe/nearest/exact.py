"""Exact search in bounded memory: a fast scan that is wrong by a known bound, and float64 where it matters.

A pair whose scanned score is within the scan's error of the k-th best is scored again in float64, in an order that
does not depend on the block or the tile. What is returned is therefore the order of the float64 distances, to the last
tie, whatever computed the scan.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np

from hescribe.nearest.scan import KINDS, Best, Scan, kernels
from hescribe.settings import n_workers

QUERIES, TILE = 4096, 4096  # a block of scores takes 64 MB
GATHERED = 2**23  # numbers of the bank copied at once: 64 MB in float64
WORTH_THREADS = 2**24  # pairs


def search_exact(query: np.ndarray, bank: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest rows of the bank and their distances, best first, ties to the lower row.

    Parameters
    ----------
    query, bank
        Shapes ``(n_query, n_dims)`` and ``(n_bank, n_dims)``; the bank may be a memory map.
    k
        Between 1 and ``n_bank``.
    metric
        ``"cosine"``, ``"l2"`` or ``"l1"``.

    Returns
    -------
    Rows and float64 distances, both of shape ``(n_query, k)``.

    Raises
    ------
    InputError
        If a value is not finite or too large, or a vector without direction meets the cosine.
    """
    scan = Scan.of(query, bank, metric)
    dtype = np.float32 if query.dtype == bank.dtype == np.float32 else np.float64
    rows, affinity = np.empty((len(query), k), dtype=np.int64), np.empty((len(query), k))
    n_threads = n_workers() if len(query) * len(bank) >= WORTH_THREADS else 1
    with ThreadPoolExecutor(n_threads) as pool:
        for first in range(0, len(query), QUERIES):
            block = scan.prepare(query[first : first + QUERIES].astype(dtype, order="C"), "query", first)
            best, n = Best.none(len(block.raw), k), len(block.raw)
            for start in range(0, len(bank), TILE):
                tile = scan.prepare(bank[start : start + TILE].astype(dtype, order="C"), "bank", start)
                admit = partial(scan.admit, block, tile, scan.compare(block, tile), best)
                n_wrong = sum(pool.map(admit, _slices(n, n_threads)))
                assert not n_wrong, "the scan is wrong by more than its bound"
            rows[first : first + n], affinity[first : first + n] = best.in_order()
    return rows, _distance(affinity, metric)


def measure_exact(query: np.ndarray, bank: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """Return the float64 distance of each query to some rows of the bank, shape ``(n_query, k)``."""
    dtype = np.float32 if query.dtype == bank.dtype == np.float32 else np.float64
    affinity = np.empty(rows.shape)
    n = max(1, GATHERED // max(1, rows.shape[1] * query.shape[1]))
    for start in range(0, len(query), n):
        some = slice(start, start + n)
        others = bank[rows[some]].astype(dtype, order="C", copy=False)
        kernels().affinities(query[some].astype(dtype, order="C"), others, KINDS[metric], affinity[some])
    return _distance(affinity, metric)


def _slices(n: int, n_parts: int) -> list[slice]:
    edges = np.linspace(0, n, n_parts + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges)]


def _distance(affinity: np.ndarray, metric: str) -> np.ndarray:
    if metric == "cosine":
        return 1.0 - np.clip(affinity, -1.0, 1.0)
    return np.sqrt(-affinity) if metric == "l2" else -affinity
