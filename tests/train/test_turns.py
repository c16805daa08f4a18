"""Groups take turns: equal shares whatever their sizes, evenly spread, and every row as often as it can be."""

import numpy as np
import pytest

from hescribe.train.turns import take_turns

UNEVEN = np.array(["A"] * 900 + ["B"] * 90 + ["C"] * 10)


@pytest.fixture
def order():
    return take_turns(UNEVEN, np.random.default_rng(0))


def test_a_planted_imbalance_is_evened_out(order):
    """One donor has 90 times the spots of another, and all have a third of the rows."""
    names, counts = np.unique(UNEVEN[order], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)).keys() == {"A", "B", "C"}
    assert counts.max() - counts.min() <= 1


def test_every_batch_is_even_within_one(order):
    for start in range(0, 1000, 64):
        counts = np.unique(UNEVEN[order[start : start + 64]], return_counts=True)[1]
        assert len(counts) == 3
        assert counts.max() - counts.min() <= 2  # one for a turn that began in the batch before, one for this one


def test_rows_of_a_group_come_up_equally_often(order):
    """334 turns: C's ten rows 33 or 34 times, B's ninety 3 or 4 times, A's at most once."""
    times = np.bincount(order, minlength=1000)
    assert set(times[990:]) <= {33, 34}
    assert set(times[900:990]) <= {3, 4}
    assert set(times[:900]) == {0, 1}


@pytest.mark.parametrize("groups", [np.zeros(7), np.array([0, 1] * 8), np.array(["x", "y", "z"])])
def test_groups_of_equal_size_give_each_row_once(groups):
    order = take_turns(groups, np.random.default_rng(0))
    assert sorted(order) == list(range(len(groups)))


def test_a_seed_decides_the_order():
    one, same, other = (take_turns(UNEVEN, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_no_rows_give_none():
    assert take_turns(np.zeros(0), np.random.default_rng(0)).shape == (0,)
