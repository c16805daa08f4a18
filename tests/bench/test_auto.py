"""``hescribe fit auto`` scores every candidate on held-out donors, picks one by a stated rule, and says why."""

import json

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench import auto
from hescribe.bench.auto import CANDIDATES, choose_model, fit_chosen
from hescribe.bench.ladder import create_model
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.errors import InputError, LeakageError, UnknownNameError

RULE = read_protocol("donor-v1")
OFFLINE = ("mean", "position", "color_ridge", "knn:encoder=color")  # need no weights


@pytest.fixture(scope="module")
def fitted(raw_cohort):
    return fit_chosen(choose_model(raw_cohort, RULE, OFFLINE), raw_cohort, RULE)


def test_the_method_that_reads_what_carries_the_signal_is_picked(fitted):
    choice = fitted.info.choice
    assert choice.picked == "color_ridge"
    assert (fitted.info.method, fitted.info.params["encoder"]) == ("ridge", "color")
    verdicts = {c.model: c.verdict for c in choice.candidates}
    assert verdicts["mean"] == "no better than chance"
    assert verdicts["color_ridge"] == "picked"
    assert list(verdicts) == list(OFFLINE)


def test_the_score_of_the_choice_is_that_of_the_fit_that_follows(fitted):
    """Same folds, same panel; no prediction is constant here, so that no gene counts as 0."""
    picked = next(c for c in fitted.info.choice.candidates if c.verdict == "picked")
    assert picked.score == pytest.approx(fitted.info.score, abs=1e-9)
    own = next(s for s in fitted.info.held_out if (s.model, s.metric) == ("model", "pearson"))
    assert picked.by_donor == pytest.approx(own.by_donor)
    oracle = next(s for s in fitted.info.held_out if (s.model, s.metric) == ("depth_oracle", "pearson"))
    assert fitted.info.choice.controls.depth_oracle == pytest.approx(oracle.value)


def test_the_train_mean_scores_nothing(fitted):
    floor = fitted.info.choice.candidates[0]
    assert (floor.model, floor.score, set(floor.by_donor.values())) == ("mean", 0.0, {0.0})


def test_why_it_was_picked_survives_the_disk(fitted, tmp_path):
    write_model(tmp_path / "m", fitted)
    assert read_model(tmp_path / "m").info == fitted.info
    assert json.loads((tmp_path / "m/model.json").read_text())["choice"]["picked"] == "color_ridge"


def shuffle(section):
    """Give every spot the counts of another one: what remains is chance."""
    table = section.table.copy()
    order = np.random.default_rng(int(section.id[1:])).permutation(section.n_spots)
    table.layers[keys.COUNTS] = table.layers[keys.COUNTS][order]
    table.obs[keys.DEPTH] = table.obs[keys.DEPTH].to_numpy()[order]
    return section.with_table(table)


def test_a_cohort_without_signal_is_refused(raw_cohort):
    choice = choose_model(raw_cohort.map(shuffle), RULE, OFFLINE)
    assert choice.picked is None
    with pytest.raises(InputError, match="no candidate is worth fitting"):
        fit_chosen(choice, raw_cohort, RULE)


@pytest.mark.slow
def test_one_donor_is_judged_on_blocks_and_the_choice_says_so(raw_cohort):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    choice = choose_model(one, RULE, OFFLINE)
    assert choice.by_block
    assert choice.picked == "color_ridge"
    assert set(choice.candidates[0].by_donor) == {f"block {k}" for k in range(1, 5)}
    assert "blocks of one donor say nothing of another" in choice.reason


def test_no_candidate_is_scored_on_spots_it_was_fitted_on(raw_cohort):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    for cohort in (raw_cohort, one):
        folds, _ = auto._folds(auto.PredictionTask(cohort, RULE), None)
        for _, train, test in folds:
            seen = {(s.id, spot) for s in train for spot in s.table.obs_names[s.kept]}
            assert seen
            assert not seen & {(s.id, spot) for s in test for spot in s.table.obs_names[s.kept]}


def test_a_candidate_that_cannot_be_fitted_is_shown_and_not_skipped(raw_cohort, monkeypatch):
    def refuse(model, _cohort):
        if getattr(model, "encoder", None) == "color" and model.name == "knn":
            raise LeakageError("encoder color was trained on this cohort")

    monkeypatch.setattr(auto, "check_encoder_of", refuse)
    choice = choose_model(raw_cohort, RULE, OFFLINE)
    assert choice.candidates[3].verdict == "failed"
    assert "was trained on this cohort" in choice.candidates[3].problem
    assert choice.picked == "color_ridge"


def test_wrong_candidates_are_refused_before_anything_is_fitted(raw_cohort):
    for names, message in (
        (("mean", "depth_oracle"), "depth_oracle is a control"),
        (("mean", "mean"), "named twice: mean, mean"),
        ((), "there is no candidate"),
    ):
        with pytest.raises(InputError, match=message):
            choose_model(raw_cohort, RULE, names)
    with pytest.raises(UnknownNameError, match="there is no model 'rigde'"):
        choose_model(raw_cohort, RULE, ("rigde",))
    with pytest.raises(InputError, match="predicts something else than ln"):
        choose_model(raw_cohort, read_protocol("donor-v1+gene_axis"), OFFLINE)


def test_every_candidate_that_ships_exists_and_the_first_is_the_mean():
    assert [create_model(c).name for c in CANDIDATES][:2] == ["mean", "ridge"]
