"""The reliability figure shows the numbers that the model keeps, and says them in words."""

import numpy as np
import pytest

from hescribe.bench.interval import IntervalInfo, fit_interval
from hescribe.errors import InputError
from hescribe.report.reliability import describe_reliability, reliability_figure

INFO = IntervalInfo(
    level=0.9, rests_on="spots", n_donors=3, by_donor={"A": 0.91, "B": 0.64, "C": 0.94},
    curve=((0.5, 0.45), (0.9, 0.83)),
)  # fmt: skip


def test_the_curve_and_the_donors_are_drawn_as_they_are():
    curve, donors = reliability_figure(INFO).axes
    promised = next(line for line in curve.lines if line.get_marker() == "o")
    assert promised.get_xydata().tolist() == [[0.5, 0.45], [0.9, 0.83]]
    (dots,) = donors.collections
    assert dots.get_offsets().tolist() == [[0.64, 0.0], [0.91, 1.0], [0.94, 2.0]]
    assert [t.get_text() for t in donors.get_yticklabels()] == ["B", "A", "C"]


def test_it_is_said_in_words_for_those_who_do_not_see_it():
    assert describe_reliability(INFO) == (
        "90% intervals held 83% of the values on average over 3 donors, 64% (B) to 94% (C); promised and held: "
        "50% and 45%, 90% and 83%"
    )


def test_a_donor_who_is_hardly_covered_is_inside_the_figure():
    low = IntervalInfo(level=0.9, rests_on="donors", n_donors=2, by_donor={"A": 0.05, "B": 0.9}, curve=((0.9, 0.475),))
    _, donors = reliability_figure(low).axes
    assert donors.get_xlim()[0] < 0.05


def test_many_donors_are_drawn_without_names():
    rng = np.random.default_rng(0)
    info = fit_interval({f"D{i}": rng.normal(size=(50, 2)) for i in range(30)}).info
    _, donors = reliability_figure(info).axes
    assert donors.get_yticklabels() == []
    assert len(donors.collections[0].get_offsets()) == 30


def test_a_single_donor_has_no_reliability_to_draw():
    one = IntervalInfo(level=0.9, rests_on="spots", n_donors=1, by_donor={}, curve=())
    with pytest.raises(InputError, match="two donors at least"):
        reliability_figure(one)
    assert "nothing was left out" in describe_reliability(one)
