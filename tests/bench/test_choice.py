"""The simplest candidate that is not told apart from the best is picked, and nothing where nothing is worth it."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe.bench.choice import Candidate, Chance, Controls, choose_simplest

CONTROLS = Controls(
    chance=Chance(mean=0.01, sd=0.01, n_shuffles=10),
    chance_without_depth=Chance(mean=0.0, sd=0.005, n_shuffles=10),
    depth_oracle=0.18,
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
        "Shuffled pairs reach 0.010 ± 0.010, and without depth (it keeps 0.040) 0.000 ± 0.005",
        "total counts of a spot alone, which no image shows, reach 0.180",
        "A score picked among 3 is too good",
    ):
        assert part in choice.reason


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ((0.02, 0.03, 0.025), "which shuffled pairs may reach as well (0.010 ± 0.010)"),
        ((0.4, -0.1, -0.1), "which is not told apart from the train mean"),
    ],
)
def test_nothing_is_picked_where_nothing_beats_the_mean_or_chance(scores, why):
    choice = choose_simplest([MEAN, candidate("color_ridge", *scores)], CONTROLS)
    assert choice.picked is None
    assert "no candidate is worth fitting: the best, color_ridge" in choice.reason
    assert why in choice.reason


@pytest.mark.parametrize("others", [[], [candidate("knn", problem="k is 36 and there are 30 train spots")]])
def test_nothing_is_picked_where_only_the_train_mean_could_be_scored(others):
    choice = choose_simplest([MEAN, *others], CONTROLS)
    assert choice.picked is None
    assert "none was scored but mean, which tells no spot from another" in choice.reason
    assert all(f"{c.model}: {c.problem}" in choice.reason for c in others)


def test_one_candidate_is_the_best_of_none():
    only = choose_simplest([candidate("color_ridge", 0.2, 0.2, 0.2)], CONTROLS)
    assert "(Pearson 0.200 on 3 held-out donors): the only candidate that was scored." in only.reason
    assert "too good" not in only.reason
    assert "blocks of one donor say nothing of another." not in only.reason


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


def test_what_is_left_without_depth_can_stand_clear_of_chance_alone():
    """Shuffled pairs that follow depth spread widely, and hide a signal that does not."""
    controls = replace(CONTROLS, chance=Chance(mean=0.09, sd=0.05, n_shuffles=10))
    colour = candidate("color_ridge", 0.17, 0.19, 0.18)
    assert choose_simplest([MEAN, replace(colour, without_depth=0.01)], controls).picked is None
    assert choose_simplest([MEAN, replace(colour, without_depth=0.04)], controls).picked == "color_ridge"


@pytest.mark.parametrize(("level", "is_picked"), [(0.019, False), (0.021, True)])
def test_a_score_that_tells_no_two_spots_apart_is_not_worth_a_fit(level, is_picked):
    """However small the spread of a colour ridge on shuffled pairs: other methods have another one."""
    tight = Chance(mean=0.0, sd=0.001, n_shuffles=10)
    controls = Controls(chance=tight, chance_without_depth=tight, depth_oracle=0.2)
    choice = choose_simplest([MEAN, candidate("position", level, level, level)], controls)
    assert (choice.picked is not None) == is_picked


def test_the_limit_of_chance_rises_with_the_looks_and_falls_with_the_shuffles():
    """One-sided 5 % point of Student's t with 9 degrees of freedom 1.8331, 0.5 % point 3.2498 (any table of it)."""
    chance = Chance(mean=0.1, sd=0.02, n_shuffles=10)
    assert chance.limit(1) == pytest.approx(0.1 + 1.8331 * 0.02 * 1.1**0.5, abs=1e-5)
    assert chance.limit(10) == pytest.approx(0.1 + 3.2498 * 0.02 * 1.1**0.5, abs=1e-5)
    assert replace(chance, n_shuffles=100).limit(1) < chance.limit(1)


def test_a_limit_for_all_looks_keeps_cohorts_without_signal_from_being_fitted():
    """Scores drawn like those of shuffled pairs: at most one in twenty of such cohorts may be fitted."""
    rng = np.random.default_rng(0)
    n_fitted = 0
    for _ in range(400):
        draws = rng.normal(0.02, 0.01, 10), rng.normal(0.0, 0.005, 10)
        controls = Controls(chance=Chance.of(draws[0]), chance_without_depth=Chance.of(draws[1]), depth_oracle=0.2)
        found = []
        for name in "abcde":
            level, rest = rng.normal(0.02, 0.01), rng.normal(0.0, 0.005)
            found.append(replace(candidate(name, level, level, level), without_depth=rest))
        n_fitted += choose_simplest(found, controls).picked is not None
    assert n_fitted / 400 < 0.07  # 5 % and two standard errors


def test_chance_is_mean_and_spread_over_shuffles():
    chance = Chance.of([0.0, 0.02, 0.04])
    assert (chance.mean, chance.sd, chance.n_shuffles) == pytest.approx((0.02, 0.02, 3))
