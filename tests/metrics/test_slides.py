"""Scores of slides agree with hand counts, with scikit-learn, and with a bootstrap that repeats rows."""

import numpy as np
import pytest
from sklearn import metrics

from hescribe.metrics.slides import auc, balanced_accuracy, concordance, macro_auc, quadratic_kappa

rng = np.random.default_rng(0)
CODES = np.arange(40) % 4
PROBABILITY = rng.dirichlet(np.ones(4), size=40).round(1) + 0.01  # rounded, so that some are tied
PROBABILITY /= PROBABILITY.sum(axis=1, keepdims=True)
TIME, EVENT, RISK = rng.integers(1, 15, 40).astype(float), rng.random(40) > 0.4, rng.integers(0, 9, 40).astype(float)


def test_auc_is_that_of_scikit_learn():
    positive = CODES == 2
    assert auc(positive, PROBABILITY[:, 2])[0] == pytest.approx(metrics.roc_auc_score(positive, PROBABILITY[:, 2]))
    expected = metrics.roc_auc_score(CODES, PROBABILITY, multi_class="ovr")
    assert macro_auc(CODES, PROBABILITY)[0] == pytest.approx(expected)


def test_accuracy_and_kappa_are_those_of_scikit_learn():
    told = PROBABILITY.argmax(axis=1)
    assert balanced_accuracy(CODES, PROBABILITY)[0] == pytest.approx(metrics.balanced_accuracy_score(CODES, told))
    expected = metrics.cohen_kappa_score(CODES, told, weights="quadratic")
    assert quadratic_kappa(CODES, PROBABILITY)[0] == pytest.approx(expected)


def test_concordance_of_a_table_counted_by_hand():
    """Known pairs: 1 before 2, 3, 4; 2 and 3 end together and 2 alone is an event; 2 before 4."""
    time, event = np.array([1.0, 2.0, 2.0, 4.0]), np.array([True, True, False, True])
    risk = np.array([3.0, 3.0, 4.0, 1.0])  # tied, lost, won; lost; won
    assert concordance(time, event, risk)[0] == pytest.approx((0.5 + 0 + 1 + 0 + 1) / 5)


def test_a_higher_risk_is_an_earlier_event():
    everybody = np.ones(40, dtype=bool)
    assert concordance(np.arange(1.0, 41), everybody, -np.arange(40.0))[0] == 1


@pytest.mark.parametrize(
    "score",
    [
        lambda rows, w: macro_auc(CODES[rows], PROBABILITY[rows], w),
        lambda rows, w: balanced_accuracy(CODES[rows], PROBABILITY[rows], w),
        lambda rows, w: quadratic_kappa(CODES[rows], PROBABILITY[rows], w),
        lambda rows, w: concordance(TIME[rows], EVENT[rows], RISK[rows], w),
    ],
    ids=["macro_auc", "balanced_accuracy", "quadratic_kappa", "concordance"],
)
def test_weights_count_a_slide_as_often_as_it_is_drawn(score):
    drawn = np.random.default_rng(1).integers(40, size=(3, 40))
    weights = np.stack([np.bincount(d, minlength=40) for d in drawn])
    np.testing.assert_allclose(score(np.arange(40), weights), [score(d, None)[0] for d in drawn], rtol=1e-12)


def test_what_cannot_be_compared_is_undefined():
    nobody = np.zeros(3, dtype=bool)
    assert np.isnan(auc(nobody, np.arange(3.0))[0])
    assert np.isnan(concordance(np.arange(1.0, 4), nobody, np.arange(3.0))[0])
