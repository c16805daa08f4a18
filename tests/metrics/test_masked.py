"""Scores on some entries, against the plain score of those entries."""

import numpy as np
import pytest
from scipy import stats

from hescribe.errors import InputError
from hescribe.metrics.base import MetricContext
from hescribe.metrics.masked import MSE_MEASURED, PEARSON_MEASURED, coverage, masked_correlation


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
