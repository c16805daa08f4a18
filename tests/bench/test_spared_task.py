"""SpaRED's protocol: its split, its target, and what filled labels are in its unit."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import run_cell
from hescribe.bench.spared_task import PUBLISHED, SparedTask, read_task
from hescribe.bench.task import PredictionTask
from hescribe.data.folder import write_cohort
from hescribe.data.toy import toy_cohort
from hescribe.errors import InputError
from hescribe.predict.mean import MeanPredictor
from hescribe.prep.spared import find_recipe

RULE = replace(read_protocol("spared-2024"), n_genes=12)
LUNG = ("V19D02-088_A1", "V19D02-088_B1", "V19D02-088_C1", "V19D02-088_D1")


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort(0, n_donors=4, n_spots=50, n_genes=60)


@pytest.fixture(scope="module")
def lung(cohort):
    """Return the same sections under the names of a dataset with train, validation and test sections."""
    sections = tuple(replace(s, id=i, donor="unknown") for s, i in zip(cohort, LUNG, strict=True))
    return replace(cohort, sections=sections, card=replace(cohort.card, id="villacampa_lung_organoid"))


def test_a_published_split_is_one_fold_and_its_validation_sections_choose(lung):
    (fold,) = SparedTask(lung, RULE).folds()
    assert fold.name == PUBLISHED
    assert [[s.id for s in side] for side in (fold.train, fold.test, fold.val)] == [[*LUNG[:2]], [LUNG[3]], [LUNG[2]]]


def test_without_a_test_split_the_validation_sections_are_scored(lung):
    """As published for 15 of 26 datasets: what chose the epochs is what is scored, and the protocol says so."""
    three = replace(lung, sections=lung.sections[:3])
    (fold,) = SparedTask(three, RULE).folds()
    assert [s.id for s in fold.test] == [s.id for s in fold.val] == [LUNG[2]]
    assert "chose the epochs" in RULE.optimistic


def test_without_a_published_split_donors_are_held_out_in_turn(cohort):
    folds = list(SparedTask(cohort, RULE).folds())
    assert [f.name for f in folds] == list(cohort.donors)
    assert all(f.val is None and f.name not in f.train.donors for f in folds)


def test_a_model_is_fitted_with_the_validation_sections(lung):
    seen = {}

    class Spy(MeanPredictor):
        def fit(self, train, *, val=None):
            seen["val"] = val
            return super().fit(train)

    task = SparedTask(lung, RULE)
    (fold,) = task.folds()
    run_cell(task, fold, Spy(), 0)
    assert [s.id for s in seen["val"]] == [LUNG[2]]


def test_the_target_is_the_preparation_s_and_0_where_nothing_was_measured(lung):
    (fold,) = SparedTask(lung, RULE).folds()
    expected = (
        find_recipe("spared-2024")
        .with_params(batch="section", n_genes=12, lengths="none", allow_fewer=True)
        .fit(lung, train=LUNG[:2])
        .transform(lung)
    )
    for section in (*fold.train, *fold.test):
        layers = next(s for s in expected if s.id == section.id).table.layers
        measured = layers[keys.MASK]
        target = section.layer(keys.TARGET)
        np.testing.assert_array_equal(target[measured], layers[keys.C_D_LOG1P][measured])
        assert (target[~measured] == 0).all()
        np.testing.assert_array_equal(section.layer(keys.COUNTS) > 0, measured)


def test_measured_values_come_out_again_from_their_own_counts(lung):
    """The way from filled counts to labels is the preparation's own, ComBat included."""
    preparation = find_recipe("spared-2024").with_params(batch="section", n_genes=12, lengths="none", allow_fewer=True)
    after = preparation.fit(lung).transform(lung)
    for before, section in zip(lung, after, strict=True):
        again, measured = preparation.to_log(before, section.layer(keys.COUNTS)), section.layer(keys.MASK)
        np.testing.assert_allclose(again[measured], section.layer(keys.C_D_LOG1P)[measured], rtol=1e-5, atol=1e-5)


def test_filled_labels_lie_among_the_measured_ones_of_the_gene(lung):
    plain, filled = (next(SparedTask(lung, rule).folds()) for rule in (RULE, replace(RULE, labels="mean")))
    gaps = plain.train.stack(keys.COUNTS) == 0
    before, after = plain.train.stack(keys.TARGET), filled.train.stack(keys.TARGET)
    np.testing.assert_array_equal(before[~gaps], after[~gaps])
    for g in np.flatnonzero(gaps.any(axis=0)):
        known = before[~gaps[:, g], g]
        assert (after[gaps[:, g], g] > known.min() - 3).all()
        assert (after[gaps[:, g], g] < known.max() + 1).all()
    np.testing.assert_array_equal(plain.test.stack(keys.TARGET), filled.test.stack(keys.TARGET))


def test_scores_have_no_ceiling_rather_than_a_wrong_one(lung):
    task = SparedTask(lung, RULE)
    (fold,) = task.folds()
    rows = run_cell(task, fold, MeanPredictor(), 0).rows
    assert {r.metric for r in rows} == set(RULE.metrics)
    assert all(np.isnan(r.ceiling) for r in rows)


def test_the_protocol_decides_what_is_read(cohort, tmp_path):
    write_cohort(cohort, tmp_path / "c")
    assert type(read_task(tmp_path / "c", RULE)) is SparedTask
    assert type(read_task(tmp_path / "c", read_protocol("donor-v1"))) is PredictionTask


def test_a_panel_of_one_s_own_and_the_plain_task_are_refused(cohort):
    with pytest.raises(InputError, match="chooses its own genes"):
        next(SparedTask(cohort, RULE).folds(cohort.genes[:3]))
    with pytest.raises(InputError, match="spared-2024 has spots and genes prepared"):
        next(PredictionTask(cohort, RULE).folds())


def test_one_donor_without_a_published_split_is_refused(cohort):
    one = replace(cohort, sections=cohort.sections[:1])
    with pytest.raises(InputError, match="one donor only"):
        next(SparedTask(one, RULE).folds())
