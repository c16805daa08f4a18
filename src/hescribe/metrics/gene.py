"""Scores of expression: correlation and error, for each gene over spots or each spot over genes."""

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.base import CONSTANT, Centred, Metric, MetricContext, centre


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of matching columns, NaN where either is constant.

    Parameters
    ----------
    a, b
        Shape ``(n, n_columns)``.

    Examples
    --------
    >>> y = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> correlate(y, 2 * y).tolist()
    [1.0, nan]
    """
    return correlate_centred(centre(a), centre(b))


def correlate_centred(a: Centred, b: Centred) -> np.ndarray:
    """Return what ``correlate`` does, for columns that are centred already."""
    undefined = a.is_constant | b.is_constant
    scale = np.where(undefined, 1.0, np.sqrt(a.power * b.power))
    return np.where(undefined, np.nan, np.clip(np.einsum("ij,ij->j", a.values, b.values) / scale, -1.0, 1.0))


def rank(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value within its column, ties sharing their mean rank.

    As ``scipy.stats.rankdata`` does; importing scipy.stats takes two seconds.

    Examples
    --------
    >>> rank(np.array([[3.0], [1.0], [3.0]]))[:, 0].tolist()
    [2.5, 1.0, 2.5]
    """
    rows = np.ascontiguousarray(values.T)
    order = np.argsort(rows, axis=1)
    ascending = np.take_along_axis(rows, order, axis=1)
    is_first = np.ones(rows.shape, dtype=bool)  # of its ties
    is_first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    first = np.flatnonzero(is_first)
    n_ties = np.diff(np.append(first, rows.size))
    mean = np.repeat(first % rows.shape[1] + (n_ties + 1) / 2, n_ties).reshape(rows.shape)
    out = np.empty(rows.shape)
    np.put_along_axis(out, order, mean, axis=1)
    return out.T


def remove_linear(values: np.ndarray, covariate: np.ndarray) -> np.ndarray:
    """Return what a straight line on a covariate leaves of each column.

    Parameters
    ----------
    values
        Shape ``(n_spots, n_columns)``.
    covariate
        Shape ``(n_spots,)``.

    Returns
    -------
    Residuals, same shape; exactly 0 where the line explains a column up to rounding.
    """
    (values, before, _), c = centre(values), covariate - covariate.mean()
    power = c @ c
    if power == 0:
        return values
    rest = values - np.outer(c, (c @ values) / power)
    explained = np.einsum("ij,ij->j", rest, rest) <= CONSTANT**2 * before
    return np.where(explained, 0.0, rest)


def _pearson(y_true: np.ndarray, y_pred: np.ndarray, _: MetricContext) -> np.ndarray:
    return correlate(y_true, y_pred)


def _pearson_top50(y_true: np.ndarray, y_pred: np.ndarray, _: MetricContext) -> np.ndarray:
    """Return the correlation of the 50 genes of highest mean among the scored spots: Min et al. 2024 call it HEG."""
    top = np.sort(np.argsort(-y_true.mean(axis=0), kind="stable")[:50])
    return correlate(y_true[:, top], y_pred[:, top])


def _spearman(y_true: np.ndarray, y_pred: np.ndarray, _: MetricContext) -> np.ndarray:
    return correlate(rank(y_true), rank(y_pred))


def _depth_partial(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
    if context.depth is None or len(context.depth) != len(y_true):
        raise InputError("pearson_depth_partial needs the depth of every spot in its context")
    log_depth = np.log(np.maximum(context.depth.astype(np.float64), 1.0))
    return correlate(remove_linear(y_true, log_depth), remove_linear(y_pred, log_depth))


def _r2(y_true: np.ndarray, y_pred: np.ndarray, _: MetricContext) -> np.ndarray:
    total, undefined = centre(y_true)[1:]
    r2 = 1 - ((y_true - y_pred) ** 2).sum(axis=0) / np.where(undefined, 1.0, total)
    return np.where(undefined, np.nan, r2)


def _mse(y_true: np.ndarray, y_pred: np.ndarray, _: MetricContext) -> np.ndarray:
    return ((y_true - y_pred) ** 2).mean(axis=0)


def _mae(y_true: np.ndarray, y_pred: np.ndarray, _: MetricContext) -> np.ndarray:
    return np.abs(y_true - y_pred).mean(axis=0)


def _by_spot(metric: Metric) -> Metric:
    """Return the same score for each spot over its genes."""

    def fn(y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext) -> np.ndarray:
        return metric.fn(y_true.T, y_pred.T, context)

    return Metric(
        name=f"{metric.name}_spot",
        title=f"{metric.title}, each spot over genes",
        fn=fn,
        axis="spot",
        higher_is_better=metric.higher_is_better,
        bounds=metric.bounds,
        scale_free=metric.scale_free,
    )


PEARSON = Metric(
    name="pearson", title="Pearson", fn=_pearson, axis="gene", higher_is_better=True, bounds=(-1, 1),
    scale_free=True, chance=0.0,
)  # fmt: skip
PEARSON_TOP50 = Metric(
    name="pearson_top50", title="Pearson, 50 genes of highest mean", fn=_pearson_top50, axis="gene",
    higher_is_better=True, bounds=(-1, 1), scale_free=True, chance=0.0,
)  # fmt: skip
SPEARMAN = Metric(
    name="spearman", title="Spearman", fn=_spearman, axis="gene", higher_is_better=True, bounds=(-1, 1),
    scale_free=True, chance=0.0,
)  # fmt: skip
DEPTH_PARTIAL = Metric(
    name="pearson_depth_partial", title="Pearson without depth", fn=_depth_partial, axis="gene",
    higher_is_better=True, bounds=(-1, 1), scale_free=True, chance=0.0,
)  # fmt: skip
R2 = Metric(name="r2", title="R2", fn=_r2, axis="gene", higher_is_better=True, bounds=(-np.inf, 1), scale_free=False)
MSE = Metric(
    name="mse", title="MSE", fn=_mse, axis="gene", higher_is_better=False, bounds=(0, np.inf), scale_free=False
)
MAE = Metric(
    name="mae", title="MAE", fn=_mae, axis="gene", higher_is_better=False, bounds=(0, np.inf), scale_free=False
)
PEARSON_SPOT, SPEARMAN_SPOT = _by_spot(PEARSON), _by_spot(SPEARMAN)
R2_SPOT, MSE_SPOT, MAE_SPOT = _by_spot(R2), _by_spot(MSE), _by_spot(MAE)
