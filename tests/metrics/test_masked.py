"""Scores on some entries, against the plain score of those entries."""

import numpy as np
import pytest
from scipy import stats

from hescribe.errors import InputError
from hescribe.metrics.base import MetricContext
from hescribe.metrics.masked import (
    MAE_ENTRIES,
    MSE_ENTRIES,
    MSE_MEASURED,
    PEARSON_MEASURED,
    PEARSON_MEASURED_SPOT,
    R2_MEASURED,
    R2_MEASURED_SPOT,
    coverage,
    masked_correlation,
)


def table(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), rng.random((40, 3)) < 0.5


def test_masked_correlation_is_scipy_s_over_the_entries_asked_for():
    y_true, y_pred, where = table()
    expected = [stats.pearsonr(y_true[w, g], y_pred[w, g])[0] for g, w in enumerate(where.T)]
    np.testing.assert_allclose(masked_correlation(y_true, y_pred, where), expected, rtol=1e-9)


def test_entries_that_are_not_asked_for_change_nothing():
    y_true, y_pred, where = table()
    other = np.where(where, y_pred, 1e6)
    np.testing.assert_allclose(masked_correlation(y_true, other, where), masked_correlation(y_true, y_pred, where))


def test_too_few_entries_and_constant_sides_are_undefined():
    y_true, y_pred, where = table()
    where[:, 0] = False
    where[:2, 0] = True
    y_pred[:, 1] = 7.0
    assert np.isnan(masked_correlation(y_true, y_pred, where)).tolist() == [True, True, False]


def test_scores_on_measured_entries_leave_zeros_out():
    y_true, y_pred, where = table()
    context = MetricContext(counts=where * 3)
    expected = [((y_true - y_pred)[w, g] ** 2).mean() for g, w in enumerate(where.T)]
    np.testing.assert_allclose(MSE_MEASURED(y_true, y_pred, context), expected)
    np.testing.assert_allclose(PEARSON_MEASURED(y_true, y_pred, context), masked_correlation(y_true, y_pred, where))


def test_a_gene_that_was_never_measured_is_undefined():
    y_true, y_pred, where = table()
    where[:, 2] = False
    assert np.isnan(MSE_MEASURED(y_true, y_pred, MetricContext(counts=where))[2])


@pytest.mark.parametrize("metric", [MSE_MEASURED, PEARSON_MEASURED])
def test_without_counts_or_with_those_of_another_table_the_score_is_refused(metric):
    y_true, y_pred, where = table()
    for counts in (None, where.T):
        with pytest.raises(InputError, match="needs the counts behind y_true"):
            metric(y_true, y_pred, MetricContext(counts=counts))


def test_coverage_counts_errors_of_either_sign():
    assert coverage(np.array([-1.0, 1.0, 2.1, -2.1]), np.ones(4), 2.0) == 0.5


def test_r2_on_measured_entries_is_that_of_the_entries_alone():
    y_true, y_pred, where = table()
    context = MetricContext(counts=where.astype(float))
    expected = [1 - ((t - p) ** 2).sum() / ((t - t.mean()) ** 2).sum() for t, p in pairs(y_true, y_pred, where)]
    np.testing.assert_allclose(R2_MEASURED(y_true, y_pred, context), expected, rtol=1e-9)


def test_a_constant_gene_has_no_r2_and_spoils_no_other():
    """SpaRED's package gives minus infinity for the mean over all genes then."""
    y_true, y_pred, where = table()
    y_true[:, 1] = 2.0
    values = R2_MEASURED(y_true, y_pred, MetricContext(counts=where.astype(float)))
    assert np.isnan(values).tolist() == [False, True, False]


def test_errors_over_entries_weigh_every_measured_entry_alike():
    y_true, y_pred, where = table()
    where[:, 0] = False
    where[0, 0] = True  # a gene measured once weighs as one entry, not as a third of the score
    context = MetricContext(counts=where.astype(float))
    assert MSE_ENTRIES.summary(y_true, y_pred, context).value == pytest.approx(((y_true - y_pred)[where] ** 2).mean())
    assert MAE_ENTRIES.summary(y_true, y_pred, context).value == pytest.approx(np.abs((y_true - y_pred)[where]).mean())


@pytest.mark.parametrize(
    ("by_spot", "by_gene"), [(PEARSON_MEASURED_SPOT, PEARSON_MEASURED), (R2_MEASURED_SPOT, R2_MEASURED)]
)
def test_scores_by_spot_are_those_by_gene_of_the_transposed_table(by_spot, by_gene):
    y_true, y_pred, where = table()
    counts = where.astype(float)
    expected = by_gene(y_true.T, y_pred.T, MetricContext(counts=counts.T))
    np.testing.assert_array_equal(by_spot(y_true, y_pred, MetricContext(counts=counts)), expected)
    assert expected.shape == (40,)


def pairs(y_true, y_pred, where):
    return [(y_true[w, g], y_pred[w, g]) for g, w in enumerate(where.T)]
