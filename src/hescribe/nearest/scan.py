"""The fast comparison of a block of queries with a tile of the bank, and by how much it can be wrong.

Bounds of floating-point sums: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002, section
3.1.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from hescribe.errors import InputError
from hescribe.nearest import _bfloat16

KINDS = {"cosine": 0, "l2": 1, "l1": 2}  # as the kernels call them
ROUNDING = 2.0**-24  # of float32
TINY = 2e-38  # more than a product loses where it leaves the range of float32
LARGEST = 1e15  # its square, summed over many dimensions, still is a float32
NOT_FINITE = "holds a value that is not finite, or too large to square"


@dataclass(frozen=True)
class Part:
    """Some queries, or some rows of the bank.

    Parameters
    ----------
    raw
        As they are, shape ``(n, n_dims)``.
    scanned
        As the scan multiplies them, float32.
    size
        Their norm, or for L1 the sum of their absolute values, shape ``(n,)``.
    first
        Row of the first one.
    """

    raw: np.ndarray
    scanned: np.ndarray
    size: np.ndarray
    first: int


@dataclass(frozen=True)
class Best:
    """The k best rows so far of every query, as heaps with the worst at the top.

    Parameters
    ----------
    affinity
        The cosine, or minus the squared L2 or the L1 distance, float64, shape ``(n_query, k)``.
    rows
        Of the bank, same shape.
    """

    affinity: np.ndarray
    rows: np.ndarray

    @classmethod
    def none(cls, n_query: int, k: int) -> "Best":
        """Return the state before the first tile."""
        return cls(np.full((n_query, k), -np.inf), np.full((n_query, k), -1))

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and affinities, best first, ties to the lower row."""
        order = np.lexsort((self.rows, -self.affinity))
        return np.take_along_axis(self.rows, order, axis=1), np.take_along_axis(self.affinity, order, axis=1)


@dataclass(frozen=True)
class Scan:
    """The fast comparison.

    It computes the cosine; minus the L1 distance; or for L2, of vectors less ``centre``, ``q.b - b.b / 2``, which is
    ``(q.q - distance ** 2) / 2`` and needs one product.

    Parameters
    ----------
    metric
        ``"cosine"``, ``"l2"`` or ``"l1"``.
    centre
        What is subtracted of every vector, shape ``(n_dims,)``.
    in_halves
        Whether whole tiles are compared in bfloat16; cosine only.
    """

    metric: str
    centre: np.ndarray
    in_halves: bool = False

    @classmethod
    def of(cls, query: np.ndarray, bank: np.ndarray, metric: str) -> "Scan":
        """Return the fastest scan of a bank."""
        if metric == "l2":
            return cls(metric, _mean(bank))
        is_large = len(query) * bank.size >= _bfloat16.WORTH_IT
        in_halves = metric == "cosine" and is_large and _bfloat16.is_faster()
        return cls(metric, np.zeros(bank.shape[1]), in_halves)

    def prepare(self, raw: np.ndarray, what: str, first: int) -> Part:
        """Return rows as the scan needs them.

        Raises
        ------
        InputError
            If a row cannot be compared; ``what`` and ``first`` name it.
        """
        n, n_dims = raw.shape
        scanned = np.empty((n, n_dims + (self.metric == "l2")), dtype=np.float32)
        size = np.empty(n)
        kernels().prepare(raw, KINDS[self.metric], self.centre, scanned[:, :n_dims], size)
        refuse(~np.isfinite(size), first, what, NOT_FINITE)
        if self.metric == "cosine":
            refuse(size == 0, first, what, "is all zeros and has no direction; leave it out or choose another metric")
        else:
            refuse(size > LARGEST, first, what, f"is larger than {LARGEST:g}; divide queries and bank by one number")
        if self.metric == "l2":
            scanned[:, -1] = 1.0 if what == "query" else -(size**2) / 2
        return Part(raw, scanned, size, first)

    def compare(self, block: Part, tile: Part) -> np.ndarray:
        """Return the scores of all pairs, float32 or bits of bfloat16; for L1, only the space for them."""
        if self.metric == "l1":
            return np.empty((len(block.raw), len(tile.raw)), dtype=np.float32)
        if self.in_halves:
            return _bfloat16.product(block.scanned, tile.scanned)
        return block.scanned @ tile.scanned.T

    def admit(self, block: Part, tile: Part, scores: np.ndarray, best: Best, part: slice) -> int:
        """Take into ``best`` the neighbours that some of the queries have in a tile.

        Returns how often the scan was seen to be wrong by more than its bound.
        """
        inner, scores = kernels(), scores[part]
        if self.metric == "l1":
            inner.scan_l1(block.scanned[part], tile.scanned, scores)
        high = np.empty((len(scores), -(-scores.shape[1] // inner.BLOCK)), dtype=np.float32)
        (inner.highest_half if self.in_halves else inner.highest)(scores, high)
        bits, shift = (scores, 16) if self.in_halves else (scores.view(np.int32), 0)
        kind, (gain, offset, slack) = KINDS[self.metric], self._bound(block.size[part], float(tile.size.max()))
        heaps = best.affinity[part], best.rows[part]
        return inner.admit(
            bits, shift, high, block.raw[part], tile.raw, tile.first, kind, gain, offset, slack, *heaps
        )  # fmt: skip

    def _bound(self, size: np.ndarray, largest: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Return gain, offset and slack: a scanned score is at least ``gain * affinity + offset - slack``."""
        n_dims, zero = len(self.centre), np.zeros(len(size))
        error = (n_dims + 16) * ROUNDING  # the sum's, and a few roundings before and after it
        if self.metric == "cosine":
            halves = 3.1 * _bfloat16.ROUNDING if self.in_halves else 0.0  # of the two vectors, and of the result
            return 1.0, zero, zero + error + halves + n_dims * TINY
        if self.metric == "l1":
            return 1.0 + 2 * error, zero, 2 * ROUNDING * (size + largest) + n_dims * TINY
        reach = size + largest + np.linalg.norm(self.centre) * 2.0**-26  # the last: of the centring, in float64
        return 0.5, size**2 / 2, error * reach**2 + n_dims * TINY


def kernels() -> ModuleType:
    """Return the compiled loops."""
    from hescribe.nearest import _kernels  # noqa: PLC0415 - imports numba, 0.5 s

    return _kernels


def refuse(wrong: np.ndarray, first: int, what: str, problem: str) -> None:
    """Raise ``InputError`` about the first wrong row."""
    if wrong.any():
        raise InputError(f"row {first + int(np.argmax(wrong))} of the {what} {problem}")


def _mean(bank: np.ndarray, n_rows: int = 4096) -> np.ndarray:
    """Return the mean row, in float64, read piece by piece."""
    total = np.zeros(bank.shape[1])
    for start in range(0, len(bank), n_rows):
        piece = bank[start : start + n_rows]
        total += piece.sum(axis=0, dtype=np.float64)
        if not np.isfinite(total).all():
            refuse(~np.isfinite(piece).all(axis=1), start, "bank", NOT_FINITE)
    return total / len(bank)
