"""Train labels whose gaps a completer fills: only gaps change, and nothing of what is scored is seen."""

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.labels import fill_labels
from hescribe.bench.protocols import read_protocol, with_labels
from hescribe.bench.task import PredictionTask
from hescribe.complete.base import complete, completers
from hescribe.data.toy import toy_cohort
from hescribe.errors import InputError, UnknownNameError


@pytest.fixture(scope="module")
def shallow():
    return toy_cohort(0, n_donors=3, n_spots=40, n_genes=40)


@pytest.fixture(scope="module")
def folds(shallow):
    plain, filled = read_protocol("donor-v1"), read_protocol("donor-v1+knn")
    return [next(PredictionTask(shallow, rule).folds()) for rule in (plain, filled)]


def test_only_what_was_not_measured_is_filled(folds):
    plain, filled = (f.train for f in folds)
    gaps = plain.stack(keys.COUNTS) == 0
    assert gaps.any()
    before, after = plain.stack(keys.TARGET), filled.stack(keys.TARGET)
    np.testing.assert_array_equal(after[~gaps], before[~gaps])
    assert (after[gaps] > before[gaps]).mean() > 0.9


def test_in_the_default_unit_the_filling_is_what_the_completer_says(folds):
    plain, filled = (f.train for f in folds)
    fitted = completers.create("knn").fit(plain)
    for before, after in zip(plain, filled, strict=True):
        gaps = before.layer(keys.COUNTS) == 0
        said = complete(fitted, before).layer(keys.COMPLETED)
        np.testing.assert_allclose(after.layer(keys.TARGET)[gaps], said[gaps], rtol=1e-4, atol=1e-5)


def test_a_spot_whose_measured_and_filled_counts_exceed_its_depth_is_filled_all_the_same(shallow):
    def to_panel_depth(section):
        table = section.table.copy()
        table.obs[keys.DEPTH] = np.asarray(table.layers[keys.COUNTS].sum(axis=1)).ravel()
        return section.with_table(table)

    train = next(PredictionTask(shallow.map(to_panel_depth), read_protocol("donor-v1+knn")).folds()).train
    gaps = train.stack(keys.COUNTS) == 0
    assert (train.stack(keys.TARGET)[gaps] > 0).mean() > 0.9
    assert (np.expm1(train.stack(keys.TARGET)).sum(axis=1) > 1e4).any()


def test_what_is_scored_is_not_filled(folds):
    plain, filled = (f.test for f in folds)
    np.testing.assert_array_equal(plain.stack(keys.TARGET), filled.stack(keys.TARGET))


def test_the_filling_does_not_see_the_test_donor(shallow):
    rule = read_protocol("donor-v1+knn")
    held_out = shallow.donors[0]

    def turn(section):
        if section.donor != held_out:
            return section
        table = section.table.copy()
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS][::-1].copy()
        return section.with_table(table)

    first, second = (next(PredictionTask(c, rule).folds()) for c in (shallow, shallow.map(turn)))
    assert first.name == second.name == held_out
    np.testing.assert_array_equal(first.train.stack(keys.TARGET), second.train.stack(keys.TARGET))
    assert not np.array_equal(first.test.stack(keys.TARGET), second.test.stack(keys.TARGET))


def test_another_unit_is_given_counts_not_values(shallow):
    train = next(PredictionTask(shallow, read_protocol("donor-v1")).folds()).train
    seen = []

    def to_target(section, counts):
        seen.append((section.table.layers[keys.COUNTS][section.kept], counts[section.kept]))
        return np.full(counts.shape, 7.0)

    filled = fill_labels(train, "mean", to_target)
    gaps = train.stack(keys.COUNTS) == 0
    assert (filled.stack(keys.TARGET)[gaps] == 7).all()
    for measured, given in seen:
        np.testing.assert_array_equal(given[measured > 0], measured[measured > 0])
        assert (given[measured == 0] > 0).all()
        assert given[measured == 0].max() < measured.max()


def test_labels_are_part_of_a_protocol_s_name_and_of_the_cells():
    assert read_protocol("labels-split-v1+stacked").labels == "stacked"
    with pytest.raises(UnknownNameError, match="no completer 'knnn'; did you mean 'knn'"):
        with_labels(read_protocol("donor-v1"), "knnn")
    with pytest.raises(InputError, match=r"donor-v1\+knn fills the train labels by knn already"):
        read_protocol("donor-v1+knn+mean")


def test_a_changed_completer_makes_another_data_hash(shallow):
    plain, filled, other = (
        PredictionTask(shallow, read_protocol(n)).data_hash for n in ("donor-v1", "donor-v1+knn", "donor-v1+mean")
    )
    assert len({plain, filled, other}) == 3
