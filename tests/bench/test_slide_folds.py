"""Folds and shots of slides keep donors and sites whole and classes level."""

import numpy as np
import pytest

from hescribe.bench.slides.folds import deal_groups, draw_shots
from hescribe.errors import InputError

rng = np.random.default_rng(0)
DONORS = np.repeat([f"d{i:02d}" for i in range(30)], rng.integers(1, 5, 30))
STRATA = (np.array([int(d[1:]) for d in DONORS]) % 3 == 0).astype(int)


@pytest.mark.parametrize("seed", range(5))
def test_no_donor_is_in_two_folds_and_classes_are_level(seed):
    fold = deal_groups(STRATA, DONORS, 5, seed)
    assert all(len(set(fold[d == DONORS])) == 1 for d in set(DONORS))
    for stratum in (0, 1):
        counts = np.bincount(fold[stratum == STRATA], minlength=5)
        assert counts.max() - counts.min() <= 4  # no more than a donor has slides


def test_seeds_deal_otherwise_and_repeat_themselves():
    first, again, other = (deal_groups(STRATA, DONORS, 5, s) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_the_order_of_the_table_does_not_matter():
    order = np.random.default_rng(1).permutation(len(DONORS))
    np.testing.assert_array_equal(
        deal_groups(STRATA[order], DONORS[order], 5, 3), deal_groups(STRATA, DONORS, 5, 3)[order]
    )


def test_fewer_groups_than_folds_are_told():
    with pytest.raises(InputError, match="2 donors or sites cannot be dealt to 5 folds"):
        deal_groups(np.array([0, 1]), np.array(["a", "b"]), 5, 0)


def test_shots_are_so_many_donors_of_each_class_with_all_their_slides():
    rows = np.arange(len(DONORS))[5:]
    drawn = draw_shots(STRATA, DONORS, rows, 4, 0)
    for stratum in (0, 1):
        own = drawn[STRATA[drawn] == stratum]
        assert len(set(DONORS[own])) == 4
        assert set(own) == set(rows[np.isin(DONORS[rows], DONORS[own])])


def test_more_shots_than_donors_are_told():
    with pytest.raises(InputError, match="class 1 has 10 train donors and 16 were to be drawn"):
        draw_shots(STRATA, DONORS, np.arange(len(DONORS)), 16, 0)
