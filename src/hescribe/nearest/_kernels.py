"""The inner loops of the exact search. Importing this module imports numba; only ``exact`` does, when it searches."""

import numpy as np

from hescribe.compiled import machine_code

COSINE, L2, L1 = 0, 1, 2
BLOCK = 64  # scores looked at together: most blocks hold no candidate


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


def _admit(  # noqa: PLR0917 - a compiled loop takes arrays, in order
    scanned: np.ndarray,
    query: np.ndarray,
    tile: np.ndarray,
    first_row: int,
    kind: int,
    gain: float,
    offset: np.ndarray,
    slack: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Score every candidate of a tile again, in float64, and keep the k best of each query.

    A row of the bank is a candidate if its scanned score is at least ``gain * worst + offset - slack``, where
    ``worst`` is the worst affinity kept so far: the slack is more than the scan can be wrong by.
    """
    n_tile = scanned.shape[1]
    for i in range(len(query)):
        floor = np.float32(gain * scores[i, 0] + offset[i] - slack[i])
        for start in range(0, n_tile, BLOCK):
            stop = min(start + BLOCK, n_tile)
            n_above = 0
            for j in range(start, stop):
                n_above += scanned[i, j] >= floor
            if n_above == 0:
                continue
            for j in range(start, stop):
                if scanned[i, j] >= floor:
                    score = affinity(query[i], tile[j], kind)
                    if score > scores[i, 0]:  # of equal ones the first stays: rows come in ascending order
                        replace_worst(scores[i], rows[i], score, first_row + j)
                        floor = np.float32(gain * scores[i, 0] + offset[i] - slack[i])


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
    for i in range(len(query)):
        for j in range(len(tile)):
            total = np.float32(0.0)
            for d in range(query.shape[1]):
                total += abs(query[i, d] - tile[j, d])
            out[i, j] = -total


scan_l1 = machine_code(_scan_l1, any_order=True)
