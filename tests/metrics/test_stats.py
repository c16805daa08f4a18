"""Averages over sections and donors, and their intervals."""

import numpy as np

from hescribe.metrics.stats import bootstrap_interval, donor_mean


def test_sections_are_averaged_within_a_donor_first():
    mean = donor_mean([("A", 1.0), ("A", 2.0), ("A", 3.0), ("B", 10.0)])
    assert mean.value == 6.0  # (2 + 10) / 2, not 16 / 4
    assert mean.by_donor == {"A": 2.0, "B": 10.0}


def test_fewer_than_five_donors_give_no_interval():
    assert donor_mean([(d, 1.0) for d in "ABCD"]).low is None


def test_interval_covers_the_mean_and_widens_with_the_spread():
    narrow = bootstrap_interval({f"D{i}": 0.1 + 0.01 * i for i in range(8)})
    wide = bootstrap_interval({f"D{i}": 0.1 + 0.1 * i for i in range(8)})
    assert narrow[0] < 0.135 < narrow[1]
    assert wide[1] - wide[0] > 5 * (narrow[1] - narrow[0])


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        values = rng.normal(0, 1, 12)
        low, high = bootstrap_interval(dict(enumerate(values.tolist())), seed=trial, n_resamples=500)
        hits += low < 0 < high
    assert 0.85 < hits / 200 < 0.98  # a percentile bootstrap of 12 values is a little narrow


def test_undefined_sections_are_left_out_and_all_undefined_is_nan():
    assert donor_mean([("A", float("nan")), ("A", 2.0)]).value == 2.0
    assert np.isnan(donor_mean([("A", float("nan"))]).value)
