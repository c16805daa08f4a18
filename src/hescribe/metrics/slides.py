"""Scores of slides: told classes, grades and risk against what is known, under many weightings of the slides at once.

A weighting is how a bootstrap counts: a slide that is drawn twice weighs 2. Every score takes weights of shape
``(n_draws, n_slides)`` and returns ``(n_draws,)``, NaN where a draw leaves nothing to compare.
"""

import numpy as np


def auc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the chance that a positive slide scores above another one, a tie counting half.

    Parameters
    ----------
    positive
        Shape ``(n_slides,)``, bool.
    score
        Shape ``(n_slides,)``.
    weights
        Shape ``(n_draws, n_slides)``; each slide once by default.

    Examples
    --------
    >>> auc(np.array([False, False, True, True]), np.array([1.0, 2.0, 2.0, 3.0])).tolist()  # 3 1/2 of 4 pairs
    [0.875]
    """
    w = _weights(weights, len(score))
    above = _order(score[positive][:, None], score[~positive][None, :])
    won = np.einsum("dp,dp->d", w[:, positive], w[:, ~positive] @ above.T)
    return _divide(won, w[:, positive].sum(axis=1) * w[:, ~positive].sum(axis=1))


def macro_auc(codes: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the AUC of each class against all others, averaged over the classes that occur; of two classes the AUC.

    Parameters
    ----------
    codes
        Class of each slide, shape ``(n_slides,)``.
    probability
        Shape ``(n_slides, n_classes)``.
    weights
        As of ``auc``.
    """
    n_classes = probability.shape[1]
    if n_classes == 2:
        return auc(codes == 1, probability[:, 1], weights)
    w = _weights(weights, len(codes))
    each = np.stack([auc(codes == c, probability[:, c], w) for c in range(n_classes) if (codes == c).any()])
    n_defined = np.isfinite(each).sum(axis=0)
    return _divide(np.nansum(each, axis=0), n_defined)


def balanced_accuracy(codes: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the share of slides told right, averaged over the classes that occur; arguments as of ``macro_auc``.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])).tolist()
    [0.75]
    """
    table = _confusion(codes, probability, weights)
    of_class = table.sum(axis=2)
    right = np.divide(np.einsum("dcc->dc", table), of_class, out=np.full(of_class.shape, np.nan), where=of_class > 0)
    return _divide(np.nansum(right, axis=1), np.isfinite(right).sum(axis=1))


def quadratic_kappa(codes: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Cohen's kappa of grades, a miss weighing by its square; arguments as of ``macro_auc``.

    Cohen, Psychological Bulletin 1968, doi:10.1037/h0026256.

    Examples
    --------
    >>> quadratic_kappa(np.array([0, 1, 2]), np.eye(3)).tolist()
    [1.0]
    """
    table = _confusion(codes, probability, weights)
    grades = np.arange(table.shape[1])
    miss = np.square(grades[:, None] - grades[None, :]).astype(np.float64)
    total = np.maximum(table.sum(axis=(1, 2)), 1e-300)
    by_chance = np.einsum("dc,de->dce", table.sum(axis=2), table.sum(axis=1)) / total[:, None, None]
    return 1 - _divide((table * miss).sum(axis=(1, 2)), (by_chance * miss).sum(axis=(1, 2)))


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Harrell's c-index: the chance that of two slides the one whose event came first has the higher risk.

    Pairs count whose order is known: the earlier time ended in an event, or the times are equal and one did. Equal
    risks count half. Harrell et al., JAMA 1982, doi:10.1001/jama.1982.03320430047030.

    Parameters
    ----------
    time, event
        Follow-up, shape ``(n_slides,)``.
    risk
        Shape ``(n_slides,)``.
    weights
        As of ``auc``.

    Examples
    --------
    >>> known = np.array([1.0, 2.0, 3.0]), np.array([True, False, True])  # the first against both others
    >>> concordance(*known, np.array([5.0, 9.0, 1.0])).tolist()
    [0.5]
    """
    w = _weights(weights, len(time))
    earlier = (time[:, None] < time[None, :]) | ((time[:, None] == time[None, :]) & ~event[None, :])
    known = event[:, None] & earlier
    won = known * _order(risk[:, None], risk[None, :])
    return _divide(np.einsum("dn,dn->d", w, w @ won.T), np.einsum("dn,dn->d", w, w @ known.T))


def _order(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return 1 where the first is larger, 1/2 where both are equal, else 0."""
    return (first > second) + 0.5 * (first == second)


def _confusion(codes: np.ndarray, probability: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weight of slides by class and by the class they are told, ``(n_draws, n_classes, n_classes)``."""
    n_classes = probability.shape[1]
    cell = codes * n_classes + probability.argmax(axis=1)
    table = _weights(weights, len(codes)) @ np.eye(n_classes**2)[cell]
    return table.reshape(-1, n_classes, n_classes)


def _weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones((1, n)) if weights is None else np.asarray(weights, dtype=np.float64)


def _divide(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.full(value.shape, np.nan), where=by > 0)
