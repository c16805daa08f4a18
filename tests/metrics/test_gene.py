"""Scores of expression against scipy, hand-computed numbers and planted faults."""

import numpy as np
import pytest
from scipy import stats

from hescribe.errors import InputError
from hescribe.metrics.base import MetricContext, all_metrics, summarise
from hescribe.metrics.gene import (
    DEPTH_PARTIAL,
    MAE,
    MSE,
    PEARSON,
    PEARSON_SPOT,
    PEARSON_TOP50,
    R2,
    SPEARMAN,
    remove_linear,
)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    y_true = rng.poisson(2.0, (60, 5)).astype(np.float32)
    return y_true, (y_true + rng.normal(0, 1, y_true.shape)).astype(np.float32)


@pytest.mark.parametrize(("metric", "reference"), [(PEARSON, stats.pearsonr), (SPEARMAN, stats.spearmanr)])
def test_correlation_equals_scipy(pair, metric, reference):
    y_true, y_pred = pair
    expected = [reference(y_true[:, g].astype(float), y_pred[:, g].astype(float))[0] for g in range(5)]
    np.testing.assert_allclose(metric(y_true, y_pred), expected, atol=1e-12)


def test_a_gene_seen_in_one_spot_of_three_thousand_keeps_its_correlation():
    y_true = np.zeros((3000, 1), np.float32)
    y_true[7] = 3
    y_pred = np.random.default_rng(1).normal(size=y_true.shape).astype(np.float32)
    expected = stats.pearsonr(y_true[:, 0].astype(float), y_pred[:, 0].astype(float))[0]
    np.testing.assert_allclose(PEARSON(y_true, y_pred)[0], expected, rtol=1e-6)


def test_constant_genes_are_undefined_and_counted():
    y_true = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 4.0], [2.0, 1.0, 9.0]])
    y_pred = np.array([[0.0, 1.0, 5.0], [1.0, 2.0, 5.0], [2.0, 3.0, 5.0]])
    summary = PEARSON.summary(y_true, y_pred)
    assert (summary.value, summary.n_defined, summary.n_undefined) == (1.0, 1, 2)


def test_rounding_of_a_constant_prediction_is_no_variation():
    y_true = np.arange(10.0)[:, None]
    y_pred = np.full((10, 1), 3.3) * (1 + 1e-9 * np.arange(10)[:, None])
    assert np.isnan(PEARSON(y_true, y_pred)[0])


def test_errors_by_hand():
    y_true, y_pred = np.array([[1.0], [3.0]]), np.array([[2.0], [5.0]])
    assert MSE(y_true, y_pred)[0] == 2.5  # (1 + 4) / 2
    assert MAE(y_true, y_pred)[0] == 1.5
    assert R2(y_true, y_pred)[0] == -1.5  # 1 - 5 / 2


def test_depth_partial_removes_what_depth_explains():
    rng = np.random.default_rng(2)
    depth = np.exp(rng.normal(7, 1, 500))
    signal = rng.normal(size=500)
    y_true = (np.log(depth) + signal)[:, None]
    context = MetricContext(depth=depth)
    assert np.isnan(DEPTH_PARTIAL(y_true, np.log(depth)[:, None], context)[0])
    only_signal = DEPTH_PARTIAL(y_true, (signal - 2 * np.log(depth))[:, None], context)[0]
    assert only_signal == pytest.approx(1.0)
    assert PEARSON(y_true, (signal - 2 * np.log(depth))[:, None])[0] < 0


def test_depth_partial_equals_the_residual_correlation_of_least_squares():
    rng = np.random.default_rng(3)
    depth, y_true, y_pred = np.exp(rng.normal(7, 1, 80)), rng.normal(size=(80, 1)), rng.normal(size=(80, 1))
    design = np.column_stack([np.ones(80), np.log(depth)])
    rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (y_true, y_pred)]
    expected = stats.pearsonr(rest[0][:, 0], rest[1][:, 0])[0]
    assert DEPTH_PARTIAL(y_true, y_pred, MetricContext(depth=depth))[0] == pytest.approx(expected)


