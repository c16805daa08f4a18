"""Exact search in bounded memory: a fast scan that is wrong by a known bound, and float64 where it matters.

The scan multiplies blocks of queries with tiles of the bank in float32. A pair whose scanned score is within the
scan's error of the k-th best is scored again in float64, in an order that does not depend on the block or the tile.
What is returned is therefore the order of the float64 scores, to the last tie, whatever computed the scan. Bounds of
floating-point sums: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002, section 3.1.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import ModuleType

import numpy as np

from hescribe.errors import InputError
from hescribe.settings import n_workers

KINDS = {"cosine": 0, "l2": 1, "l1": 2}  # as the kernels call them
QUERIES, TILE = 4096, 4096  # a block of scores takes 64 MB
ROUNDING = 2.0**-24  # of float32
TINY = 2e-38  # more than a float32 loses where it leaves its range
LARGEST = 1e15  # its square, summed over many dimensions, still is a float32
WORTH_THREADS = 2**24  # pairs
NOT_FINITE = "holds a value that is not finite, or too large to square"


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
    scan = Scan(metric, _mean(bank) if metric == "l2" else np.zeros(bank.shape[1]))
    dtype = np.dtype(np.float32 if query.dtype == bank.dtype == np.float32 else np.float64)
    rows, affinity = np.empty((len(query), k), dtype=np.int64), np.empty((len(query), k))
    n_threads = n_workers() if len(query) * len(bank) >= WORTH_THREADS else 1
    with ThreadPoolExecutor(n_threads) as pool:
        for first in range(0, len(query), QUERIES):
            block = scan.prepare(query[first : first + QUERIES].astype(dtype, order="C"), "query", first)
            best = Best(np.full((len(block.raw), k), -np.inf), np.full((len(block.raw), k), -1))
            for start in range(0, len(bank), TILE):
                tile = scan.prepare(bank[start : start + TILE].astype(dtype, order="C"), "bank", start)
                admit = partial(scan.admit, block, tile, scan.score(block, tile), best)
                _wait(pool.map(admit, _slices(len(block.raw), n_threads)))
            part = slice(first, first + len(block.raw))
            rows[part], affinity[part] = best.in_order()
    return rows, _distance(affinity, metric)


@dataclass(frozen=True)
class Part:
    """Some rows of the queries or of the bank: as they are, as the scan multiplies them, and how large they are."""

    raw: np.ndarray
    scanned: np.ndarray
    size: np.ndarray
    first: int


@dataclass(frozen=True)
class Scan:
    """The fast comparison of a metric, and what it can be wrong by.

    It computes the cosine; minus the L1 distance; or for L2, of vectors less ``centre``, ``q.b - b.b / 2``, which
    is ``(q.q - distance ** 2) / 2`` and needs one product.
    """

    metric: str
    centre: np.ndarray

    def prepare(self, raw: np.ndarray, what: str, first: int) -> Part:
        """Return rows as the scan needs them; ``what`` and ``first`` name them in an error."""
        n, n_dims = raw.shape
        scanned = np.empty((n, n_dims + (self.metric == "l2")), dtype=np.float32)
        size = np.empty(n)
        _kernels().prepare(raw, KINDS[self.metric], self.centre, scanned[:, :n_dims], size)
        self._check(size, what, first)
        if self.metric == "l2":
            scanned[:, -1] = 1.0 if what == "query" else -(size**2) / 2
        return Part(raw, scanned, size, first)

    def score(self, block: Part, tile: Part) -> np.ndarray:
        """Return the scanned scores of a block of queries with a tile of the bank."""
        if self.metric != "l1":
            return block.scanned @ tile.scanned.T
        out = np.empty((len(block.raw), len(tile.raw)), dtype=np.float32)
        _kernels().scan_l1(block.scanned, tile.scanned, out)
        return out

    def admit(self, block: Part, tile: Part, scores: np.ndarray, best: "Best", part: slice) -> None:
        """Take into ``best`` the neighbours that some of the queries have in a tile."""
        gain, offset, slack = self._bound(block.size[part], float(tile.size.max()))
        _kernels().admit(
            scores[part],
            block.raw[part],
            tile.raw,
            tile.first,
            KINDS[self.metric],
            gain,
            offset,
            slack,
            best.affinity[part],
            best.rows[part],
        )

    def _bound(self, size: np.ndarray, largest: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Return gain, offset and slack: a scanned score is at least ``gain * affinity + offset - slack``."""
        n_dims = len(self.centre)
        error = (n_dims + 16) * ROUNDING  # the sum's, and a few roundings before and after it
        if self.metric == "cosine":
            return 1.0, np.zeros(len(size)), np.full(len(size), error)
        if self.metric == "l1":
            return 1.0 + 2 * error, np.zeros(len(size)), 2 * ROUNDING * (size + largest) + n_dims * TINY
        reach = size + largest + np.linalg.norm(self.centre) * 2.0**-26  # the last: of the centring, in float64
        return 0.5, size**2 / 2, error * reach**2 + n_dims * TINY

    def _check(self, size: np.ndarray, what: str, first: int) -> None:
        _refuse(~np.isfinite(size), first, what, NOT_FINITE)
        if self.metric == "cosine":
            _refuse(size == 0, first, what, "is all zeros and has no direction; leave it out or choose another metric")
        else:
            _refuse(size > LARGEST, first, what, f"is larger than {LARGEST:g}; divide queries and bank by one number")


@dataclass(frozen=True)
class Best:
    """The k best rows so far of every query, as heaps with the worst at the top."""

    affinity: np.ndarray
    rows: np.ndarray

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and affinities, best first, ties to the lower row."""
        order = np.lexsort((self.rows, -self.affinity))
        return np.take_along_axis(self.rows, order, axis=1), np.take_along_axis(self.affinity, order, axis=1)


def _kernels() -> ModuleType:
    from hescribe.nearest import _kernels  # noqa: PLC0415 - imports numba, 0.5 s

    return _kernels


def _mean(bank: np.ndarray) -> np.ndarray:
    """Return the mean row, in float64, of finite rows."""
    total = np.zeros(bank.shape[1])
    for start in range(0, len(bank), TILE):
        tile = bank[start : start + TILE]
        total += tile.sum(axis=0, dtype=np.float64)
        if not np.isfinite(total).all():
            _refuse(~np.isfinite(tile).all(axis=1), start, "bank", NOT_FINITE)
    return total / len(bank)


def _refuse(wrong: np.ndarray, first: int, what: str, problem: str) -> None:
    if wrong.any():
        raise InputError(f"row {first + int(np.argmax(wrong))} of the {what} {problem}")


def _slices(n: int, n_parts: int) -> list[slice]:
    edges = np.linspace(0, n, n_parts + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges)]


def _wait(done: Iterable[None]) -> None:
    for _ in done:
        pass


def _distance(affinity: np.ndarray, metric: str) -> np.ndarray:
    if metric == "cosine":
        return 1.0 - np.clip(affinity, -1.0, 1.0)
    return np.sqrt(-affinity) if metric == "l2" else -affinity
