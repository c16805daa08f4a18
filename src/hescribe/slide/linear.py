"""Linear models of slide vectors, each with a squared penalty: of classes, of grades, and of risk.

Vectors are longer than there are slides, so all are fitted in the space that the train slides span, which changes
nothing: a penalised solution lies in it.
"""

from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from hescribe.errors import TrainingError
from hescribe.slide.targets import Classes, Survival


def fit_classes(x: np.ndarray, target: Classes, *, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit a multinomial logistic model in which each class weighs the same.

    Parameters
    ----------
    x
        Shape ``(n_slides, n_dims)``, centred.
    target
        All classes with at least one slide.
    penalty
        Times half of the squared weights; the loss is a sum over slides.

    Returns
    -------
    Weights ``(n_dims, n_classes)`` and offsets ``(n_classes,)`` of the logits.
    """
    n_classes = len(target.names)
    truth = np.eye(n_classes)[target.codes]
    balance = (len(x) / (n_classes * truth.sum(axis=0)))[target.codes]
    z, back = _span(x)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights, offsets = theta[n_classes:].reshape(-1, n_classes), theta[:n_classes]
        logits = z @ weights + offsets
        log_shares = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        error = balance[:, None] * (np.exp(log_shares) - truth)
        value = -(balance * log_shares[truth.astype(bool)]).sum() + penalty / 2 * (weights**2).sum()
        return value, np.concatenate([error.sum(axis=0), (z.T @ error + penalty * weights).ravel()])

    theta = _minimise(loss, np.zeros(n_classes * (1 + z.shape[1])))
    return back @ theta[n_classes:].reshape(-1, n_classes), theta[:n_classes]


def fit_grades(x: np.ndarray, target: Classes, *, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit proportional odds: one line of severity, cut into grades (McCullagh, J. R. Stat. Soc. B 1980).

    Returns
    -------
    Weights ``(n_dims,)`` and ascending cuts ``(n_grades - 1,)``: the chance to be above a cut is
    ``expit(x @ weights - cut)``.
    """
    n_cuts, rows = len(target.names) - 1, np.arange(len(x))
    z, back = _span(x)

    def split(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta[n_cuts:], theta[0] + np.concatenate([[0], np.cumsum(np.exp(theta[1:n_cuts]))])

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights, cuts = split(theta)
        share = np.maximum(grade_shares(z @ weights, cuts)[rows, target.codes], 1e-300)
        above = special.expit((z @ weights)[:, None] - cuts)
        slope = np.pad(above * (1 - above), ((0, 0), (1, 1)))  # at either edge of each grade
        below, beyond = (slope[rows, target.codes + i] / share for i in (0, 1))
        of_cut = np.zeros((len(z), n_cuts + 2))
        of_cut[rows, target.codes] += below
        of_cut[rows, target.codes + 1] -= beyond
        cut = of_cut[:, 1:-1].sum(axis=0)
        steps = np.cumsum(cut[::-1])[::-1]  # a step moves all later cuts
        of_weights = penalty * weights - z.T @ (below - beyond)
        value = float(-np.log(share).sum() + penalty / 2 * (weights**2).sum())
        return value, np.concatenate([steps[:1], steps[1:] * np.exp(theta[1:n_cuts]), of_weights])

    start = np.zeros(n_cuts + z.shape[1])
    above = 1 - np.cumsum(np.bincount(target.codes, minlength=n_cuts + 1))[:-1] / len(x)
    first = -special.logit(above)
    start[0], start[1:n_cuts] = first[0], np.log(np.maximum(np.diff(first), 1e-3))
    weights, cuts = split(_minimise(loss, start))
    return back @ weights, cuts


def grade_shares(severity: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return the probability of each grade, shape ``(n_slides, n_grades)``.

    Examples
    --------
    >>> grade_shares(np.array([0.0]), np.array([0.0, np.inf])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    above = special.expit(severity[:, None] - cuts)
    edge = np.ones((len(severity), 1))
    shares: np.ndarray = np.hstack([edge, above]) - np.hstack([above, 0 * edge])
    return shares


def fit_risk(x: np.ndarray, target: Survival, *, penalty: float) -> np.ndarray:
    """Fit Cox's proportional hazards, ties after Efron (J. Am. Stat. Assoc. 1977, doi:10.1080/01621459.1977.10480613).

    Returns
    -------
    Weights ``(n_dims,)`` of the log risk.
    """
    z, back = _span(x)
    order = np.argsort(-target.time, kind="stable")  # the last first: a running sum is over those still at risk
    z, time, event = z[order], target.time[order], target.event[order]
    groups = [np.flatnonzero((time == t) & event) for t in np.unique(time[event])]
    last = [int(np.searchsorted(-time, -time[g[0]], side="right")) - 1 for g in groups]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        line = z @ theta
        line = line - line.max()
        risk = np.exp(line)
        value, gradient = penalty / 2 * float(theta @ theta), penalty * theta
        total, weighted = np.cumsum(risk), np.cumsum(risk[:, None] * z, axis=0)
        for tied, end in zip(groups, last, strict=True):
            share = np.arange(len(tied)) / len(tied)
            own, own_weighted = risk[tied].sum(), risk[tied] @ z[tied]
            left = total[end] - share * own
            value += float(np.log(left).sum() - line[tied].sum())
            gradient = gradient + ((weighted[end] - share[:, None] * own_weighted) / left[:, None]).sum(axis=0)
            gradient = gradient - z[tied].sum(axis=0)
        return value, gradient

    return back @ _minimise(loss, np.zeros(z.shape[1]))


def _span(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slides in the space that they span, ``(n_slides, r)``, and the way back, ``(n_dims, r)``."""
    left, size, right = np.linalg.svd(np.asarray(x, dtype=np.float64), full_matrices=False)
    kept = size > 1e-9 * max(size[0], 1e-300)
    return left[:, kept] * size[kept], right[kept].T


def _minimise(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-6})
    if not np.isfinite(found.fun):
        raise TrainingError("a linear model of the slides has no finite optimum; give a larger penalty")
    theta: np.ndarray = found.x
    return theta
