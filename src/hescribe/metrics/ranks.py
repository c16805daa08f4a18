"""Where a query finds what it looks for among candidates, and what chance would find: exact, ties included.

Ties count as broken at random: every score is its mean over the orders of candidates that are equally similar, so
that embeddings that tell nothing apart score exactly what chance does.
"""

from math import comb
from typing import NamedTuple

import numpy as np

SAME = 1e-9  # cosines closer than this are a tie: beyond it a product of matrices depends on where a row stands in it


class Found(NamedTuple):
    """What some queries found in pools of one size.

    Parameters
    ----------
    n_candidates
        Size of a pool.
    better
        Candidates more similar to the query than its best hit, shape ``(n_queries,)``.
    hits, others
        Hits, and other candidates, that are as similar as the best hit, same shape; at least 1 hit.
    auc
        Share of pairs of a hit and another candidate in which the hit is more similar, a tie counting half.
    """

    n_candidates: int
    better: np.ndarray
    hits: np.ndarray
    others: np.ndarray
    auc: np.ndarray


def find(similarity: np.ndarray, is_hit: np.ndarray) -> Found:
    """Return what queries found.

    Parameters
    ----------
    similarity
        Of each query to each candidate, shape ``(n_queries, n_candidates)``.
    is_hit
        Whether the candidate is what the query looks for, same shape; the same number in every row, at least 1.

    Examples
    --------
    >>> found = find(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([[False, True, False, False]]))
    >>> found.better.item(), found.others.item(), round(found.auc.item(), 3)  # ranks 2 or 3 of 4: mean rank 2.5
    (1, 1, 0.5)
    """
    n_queries, n = similarity.shape
    n_hits = int(is_hit[0].sum())
    of_hits = similarity[is_hit].reshape(n_queries, n_hits)
    best = of_hits.max(axis=1, keepdims=True)
    hits = np.count_nonzero(of_hits >= best - SAME, axis=1)
    won = np.zeros(n_queries)
    for level in of_hits.T[:, :, None]:
        won += _below(similarity, level) - _below(of_hits, level)  # other candidates alone
    n_pairs = n_hits * (n - n_hits)
    better = np.count_nonzero(similarity > best + SAME, axis=1)
    return Found(
        n_candidates=n,
        better=better,
        hits=hits,
        others=np.count_nonzero(similarity >= best - SAME, axis=1) - better - hits,
        auc=won / n_pairs if n_pairs else np.full(n_queries, np.nan),
    )


def _below(similarity: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return how many of each row are below a level, a tie counting half."""
    below = np.count_nonzero(similarity < level - SAME, axis=1)
    return (below + np.count_nonzero(similarity <= level + SAME, axis=1)) / 2


def join(parts: list[Found]) -> Found:
    """Return what the queries of several pools of one size found."""
    columns = [np.concatenate([p[i] for p in parts]) for i in range(1, len(Found._fields))]
    return Found(parts[0].n_candidates, *columns)


def recall(found: Found, k: int) -> np.ndarray:
    """Return the chance of each query that a hit is among its ``k`` most similar candidates, shape ``(n_queries,)``.

    0 or 1 where nothing is tied.

    Examples
    --------
    >>> tied = find(np.array([[0.5, 0.5, 0.5, 0.5]]), np.array([[True, False, False, False]]))
    >>> [recall(tied, k).item() for k in (1, 2, 5)]
    [0.25, 0.5, 1.0]
    """
    places = np.clip(k - found.better, 0, found.hits + found.others)  # of those at the level of the best hit
    missed = np.ones(len(places))
    for i in range(int(places.max(initial=0))):  # the next place goes to another candidate too
        left = np.maximum(found.others - i, 0) / np.maximum(found.hits + found.others - i, 1)
        missed *= np.where(i < places, left, 1.0)
    return 1 - missed


def median_rank(found: Found) -> float:
    """Return the median rank of the first hit, 1 the best, over queries and over the orders of what is tied.

    Examples
    --------
    >>> median_rank(find(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([[False, True, False, False]])))  # 2 or 3
    2.5
    """

    def first(limit: float) -> int:
        """Return the first rank up to which more than a share of the queries have found a hit."""
        low, high = 1, found.n_candidates
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if recall(found, middle).mean() > limit else (middle + 1, high)
        return low

    return (first(0.5 - SAME) + first(0.5 + SAME)) / 2


def chance_recall(n_candidates: int, n_hits: int, k: int) -> float:
    """Return the recall of a random order: 1 less the share of choices of ``k`` candidates without a hit.

    Examples
    --------
    >>> chance_recall(64, 1, 5) == 5 / 64
    True
    >>> round(chance_recall(64, 10, 1), 4)  # 10 of 64
    0.1562
    """
    k = min(k, n_candidates)
    return 1 - comb(n_candidates - n_hits, k) / comb(n_candidates, k)


def chance_median_rank(n_candidates: int, n_hits: int) -> float:
    """Return the median rank of the first hit in a random order.

    Examples
    --------
    >>> chance_median_rank(64, 1), chance_median_rank(63, 1)
    (32.5, 32.0)
    """
    total = comb(n_candidates, n_hits)

    def first(*, reached: bool) -> int:
        """Return the first rank up to which a hit is likelier than not, or as likely if that is enough."""
        low, high = 1, n_candidates
        while low < high:
            middle = (low + high) // 2
            missed = 2 * comb(n_candidates - middle, n_hits)
            low, high = (low, middle) if missed < total or (reached and missed == total) else (middle + 1, high)
        return low

    return (first(reached=True) + first(reached=False)) / 2
