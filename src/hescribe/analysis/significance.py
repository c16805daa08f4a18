"""Which genes are predicted better than chance, on spots that are not independent of each other.

Two smooth maps correlate by accident far more often than two columns of noise: a test that takes every spot for an
independent draw calls a third of them significant at 5 %. Here the number of spots is replaced by the effective sample
size of Clifford, Richardson and Hemon (Biometrics 1989, 45:123, doi:10.2307/2532039), with the degrees of freedom of
Dutilleul (Biometrics 1993, 49:305, doi:10.2307/2532625). Donors are combined by Stouffer's sum of normal scores; the
sections of a donor, which depend on each other, by their mean; many genes by Benjamini and Hochberg's method (JRSS B
1995, 57:289).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from hescribe.compiled import compiled
from hescribe.errors import InputError
from hescribe.metrics.base import centre
from hescribe.metrics.gene import correlate_centred

MAX_SPOTS = 4000  # autocorrelation is taken from a sample of so many; it has 8 million pairs
FEWEST = 2.001  # independent spots; the t distribution needs more than two
TINIEST = 1e-300


@dataclass(frozen=True)
class Association:
    """Correlation of predicted and measured expression within one section, each of shape ``(n_genes,)``.

    Parameters
    ----------
    r
        Pearson correlation; NaN where predicted or measured is constant, and then so is all else.
    n_effective
        Independent spots that would give a correlation of the same spread.
    p
        Probability of a correlation as high if the two maps had nothing to do with each other.
    p_naive
        The same, were all spots independent. For comparison only.
    """

    r: np.ndarray
    n_effective: np.ndarray
    p: np.ndarray
    p_naive: np.ndarray


def associate(y_true: np.ndarray, y_pred: np.ndarray, points: np.ndarray, *, seed: int = 0) -> Association:
    """Test for each gene whether predicted and measured expression go together, against the side of no or less.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(n_spots, n_genes)``.
    points
        Places of the spots in pitches, shape ``(n_spots, 2)``: see ``prep.graph.array_points``.
    seed
        Of the sample of spots that autocorrelation is taken from in sections of more than 4,000.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 4 spots.

    Notes
    -----
    var(r) = sum over pairs of spots of c_x(d) c_y(d) / n^2, where c(d) is the mean product of standardised values at
    distance d, in classes as wide as the pitch; the effective sample size is 1 + 1 / var(r), at most the number
    of spots.

    Examples
    --------
    >>> points = np.stack(np.mgrid[:12, :12], axis=-1).reshape(-1, 2).astype(float)
    >>> gradient = points[:, :1] + 0.1 * np.sin(points[:, 1:])
    >>> bool(associate(gradient, gradient, points).n_effective[0] < 10)
    True
    """
    if y_true.shape != y_pred.shape or y_true.ndim != 2:
        raise InputError(f"y_pred has shape {y_pred.shape}, expected {y_true.shape} (n_spots, n_genes)")
    if points.shape != (len(y_true), 2):
        raise InputError(f"points have shape {points.shape}, expected {(len(y_true), 2)}: a place for every spot")
    n_spots = len(y_true)
    if n_spots < 4:
        raise InputError(f"a correlation is tested on at least 4 spots, got {n_spots}")
    a, b = centre(y_true.astype(np.float64)), centre(y_pred.astype(np.float64))
    r = correlate_centred(a, b)
    defined = np.isfinite(r)
    x, y = (part.values[:, defined] / np.sqrt(part.power[defined] / n_spots) for part in (a, b))
    n_effective = np.full(len(r), np.nan)
    n_effective[defined] = np.clip(1 + 1 / _variance(x, y, points, seed), FEWEST, n_spots)
    return Association(r, n_effective, _p_value(r, n_effective), _p_value(r, np.where(defined, n_spots, np.nan)))


def adjust(p: np.ndarray) -> np.ndarray:
    """Return the smallest false discovery rate at which each test is still a discovery; NaN stays NaN.

    Parameters
    ----------
    p
        Shape ``(n_tests,)``. An undefined one counts as no test.

    Examples
    --------
    >>> adjust(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    q, tested = np.full(len(p), np.nan), np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(-p[tested], kind="stable")]
    share = p[order] * len(order) / np.arange(len(order), 0, -1)
    q[order] = np.minimum(np.minimum.accumulate(share), 1.0)
    return q


