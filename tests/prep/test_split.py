"""Folds keep donors apart; one donor falls back to stripes with a margin."""

import numpy as np
import pytest

from hescribe.errors import InputError
from hescribe.prep.split import inner_folds, leave_one_out


def test_each_donor_is_held_out_once(cohort):
    folds = leave_one_out(cohort, "donor")
    assert [name for name, _, _ in folds] == ["D0", "D1", "D2"]
    for name, train, test in folds:
        assert test.donors == (name,)
        assert name not in train.donors
        assert len(train) + len(test) == len(cohort)


def test_one_donor_cannot_be_held_out(cohort):
    one = cohort.where(lambda s: s.donor == "D0")
    with pytest.raises(InputError, match=r"has one donor only \(D0\)"):
        leave_one_out(one, "donor")


def test_inner_folds_leave_a_train_donor_out(cohort):
    train = cohort.where(lambda s: s.donor != "D2")
    assert [outer.donors for _, outer in inner_folds(train)] == [("D0",), ("D1",)]


def test_stripes_of_one_donor_cover_every_spot_once_and_keep_their_distance(cohort):
    one = cohort.where(lambda s: s.donor == "D0")
    folds = inner_folds(one, view_um=150.0)
    times_validated = np.sum([outer[0].kept for _, outer in folds], axis=0)
    assert (times_validated == 1).all()
    for inner, outer in folds:
        train_xy, val_xy = inner[0].xy_um[inner[0].kept], outer[0].xy_um[outer[0].kept]
        gap = np.linalg.norm(train_xy[:, None] - val_xy[None], axis=2).min()
        assert gap > 150.0


def test_the_margin_is_given_up_where_it_would_cost_most_of_the_train_spots(cohort):
    one = cohort.where(lambda s: s.donor == "D0")
    for inner, outer in inner_folds(one, view_um=5000.0):
        assert inner[0].kept.sum() + outer[0].kept.sum() == inner[0].n_spots
