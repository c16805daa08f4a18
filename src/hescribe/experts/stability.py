"""How many experts: as many as the same tiles come together in whichever donors are left out."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from hescribe.errors import InputError
from hescribe.experts.clustering import fit_fine, join_clusters

N_GROUPS = 5  # of donors, each left out once
CANDIDATES = (2, 4, 8, 16)
STABLE = 0.7  # adjusted Rand index from which two clusterings are taken for the same


def stability(
    organs: Sequence[str],
    donors: Sequence[str],
    features: Sequence[np.ndarray],
    *,
    n_fine: int,
    candidates: tuple[int, ...] = CANDIDATES,
    weighted: bool = True,
    seed: int = 0,
) -> dict[int, float]:
    """Return how alike the clusterings of a cohort are when donors are left out, by number of experts.

    Donors are dealt into at most five groups; tiles are clustered without each group in turn, and all of them are
    assigned. With one donor its tiles are dealt.

    Parameters
    ----------
    organs, donors, features
        Of each section; features have shape ``(n_tiles, n_dims)``.
    n_fine, weighted, seed
        See ``fit_clusters``; organs with fewer tiles get fewer clusters here.
    candidates
        Numbers of experts.

    Returns
    -------
    Mean adjusted Rand index over each two clusterings, 0 for chance and 1 for the same.
    """
    from sklearn.metrics import adjusted_rand_score  # noqa: PLC0415 - 0.5 s

    organ = np.concatenate([np.full(len(x), o) for o, x in zip(organs, features, strict=True)])
    group, x = _deal(donors, features, seed), np.concatenate(features)
    labels: dict[int, list[np.ndarray]] = {k: [] for k in candidates}
    for left_out in np.unique(group):
        rest = group != left_out
        parts = {o: x[rest & (organ == o)] for o in np.unique(organ[rest])}
        fine = min(n_fine, *(len(p) for p in parts.values()))
        found = fit_fine(parts, n_fine=fine, seed=seed)
        nearest = found.nearest(x)[0]
        for k in (k for k in candidates if k <= fine * len(parts)):
            labels[k].append(join_clusters(found, k, weighted=weighted, seed=seed).expert[nearest])
    return {
        k: float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(of, 2)]))
        for k, of in labels.items()
        if len(of) > 1
    }


def rank_numbers(curve: dict[int, float]) -> tuple[int, ...]:
    """Return numbers of experts, best first: those whose clusterings are alike from the largest on, then the smallest.

    Raises
    ------
    InputError
        If no number could be tried.

    Examples
    --------
    >>> rank_numbers({2: 0.65, 4: 0.81, 8: 0.75, 16: 0.42})
    (8, 4, 2)
    """
    if not curve:
        raise InputError("too few train tiles to choose the number of experts on; give n_experts=")
    stable = sorted((k for k, value in curve.items() if value >= STABLE), reverse=True)
    return tuple(dict.fromkeys((*stable, min(curve))))


def _deal(donors: Sequence[str], features: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Return the group of every tile: by donor, or at random with one donor."""
    names = sorted(set(donors))
    if len(names) == 1:
        return np.random.default_rng(seed).integers(0, N_GROUPS, sum(map(len, features)))
    order = np.random.default_rng(seed).permutation(len(names)) % min(N_GROUPS, len(names))
    return np.concatenate([np.full(len(x), order[names.index(d)]) for d, x in zip(donors, features, strict=True)])