def combine(p: np.ndarray, donors: Sequence[str]) -> np.ndarray:
    """Return one p value for each gene from those of sections; NaN where no section has one.

    The mean of normal scores over the sections of a donor, as if they were copies of each other, then Stouffer's sum
    over donors: a gene must do well over all, and a section that runs against its prediction counts against it.

    Parameters
    ----------
    p
        Shape ``(n_sections, n_genes)``; an undefined one is left out.
    donors
        Donor of each section.

    Examples
    --------
    >>> combine(np.array([[0.05], [0.05], [0.05]]), ["A", "A", "B"]).round(4).tolist()
    [0.01]
    """
    score = -ndtri(np.clip(p, TINIEST, 1 - 1e-16))
    labels = np.asarray(donors)
    of_donor = np.stack([_mean(score[labels == d]) for d in sorted(set(donors))])
    n_donors = np.isfinite(of_donor).sum(axis=0)
    return np.where(n_donors > 0, ndtr(-np.nansum(of_donor, axis=0) / np.sqrt(np.maximum(n_donors, 1))), np.nan)


def _mean(score: np.ndarray) -> np.ndarray:
    """Return the mean over rows of what is defined, NaN where nothing is."""
    n = np.isfinite(score).sum(axis=0)
    return np.where(n > 0, np.nansum(score, axis=0) / np.maximum(n, 1), np.nan)


def _p_value(r: np.ndarray, n: np.ndarray) -> np.ndarray:
    freedom = n - 2
    t = r * np.sqrt(freedom / np.maximum(1 - r**2, 1e-15))
    return np.where(np.isfinite(r), stdtr(np.nan_to_num(freedom, nan=1.0), -t), np.nan)


def _variance(x: np.ndarray, y: np.ndarray, points: np.ndarray, seed: int) -> np.ndarray:
    """Return the variance of each correlation of standardised columns that have nothing to do with each other."""
    n_spots, n_genes = x.shape
    if n_spots > MAX_SPOTS:
        sample = np.sort(np.random.default_rng(seed).choice(n_spots, MAX_SPOTS, replace=False))
        x, y, points = x[sample], y[sample], points[sample]
    n_classes = int(np.linalg.norm(np.ptp(points, axis=0)) + 0.5) + 1
    product, n_pairs = _by_distance(np.hstack([x, y]), np.ascontiguousarray(points, dtype=np.float64), n_classes)
    there = n_pairs > 0
    mean = product[there] / n_pairs[there, None]  # (n_classes, 2 n_genes)
    share = n_pairs[there] / n_pairs.sum()
    between = share @ (mean[:, :n_genes] * mean[:, n_genes:])
    return np.maximum((1 + (n_spots - 1) * between) / n_spots, 1 / n_spots**2)


@compiled
def _by_distance(x: np.ndarray, points: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of products of every column over the pairs of each class of distance, and the pairs in each."""
    n_spots, n_columns = x.shape
    product, n_pairs = np.zeros((n_classes, n_columns)), np.zeros(n_classes)
    for i in range(n_spots):
        for j in range(i):
            apart = np.sqrt((points[i, 0] - points[j, 0]) ** 2 + (points[i, 1] - points[j, 1]) ** 2)
            k = min(int(apart + 0.5), n_classes - 1)
            n_pairs[k] += 1
            for c in range(n_columns):
                product[k, c] += x[i, c] * x[j, c]
    return product, n_pairs
