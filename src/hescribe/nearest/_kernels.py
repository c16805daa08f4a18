"""The inner loops of the exact search. Importing this module imports numba; only ``exact`` does, when it searches."""

import numpy as np

from hescribe.compiled import machine_code

COSINE, L2, L1 = 0, 1, 2
BLOCK = 64  # scores looked at together: most blocks hold no candidate
CACHED = 256  # rows that stay near the processor while the queries go by


def _affinity(a: np.ndarray, b: np.ndarray, kind: int) -> float:
    """Return the cosine, or minus the squared L2 or the L1 distance, in float64."""
    dot, aa, bb = 0.0, 0.0, 0.0
    if kind == COSINE:
        for d in range(len(a)):
            x, y = np.float64(a[d]), np.float64(b[d])
            dot += x * y
            aa += x * x
            bb += y * y
        return dot / np.sqrt(aa * bb)
    if kind == L2:
        for d in range(len(a)):
            x = np.float64(a[d]) - np.float64(b[d])
            dot += x * x
    else:
        for d in range(len(a)):
            dot += abs(np.float64(a[d]) - np.float64(b[d]))
    return -dot


affinity = machine_code(_affinity, any_order=True)


def _replace_worst(scores: np.ndarray, rows: np.ndarray, score: float, row: int) -> None:
    """Put a neighbour in the place of the worst one, which is at the top of the heap."""
    at, n = 0, len(scores)
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        other = child + 1
        if other < n and (
            scores[other] < scores[child] or (scores[other] == scores[child] and rows[other] > rows[child])
        ):
            child = other
        if score < scores[child] or (score == scores[child] and row > rows[child]):
            break
        scores[at], rows[at] = scores[child], rows[child]
        at = child
    scores[at], rows[at] = score, row


replace_worst = machine_code(_replace_worst)


def _highest(scores: np.ndarray, out: np.ndarray) -> None:
    """Write the highest score of every block of columns."""
    for i in range(len(scores)):
        for block in range(out.shape[1]):
            high = scores[i, block * BLOCK]
            for j in range(block * BLOCK, min((block + 1) * BLOCK, scores.shape[1])):
                high = max(high, scores[i, j])
            out[i, block] = high


highest = machine_code(_highest, any_order=True)


def _highest_half(bits: np.ndarray, out: np.ndarray) -> None:
    """Write the highest bfloat16 of every block of columns, or infinity if all are negative.

    As integers, the bits of bfloat16 are in order from 0 up, and those of negative numbers are below 0.
    """
    for i in range(len(bits)):
        for block in range(out.shape[1]):
            high = bits[i, block * BLOCK]
            for j in range(block * BLOCK, min((block + 1) * BLOCK, bits.shape[1])):
                high = max(high, bits[i, j])
            out[i, block] = np.int32(np.int32(high) << 16).view(np.float32) if high >= 0 else np.float32(np.inf)


highest_half = machine_code(_highest_half)


def _admit(  # noqa: PLR0917 - a compiled loop takes arrays, in order
    bits: np.ndarray,
    shift: int,
    high: np.ndarray,
    query: np.ndarray,
    tile: np.ndarray,
    first_row: int,
    kind: int,
    gain: float,
    offset: np.ndarray,
    slack: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
) -> int:
    """Score every candidate of a tile again, in float64, and keep the k best of each query.

    A row of the bank is a candidate if its scanned score is at least ``gain * worst + offset - slack``, where
    ``worst`` is the worst affinity kept so far. ``bits << shift`` are the bits of a scanned score, ``high`` the
    highest of every block. Returns how many scans were wrong by more than the slack: none, or the bound is.
    """
    n_wrong = 0
    for i in range(len(query)):
        floor = np.float32(gain * scores[i, 0] + offset[i] - slack[i])
        for block in range(high.shape[1]):
            if high[i, block] < floor:
                continue
            for j in range(block * BLOCK, min((block + 1) * BLOCK, bits.shape[1])):
                scanned = np.int32(np.int32(bits[i, j]) << shift).view(np.float32)
                if scanned >= floor:
                    score = affinity(query[i], tile[j], kind)
                    n_wrong += scanned < gain * score + offset[i] - slack[i]
                    if score > scores[i, 0]:  # of equal ones the first stays: rows come in ascending order
                        replace_worst(scores[i], rows[i], score, first_row + j)
                        floor = np.float32(gain * scores[i, 0] + offset[i] - slack[i])
    return n_wrong


admit = machine_code(_admit)


def _prepare(tile: np.ndarray, kind: int, centre: np.ndarray, out: np.ndarray, size: np.ndarray) -> None:
    """Write what the scan multiplies, and the size of every row: its norm, or for L1 its sum of absolute values."""
    for i in range(len(tile)):
        total = 0.0
        for d in range(tile.shape[1]):
            x = np.float64(tile[i, d]) - centre[d]
            total += abs(x) if kind == L1 else x * x
        size[i] = total if kind == L1 else np.sqrt(total)
        scale = 1.0 / size[i] if kind == COSINE and size[i] > 0.0 else 1.0
        for d in range(tile.shape[1]):
            out[i, d] = np.float32((np.float64(tile[i, d]) - centre[d]) * scale)


prepare = machine_code(_prepare, any_order=True)


def _scan_l1(query: np.ndarray, tile: np.ndarray, out: np.ndarray) -> None:
    """Write minus the L1 distance of every pair, in float32."""
    for start in range(0, len(tile), CACHED):
        for i in range(len(query)):
            for j in range(start, min(start + CACHED, len(tile))):
                total = np.float32(0.0)
                for d in range(query.shape[1]):
                    total += abs(query[i, d] - tile[j, d])
                out[i, j] = -total


scan_l1 = machine_code(_scan_l1, any_order=True)


def _affinities(query: np.ndarray, others: np.ndarray, kind: int, out: np.ndarray) -> None:
    """Write the affinity of each query to its own others, shape ``(n_query, k, n_dims)``."""
    for i in range(len(query)):
        for j in range(others.shape[1]):
            out[i, j] = affinity(query[i], others[i, j], kind)


affinities = machine_code(_affinities)
