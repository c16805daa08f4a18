"""Whether intervals hold what they promise: coverage, width and the score that weighs both."""

import numpy as np

from hescribe.errors import InputError


def interval_coverage(y_true: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return the share of spots whose value lies in its interval, ends included.

    Parameters
    ----------
    y_true
        Measured values, shape ``(n_spots, n_genes)``.
    lower, upper
        Ends of the intervals, same shape and unit.

    Returns
    -------
    Shape ``(n_genes,)``, 0 to 1.

    Raises
    ------
    InputError
        If the shapes differ, there is no spot, a value is not finite, or an interval ends before it begins.

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [3.0], [9.0]])
    >>> interval_coverage(y, np.full((4, 1), 1.0), np.full((4, 1), 3.0)).tolist()
    [0.75]
    """
    y_true, lower, upper = _checked(y_true, lower, upper)
    return np.asarray(((y_true >= lower) & (y_true <= upper)).mean(axis=0))


def interval_score(y_true: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: float) -> np.ndarray:
    """Return the mean width plus the price of what was missed; lower is better.

    A value outside costs 2 / (1 - level) times its distance from the interval, so that neither a wide
    interval that holds everything nor a narrow one that misses wins (Gneiting and Raftery, Strictly proper
    scoring rules, J. Am. Stat. Assoc. 2007, section 6.2, doi:10.1198/016214506000001437).

    Parameters
    ----------
    y_true, lower, upper
        As for ``interval_coverage``.
    level
        Share of the values that the intervals are to hold, between 0 and 1.

    Returns
    -------
    Shape ``(n_genes,)``, in the unit of the values.

    Raises
    ------
    InputError
        As for ``interval_coverage``, and if ``level`` is no share.

    Examples
    --------
    >>> y = np.array([[1.0], [4.0]])
    >>> interval_score(y, np.zeros((2, 1)), np.full((2, 1), 3.0), 0.5).tolist()
    [5.0]
    """
    check_level(level)
    y_true, lower, upper = _checked(y_true, lower, upper)
    missed = np.maximum(lower - y_true, 0) + np.maximum(y_true - upper, 0)
    return np.asarray((upper - lower + 2 / (1 - level) * missed).mean(axis=0))


def check_level(level: float) -> None:
    """Raise ``InputError`` unless ``level`` is a share between 0 and 1."""
    if not 0 < level < 1:
        raise InputError(f"level is the share of values that an interval is to hold, between 0 and 1; got {level!r}")


def _checked(y_true: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays in float64 if they are values and intervals of the same spots and genes."""
    if y_true.ndim != 2 or not (y_true.shape == lower.shape == upper.shape):
        raise InputError(
            f"lower and upper have shapes {lower.shape} and {upper.shape}, expected {y_true.shape} (n_spots, n_genes)"
        )
    if not len(y_true):
        raise InputError("the coverage of intervals needs at least one spot")
    for label, values in (("y_true", y_true), ("lower", lower), ("upper", upper)):
        if not np.isfinite(values).all():
            spot, gene = np.argwhere(~np.isfinite(values))[0]
            raise InputError(f"{label} is not finite at spot {spot}, gene {gene}")
    if (lower > upper).any():
        spot, gene = np.argwhere(lower > upper)[0]
        raise InputError(
            f"the interval at spot {spot}, gene {gene} ends before it begins; are lower and upper swapped?"
        )
    return y_true.astype(np.float64), lower.astype(np.float64), upper.astype(np.float64)
