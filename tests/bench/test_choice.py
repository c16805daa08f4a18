"""The simplest candidate that is not told apart from the best is picked, and nothing where nothing is worth it."""

from dataclasses import replace

import pytest

from hescribe.bench.choice import Candidate, Chance, Controls, choose_simplest

CONTROLS = Controls(
    chance=Chance(mean=0.01, sd=0.01), chance_without_depth=Chance(mean=0.0, sd=0.005), depth_oracle=0.18
)


def candidate(model, *scores, problem=""):
    by_donor = dict(zip("ABCD", scores, strict=False))
    return Candidate(
        model=model, score=sum(scores) / len(scores) if scores else None, by_donor=by_donor, problem=problem
    )


MEAN = candidate("mean", 0.0, 0.0, 0.0)


def test_a_difference_within_one_standard_error_goes_to_the_simpler_one():
    """Differences .00, .03, .06: mean .03, sd .03, standard error .03 / sqrt 3 = .0173; less .02 each they tie."""
    colour = candidate("color_ridge", 0.10, 0.10, 0.10)
    ahead = candidate("mlp", 0.10, 0.13, 0.16)
    near = candidate("mlp", 0.08, 0.11, 0.14)
    first, second = (choose_simplest([MEAN, colour, c], CONTROLS) for c in (ahead, near))
    assert first.picked == "mlp"
    assert second.picked == "color_ridge"
    found = {c.model: c for c in first.candidates}
    assert found["color_ridge"].behind == pytest.approx(0.03)
    assert found["color_ridge"].margin == pytest.approx(0.01732, abs=1e-5)
    assert found["color_ridge"].verdict == "behind the best"
    assert {c.model: c.verdict for c in second.candidates}["mlp"] == "best"


def test_differences_are_paired_for_donors_differ_more_than_models():
    """Both differ by .2 between donors; the one that is ahead by .02 on every donor is told apart all the same."""
    choice = choose_simplest(
        [MEAN, candidate("color_ridge", 0.1, 0.2, 0.3), candidate("context_ridge", 0.12, 0.22, 0.32)], CONTROLS
    )
    assert choice.picked == "context_ridge"


@pytest.mark.parametrize(("gap", "picked"), [(0.019, "color_ridge"), (0.021, "mlp")])
def test_with_two_donors_the_margin_is_twice_the_spread_of_shuffled_pairs(gap, picked):
    two = [candidate("mean", 0, 0), candidate("color_ridge", 0.1, 0.1), candidate("mlp", 0.1 + gap, 0.1 + gap)]
    choice = choose_simplest(two, CONTROLS)
    assert choice.picked == picked
    assert "2 spreads of shuffled pairs, for fewer than 3 donors" in choice.rule


def test_blocks_of_one_donor_do_not_count_as_donors():
    four = [candidate("mean", 0, 0, 0, 0), candidate("color_ridge", 0.1, 0.1, 0.1, 0.1)]
    better = candidate("mlp", 0.11, 0.11, 0.11, 0.11)
    assert choose_simplest([*four, better], CONTROLS).picked == "mlp"
    choice = choose_simplest([*four, better], CONTROLS, by_block=True)
    assert choice.picked == "color_ridge"
    assert "4 blocks of one donor" in choice.reason
    assert "blocks of one donor say nothing of another" in choice.reason


def test_the_reason_names_what_it_beats_what_it_cannot_know_and_that_it_is_too_good():
    colour, knn = candidate("color_ridge", 0.10, 0.11, 0.09), candidate("encoder_knn", 0.12, 0.10, 0.09)
    choice = choose_simplest([MEAN, replace(colour, without_depth=0.04), knn], CONTROLS)
    assert choice.picked == "color_ridge"
    for part in (
        "Picked color_ridge (Pearson 0.100 on 3 held-out donors)",
        "the simplest of 3 candidates that is not told apart from the best, encoder_knn (0.103;",
        "beats the train mean and shuffled pairs (0.010 ± 0.010); without depth it keeps 0.040",
        "total counts of a spot alone, which no image shows, reach 0.180",
        "A score picked among 3 is too good",
    ):
        assert part in choice.reason


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ((0.02, 0.03, 0.025), "which shuffled pairs reach as well (0.010 ± 0.010)"),
        ((0.4, -0.1, -0.1), "which is not told apart from the train mean"),
    ],
)
def test_nothing_is_picked_where_nothing_beats_the_mean_or_chance(scores, why):
    choice = choose_simplest([MEAN, candidate("color_ridge", *scores)], CONTROLS)
    assert choice.picked is None
    assert "no candidate is worth fitting: the best, color_ridge" in choice.reason
    assert why in choice.reason


def test_a_tie_below_chance_is_not_picked_for_being_simple():
    """Position is within one standard error of the best only because it is erratic, and no better than chance."""
    erratic = candidate("position", 0.2, -0.2, 0.05)
    choice = choose_simplest([MEAN, erratic, candidate("color_ridge", 0.1, 0.1, 0.12)], CONTROLS)
    assert choice.picked == "color_ridge"


def test_of_equals_the_first_is_the_best():
    choice = choose_simplest([MEAN, candidate("a", 0.1, 0.1, 0.1), candidate("b", 0.1, 0.1, 0.1)], CONTROLS)
    assert choice.picked == "a"
    assert choice.candidates[2].margin == 0


def test_what_failed_is_shown_in_its_place_with_its_reason():
    failed = candidate("encoder_ridge", problem="the weights are not here")
    choice = choose_simplest([MEAN, failed, candidate("color_ridge", 0.1, 0.1, 0.1)], CONTROLS)
    assert [c.model for c in choice.candidates] == ["mean", "encoder_ridge", "color_ridge"]
    assert (choice.candidates[1].verdict, choice.candidates[1].problem) == ("failed", "the weights are not here")
    assert choice.picked == "color_ridge"


def test_chance_is_mean_and_spread_over_shuffles():
    chance = Chance.of([0.0, 0.02, 0.04])
    assert (chance.mean, chance.sd) == pytest.approx((0.02, 0.02))
    assert chance.is_beaten_by(0.061)
    assert not chance.is_beaten_by(0.059)
