"""Who is told and who is learned from: whole donors or sites, balanced by class."""

import numpy as np

from hescribe.errors import InputError


def deal_groups(strata: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each slide, no group in two, classes spread as evenly as groups allow.

    Groups are dealt from the largest on, those of one size in random order, each to the fold that lacks its classes
    most.

    Parameters
    ----------
    strata
        Class of each slide, shape ``(n_slides,)``; of survival whether it had an event.
    groups
        Donor, or site, of each slide, same shape.
    n_folds, seed
        Number of folds, and of the order.

    Raises
    ------
    InputError
        If there are fewer groups than folds.

    Examples
    --------
    >>> sorted(deal_groups(np.array([0, 1, 0, 1]), np.array(["a", "b", "c", "d"]), 2, 0).tolist())
    [0, 0, 1, 1]
    """
    names = np.unique(groups)
    if n_folds < 2 or len(names) < n_folds:
        raise InputError(f"{len(names)} donors or sites cannot be dealt to {n_folds} folds; label slides of more")
    counts = np.array([np.bincount(strata[groups == g], minlength=strata.max() + 1) for g in names])
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = np.maximum(counts.sum(axis=0), 1) / n_folds
    filled, fold = np.zeros((n_folds, counts.shape[1])), np.empty(len(names), dtype=np.int64)
    for g in order:
        excess = np.square((filled + counts[g]) / wanted).sum(axis=1) - np.square(filled / wanted).sum(axis=1)
        fold[g] = int(np.lexsort((filled.sum(axis=1), excess.round(9)))[0])
        filled[fold[g]] += counts[g]
    dealt: np.ndarray = fold[np.searchsorted(names, groups)]
    return dealt


def draw_shots(strata: np.ndarray, donors: np.ndarray, rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the slides of ``k`` donors of each class.

    Parameters
    ----------
    strata, donors
        Class and donor of each slide, shape ``(n_slides,)``.
    rows
        Slides that may be drawn.
    k, seed
        Donors of each class, and of the draw.

    Raises
    ------
    InputError
        If a class has fewer donors.
    """
    rng, drawn = np.random.default_rng([seed, k]), []
    for stratum in np.unique(strata):
        of_class = rows[strata[rows] == stratum]
        names = np.unique(donors[of_class])
        if len(names) < k:
            raise InputError(
                f"class {stratum} has {len(names)} train donors and {k} were to be drawn; label more slides, or take a "
                "protocol of fewer shots"
            )
        drawn.append(of_class[np.isin(donors[of_class], rng.permutation(names)[:k])])
    return np.sort(np.concatenate(drawn))
