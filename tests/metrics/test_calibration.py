"""Coverage and score of intervals, by hand and against a normal distribution."""

import numpy as np
import pytest
from scipy import stats

from hescribe.errors import InputError
from hescribe.metrics.calibration import interval_coverage, interval_score

Y = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])


def ends(low, high):
    return np.full_like(Y, low), np.full_like(Y, high)


def test_coverage_is_counted_gene_by_gene_and_the_ends_belong_to_the_interval():
    assert interval_coverage(Y, *ends(1.0, 3.0)).tolist() == [0.75, 0.0]


def test_the_score_is_the_width_and_the_price_of_what_lies_outside():
    """Width 2; at level 0.8 a miss costs ten times its distance: (1 + 0 + 0 + 0) / 4 and 2 for each spot."""
    np.testing.assert_allclose(interval_score(Y, *ends(1.0, 3.0), 0.8), [2 + 10 * 0.25, 2 + 10 * 2])


def test_the_true_quantiles_score_better_than_wider_or_narrower_ones():
    """Of a standard normal, the central interval at 90 % is the best there is: scipy knows its ends."""
    y = np.random.default_rng(0).normal(size=(20_000, 1))
    best = stats.norm.interval(0.9)

    def score(factor):
        return interval_score(y, np.full_like(y, best[0] * factor), np.full_like(y, best[1] * factor), 0.9)[0]

    assert score(1.0) < min(score(0.8), score(1.3))
    assert interval_coverage(y, np.full_like(y, best[0]), np.full_like(y, best[1]))[0] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("y", "low", "high", "message"),
    [
        (Y, *ends(3.0, 1.0), "ends before it begins; are lower and upper swapped"),
        (Y, np.zeros((4, 1)), np.ones((4, 1)), r"expected \(4, 2\)"),
        (Y[:0], Y[:0], Y[:0], "at least one spot"),
        (np.where(Y == 3.0, np.nan, Y), *ends(0.0, 1.0), "y_true is not finite at spot 3, gene 0"),
        (Y, *ends(-np.inf, 1.0), "lower is not finite at spot 0, gene 0"),
    ],
)
def test_what_are_no_intervals_is_refused(y, low, high, message):
    with pytest.raises(InputError, match=message):
        interval_coverage(y, low, high)


@pytest.mark.parametrize("level", [0.0, 1.0, 90, float("nan")])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(InputError, match="between 0 and 1"):
        interval_score(Y, *ends(0.0, 1.0), level)
