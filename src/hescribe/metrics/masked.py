"""Scores on some entries of a table only: those that were hidden from a completer, or measured at all."""

from collections.abc import Callable

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.base import Metric, MetricContext

Score = Callable[[np.ndarray, np.ndarray, MetricContext], np.ndarray]

LEAST = 1e-10  # variance; below it a column is constant
MIN_ENTRIES = 3  # a correlation over fewer is no number worth averaging


def masked_correlation(y_true: np.ndarray, y_pred: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each column over the entries asked for, shape ``(n_genes,)``.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(n_spots, n_genes)``.
    where
        True at the entries asked for, same shape.

    Returns
    -------
    NaN where a column has fewer than 3 of them, or either side is constant over them.

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [3.0], [99.0]])
    >>> masked_correlation(y, -y, np.array([[True], [True], [True], [False]])).tolist()
    [-1.0]
    """
    n = where.sum(axis=0)
    a, b = (_centre(np.asarray(v, dtype=np.float64), where, n) for v in (y_true, y_pred))
    power_a, power_b = (np.einsum("ij,ij->j", v, v) for v in (a, b))
    limit = LEAST * np.maximum(n, 1)
    undefined = (n < MIN_ENTRIES) | (power_a <= limit) | (power_b <= limit)
    scale = np.sqrt(np.where(undefined, 1.0, power_a * power_b))
    return np.where(undefined, np.nan, np.einsum("ij,ij->j", a, b) / scale)


def coverage(error: np.ndarray, sd: np.ndarray, width: float) -> float:
    """Return the share of errors within ``width`` standard deviations.

    Examples
    --------
    >>> coverage(np.array([0.5, -3.0]), np.array([1.0, 1.0]), 1.645)
    0.5
    """
    return float((np.abs(error) <= width * sd).mean())


def _centre(values: np.ndarray, where: np.ndarray, n: np.ndarray) -> np.ndarray:
    kept = np.where(where, values, 0.0)
    return np.where(where, values - kept.sum(axis=0) / np.maximum(n, 1), 0.0)


def _counts(y_true: np.ndarray, context: MetricContext) -> np.ndarray:
    if context.counts is None or context.counts.shape != y_true.shape:
        raise InputError("a score on measured entries needs the counts behind y_true in its context")
    return context.counts


def _pearson_measured(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
    return masked_correlation(y_true, y_pred, _counts(y_true, context) > 0)


def _mse_measured(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
    measured = _counts(y_true, context) > 0
    n = measured.sum(axis=0)
    total = (np.where(measured, y_true - y_pred, 0) ** 2).sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _r2_measured(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
    measured = _counts(y_true, context) > 0
    n = measured.sum(axis=0)
    total = (_centre(y_true, measured, n) ** 2).sum(axis=0)
    undefined = (n < MIN_ENTRIES) | (total <= LEAST * np.maximum(n, 1))
    left = (np.where(measured, y_true - y_pred, 0) ** 2).sum(axis=0)
    return np.where(undefined, np.nan, 1 - left / np.where(undefined, 1.0, total))


def _squared_errors(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
    return (y_true - y_pred)[_counts(y_true, context) > 0] ** 2


def _absolute_errors(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
    return np.abs(y_true - y_pred)[_counts(y_true, context) > 0]


def _by_spot(fn: Score) -> Score:
    """Return the same score for each spot over its genes."""
    return lambda y_true, y_pred, context: fn(
        y_true.T, y_pred.T, MetricContext(depth=context.depth, counts=_counts(y_true, context).T)
    )


PEARSON_MEASURED = Metric(
    name="pearson_measured", title="Pearson on measured entries", fn=_pearson_measured, axis="gene",
    higher_is_better=True, bounds=(-1, 1), scale_free=True, chance=0.0,
)  # fmt: skip
MSE_MEASURED = Metric(
    name="mse_measured", title="MSE on measured entries", fn=_mse_measured, axis="gene", higher_is_better=False,
    bounds=(0, np.inf), scale_free=False,
)  # fmt: skip
R2_MEASURED = Metric(
    name="r2_measured", title="R2 on measured entries", fn=_r2_measured, axis="gene", higher_is_better=True,
    bounds=(-np.inf, 1), scale_free=False,
)  # fmt: skip
PEARSON_MEASURED_SPOT = Metric(
    name="pearson_measured_spot", title="Pearson on measured entries, each spot over genes",
    fn=_by_spot(_pearson_measured), axis="spot", higher_is_better=True, bounds=(-1, 1), scale_free=True,
)  # fmt: skip
R2_MEASURED_SPOT = Metric(
    name="r2_measured_spot", title="R2 on measured entries, each spot over genes", fn=_by_spot(_r2_measured),
    axis="spot", higher_is_better=True, bounds=(-np.inf, 1), scale_free=False,
)  # fmt: skip
# Over all measured entries at once, as SpaRED has it: a gene that is measured in many spots weighs more.
MSE_ENTRIES = Metric(
    name="mse_entries", title="MSE over all measured entries", fn=_squared_errors, axis="entry",
    higher_is_better=False, bounds=(0, np.inf), scale_free=False,
)  # fmt: skip
MAE_ENTRIES = Metric(
    name="mae_entries", title="MAE over all measured entries", fn=_absolute_errors, axis="entry",
    higher_is_better=False, bounds=(0, np.inf), scale_free=False,
)  # fmt: skip