def test_depth_partial_without_depth_is_refused():
    with pytest.raises(InputError, match="depth of every spot"):
        DEPTH_PARTIAL(np.ones((3, 1)), np.ones((3, 1)))


def test_remove_linear_leaves_values_alone_where_the_covariate_is_constant():
    values = np.array([[1.0], [2.0], [6.0]])
    np.testing.assert_allclose(remove_linear(values, np.ones(3))[:, 0], [-2, -1, 3])


def test_spot_scores_are_gene_scores_of_the_transposed_table(pair):
    y_true, y_pred = pair
    np.testing.assert_allclose(PEARSON_SPOT(y_true, y_pred), PEARSON(y_true.T, y_pred.T))


def test_a_transposed_prediction_is_refused(pair):
    y_true, y_pred = pair
    with pytest.raises(InputError, match=r"shape \(5, 60\), expected \(60, 5\)"):
        PEARSON(y_true, y_pred.T)


def test_a_permuted_panel_scores_lower(pair):
    y_true, y_pred = pair
    assert PEARSON.summary(y_true, y_pred[:, ::-1]).value < PEARSON.summary(y_true, y_pred).value - 0.3


COUNTS = np.random.default_rng(5).poisson(1.0, (60, 5))


@pytest.mark.parametrize("metric", all_metrics().values(), ids=lambda m: m.name)
class TestMetricContract:
    def test_names_the_place_of_a_value_that_is_not_finite(self, metric):
        y_pred = np.ones((4, 3))
        y_pred[2, 1] = np.nan
        with pytest.raises(InputError, match="y_pred is not finite at spot 2, gene 1"):
            metric(np.ones((4, 3)), y_pred)

    def test_stays_within_its_bounds_and_has_one_value_a_gene_or_spot(self, metric, pair):
        values = metric(*pair, MetricContext(depth=np.arange(60.0) + 1, counts=COUNTS))
        assert values.shape == ({"gene": 5, "spot": 60, "entry": (COUNTS > 0).sum()}[metric.axis],)
        defined = values[np.isfinite(values)]
        assert (defined >= metric.bounds[0]).all()
        assert (defined <= metric.bounds[1]).all()

    def test_does_not_depend_on_the_order_of_spots(self, metric, pair):
        order, depth = np.random.default_rng(4).permutation(60), np.exp(np.linspace(1, 3, 60))
        one = metric(*pair, MetricContext(depth=depth, counts=COUNTS))
        other = metric(*(p[order] for p in pair), MetricContext(depth=depth[order], counts=COUNTS[order]))
        if metric.axis == "entry":
            one, other = np.sort(one), np.sort(other)
        np.testing.assert_allclose(other, one[order] if metric.axis == "spot" else one, atol=1e-12)

    def test_perfect_prediction_gets_the_best_score(self, metric, pair):
        best = metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
        values = metric(pair[0], pair[0], MetricContext(depth=np.exp(np.linspace(1, 3, 60)), counts=COUNTS))
        assert np.isfinite(values).sum() > len(values) / 2
        np.testing.assert_allclose(values[np.isfinite(values)], best, atol=1e-9)


def test_nothing_defined_is_nan_with_its_count():
    summary = summarise(np.full(3, np.nan))
    assert np.isnan(summary.value)
    assert (summary.n_defined, summary.n_undefined) == (0, 3)


def test_the_fifty_genes_are_those_of_highest_mean_in_what_is_scored():
    """Genes 10 to 59 are high and predicted exactly; 0 to 9 are low and predicted upside down."""
    rng = np.random.default_rng(4)
    y_true = rng.normal(size=(30, 60)) + np.where(np.arange(60) < 10, 0.0, 100.0)
    y_pred = np.where(np.arange(60) < 10, -y_true, y_true)
    summary = PEARSON_TOP50.summary(y_true, y_pred)
    assert (summary.value, summary.n_defined, summary.n_undefined) == (pytest.approx(1.0), 50, 0)
    assert PEARSON.summary(y_true, y_pred).value == pytest.approx((50 - 10) / 60)


def test_a_panel_below_fifty_genes_is_scored_whole(pair):
    np.testing.assert_allclose(PEARSON_TOP50(*pair), PEARSON(*pair), rtol=1e-12)
