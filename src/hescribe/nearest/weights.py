"""What each neighbour weighs, and the weighted mean of what the neighbours carry."""

from typing import Literal

import numpy as np

from hescribe.errors import InputError
from hescribe.nearest.search import check_rows

Weighting = Literal["uniform", "inverse", "inverse_square", "softmax"]
WEIGHTINGS = ("uniform", "inverse", "inverse_square", "softmax")


def weigh(distance: np.ndarray, how: Weighting = "uniform", *, temperature: float = 1.0) -> np.ndarray:
    """Return the weights of neighbours, shape ``(n_query, k)``; each row adds up to 1.

    Parameters
    ----------
    distance
        Of the neighbours, shape ``(n_query, k)``, at least 0.
    how
        ``"uniform"``: all alike. ``"inverse"``, ``"inverse_square"``: 1 / distance or its square; neighbours at
        distance 0, if any, share all the weight. ``"softmax"``: exp(-distance / temperature).
    temperature
        Of the softmax, in the unit of the distance.

    Raises
    ------
    InputError
        If the weighting is unknown, the temperature not above 0, or a distance negative or not finite.

    Examples
    --------
    >>> weigh(np.array([[1.0, 2.0], [0.0, 5.0]]), "inverse").round(3)
    array([[0.667, 0.333],
           [1.   , 0.   ]])
    >>> weigh(np.array([[0.1, 0.1 + 0.07 * np.log(3)]]), "softmax", temperature=0.07)
    array([[0.75, 0.25]])
    """
    d = np.asarray(distance, dtype=np.float64)
    if how not in WEIGHTINGS:
        raise InputError(f"the weighting must be one of {', '.join(WEIGHTINGS)}, got {how!r}")
    if not temperature > 0:
        raise InputError(f"the temperature must be above 0, got {temperature}")
    if d.ndim != 2 or not d.shape[1]:
        raise InputError(f"distances must have the shape (n_query, k) with k at least 1, got {d.shape}")
    wrong = ~(np.isfinite(d) & (d >= 0)).all(axis=1)
    if wrong.any():
        raise InputError(f"distances must be finite and at least 0; query {int(np.argmax(wrong))} has others")
    if how == "uniform":
        return np.full(d.shape, 1.0 / d.shape[1])
    first = d.min(axis=1, keepdims=True)  # ratios to the nearest: neither 1 / 0 nor exp(-large) for all of a row
    if how == "softmax":
        w = np.exp((first - d) / temperature)
    else:
        ratio = np.divide(first, d, out=np.ones_like(d), where=d > 0)
        w = ratio if how == "inverse" else ratio**2
    return w / w.sum(axis=1, keepdims=True)


def average(values: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of what the neighbours carry, shape ``(n_query, n_columns)``, float64.

    Parameters
    ----------
    values
        One row a row of the bank, such as expression, shape ``(n_bank, n_columns)``.
    rows, weights
        Of ``Neighbours`` and ``weigh``, shape ``(n_query, k)``.

    Raises
    ------
    InputError
        If the shapes differ, or a row is not in the bank.

    Examples
    --------
    >>> average(np.array([[0.0], [8.0]]), np.array([[0, 1]]), np.array([[0.25, 0.75]]))
    array([[6.]])
    """
    if rows.shape != weights.shape:
        raise InputError(f"rows have the shape {rows.shape} and weights {weights.shape}; both must be (n_query, k)")
    check_rows(rows, len(values))
    out = np.zeros((len(rows), values.shape[1]))
    for column, weight in zip(rows.T, weights.T, strict=True):  # one neighbour at a time: no (n_query, k, n_columns)
        out += values[column] * weight[:, None]
    return out
