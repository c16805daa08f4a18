"""Regions from few labelled spots: more labels help, chance is .5, and what is too little is told."""

import numpy as np
import pytest

from hescribe.bench.region_shots import LabelledSpots, score_shots
from hescribe.errors import InputError

NAMES = np.array(["fat", "stroma", "tumour"])


def spots(donor: str, distance: float, seed: int, n: int = 90) -> LabelledSpots:
    """Return spots of three regions, around corners that lie ``distance`` sd of a spot apart."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) % 3
    return LabelledSpots(donor, rng.normal(size=(n, 8)) + distance * np.eye(8)[code], NAMES[code])


def test_more_labelled_spots_tell_regions_better_and_far_regions_are_told_at_once():
    scores = score_shots([spots("A", 2.0, 0), spots("B", 2.0, 1)], spots("C", 2.0, 2), shots=(1, 16))
    by_k = {k: np.mean([s.auc for s in scores if s.k == k]) for k in (1, 16)}
    assert 0.6 < by_k[1] < by_k[16] - 0.05
    (far,) = score_shots([spots("A", 20.0, 0)], spots("C", 20.0, 2), shots=(1,), n_seeds=1)
    assert (far.auc, far.n_regions, far.donor) == (1.0, 3, "C")


def test_regions_that_look_alike_are_told_by_chance():
    scores = score_shots([spots("A", 0.0, 0)], spots("C", 0.0, 2), shots=(8,))
    assert np.mean([s.auc for s in scores]) == pytest.approx(0.5, abs=0.05)


def test_draws_are_the_same_for_every_embedding_of_the_same_spots():
    train, test = spots("A", 1.0, 0), spots("C", 1.0, 2)
    again = [LabelledSpots(s.donor, 5 * s.x, s.region) for s in (train, test)]
    first, second = (score_shots([a], b, shots=(4,), n_seeds=3) for a, b in ((train, test), again))
    np.testing.assert_allclose([s.auc for s in first], [s.auc for s in second])


def test_too_few_labelled_spots_are_told():
    few = LabelledSpots("A", np.zeros((4, 2)), np.array(["fat", "fat", "fat", "tumour"]))
    with pytest.raises(InputError, match="donor C has 1 regions with 2 labelled train spots; needs 2"):
        score_shots([few], LabelledSpots("C", np.zeros((2, 2)), np.array(["fat", "tumour"])), shots=(1, 2))
