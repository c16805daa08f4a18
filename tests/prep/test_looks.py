"""The score of unlike spots: calibrated on donors left out, and blind to no fact."""

import numpy as np
import pytest

from hescribe.errors import InputError
from hescribe.prep.looks import Looks


def donors(n, *, n_spots=400, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return {f"D{i}": rng.normal(shift * rng.normal(size=3), 1.0, (n_spots, 3)) for i in range(n)}


def test_new_donors_like_the_training_donors_are_spread_evenly_over_the_score():
    """Ten donors who differ as much as their spots do: a tenth of new spots lies in the last tenth of the score."""
    found = np.concatenate(
        [Looks.fit(donors(10, seed=s)).score(x) for s in range(30) for x in donors(2, seed=1000 + s).values()]
    )
    assert found.mean() == pytest.approx(0.5, abs=0.05)
    assert (found > 0.9).mean() == pytest.approx(0.1, abs=0.04)


def test_a_fact_beyond_all_training_spots_is_seen():
    looks = Looks.fit(donors(6))
    odd = donors(1, seed=9)["D0"].copy()
    odd[:, 2] += 12.0
    assert looks.score(odd).min() > 0.95


def test_what_lies_between_two_kinds_of_spots_is_unlike_both():
    """A mean and a spread would call it the most usual spot of all."""
    rng = np.random.default_rng(0)
    two = {f"D{i}": rng.normal(0, 0.1, (200, 1)) + np.repeat([[0.0], [10.0]], 100, axis=0) for i in range(5)}
    assert Looks.fit(two).score(np.array([[5.0]]))[0] > 0.95
    assert Looks.fit(two).score(np.array([[0.0], [10.0]])).max() < 0.9


def test_the_predictors_own_score_counts_where_the_facts_see_nothing():
    facts = donors(5)
    own = {d: np.random.default_rng(0).random(len(x)) for d, x in facts.items()}
    looks, new = Looks.fit(facts, own), donors(1, seed=5)["D0"]
    high = looks.score(new, np.full(len(new), 2.0))
    assert high.min() > 0.95
    assert looks.score(new, np.zeros(len(new))).mean() < 0.7


def test_one_donor_is_left_out_block_by_block():
    looks = Looks.fit(donors(1))
    new = np.random.default_rng(7).normal(donors(1)["D0"].mean(axis=0), 1.0, (400, 3))
    assert looks.score(new).mean() == pytest.approx(0.5, abs=0.1)


def test_a_single_spot_is_enough_and_the_rest_is_unlike_it():
    looks = Looks.fit({"A": np.zeros((1, 2))})
    score = looks.score(np.array([[0.0, 0.0], [3.0, 0.0], [4.0, 0.0]]))
    assert score[0] == 0.0
    assert 0.99 < score[1] <= score[2] <= 1.0


def test_the_further_from_all_training_spots_the_higher_the_score():
    """It stays below 1, and does not end in a tie where a slide is unlike as a whole."""
    looks = Looks.fit(donors(6))
    score = looks.score(np.array([[10.0, 0.0, 0.0], [20.0, 0.0, 0.0], [80.0, 0.0, 0.0]]))
    assert 0.99 < score[0] < score[1] < score[2] < 1.0


def test_the_side_on_which_a_fact_leaves_its_range_is_told():
    looks = Looks.fit(donors(5, shift=0.0))
    below, above = looks.beyond(np.array([[0.0, -9.0, 9.0], [0.0, -9.0, 0.0]]))
    assert below.tolist() == [0.0, 1.0, 0.0]
    assert above.tolist() == [0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("facts", "own", "message"),
    [
        ({}, None, "at least one spot"),
        ({"A": np.zeros((0, 3))}, None, "at least one spot"),
        ({"A": np.array([[np.nan, 0.0]])}, None, "finite facts"),
        ({"A": np.zeros((4, 2))}, {"A": np.zeros(3)}, "3 scores for 4 spots"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(facts, own, message):
    with pytest.raises(InputError, match=message):
        Looks.fit(facts, own)
