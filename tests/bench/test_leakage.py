"""No answer can reach a model: planted leaks of every kind are stopped."""

import tracemalloc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.bench import ladder
from hescribe.bench.ladder import DepthOracle, DomainOracle
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import run_cell
from hescribe.bench.task import Fold, PredictionTask
from hescribe.errors import InputError, LeakageError
from hescribe.predict.base import Prediction
from hescribe.predict.mean import MeanPredictor
from hescribe.predict.ridge import RidgePredictor

PLANTED_OBS, PLANTED_OBSM = ("total_counts", "leiden", "depth", "region", "kept"), ("X_pca", "X_umap", "completed")


@pytest.fixture
def task(raw_cohort):
    return PredictionTask(raw_cohort, read_protocol("donor-v1"))


def plant(section):
    table = section.table.copy()
    for name in PLANTED_OBS:
        table.obs[name] = 1e6 if name != "kept" else True
    for name in PLANTED_OBSM:
        table.obsm[name] = np.ones((section.n_spots, 2))
    table.layers[keys.COMPLETED] = table.layers[keys.COUNTS].copy()
    table.uns["clusters"] = [1]
    table.obsp["connectivities"] = np.eye(section.n_spots)
    table.var["mean_counts"] = 1.0
    table.X = table.layers[keys.COUNTS].copy()
    return section.with_table(table)


def test_nothing_planted_passes_the_blind(raw_cohort):
    table = plant(raw_cohort[0]).blind().table
    assert set(table.obs) == {keys.ARRAY_ROW, keys.ARRAY_COL}
    assert set(table.obsm) == {keys.SPATIAL, keys.SPATIAL_UM}
    assert not table.layers
    assert not table.uns
    assert not table.obsp
    assert list(table.var) == []
    assert table.X is None


@dataclass(kw_only=True)
class Spy(MeanPredictor):
    """Remembers what it was shown."""

    name: ClassVar[str] = "spy"
    seen: ClassVar[list] = []

    def predict(self, section):
        self.seen.append(section)
        return super().predict(section)


def test_the_runner_shows_blind_sections_only(raw_cohort):
    Spy.seen.clear()
    task = PredictionTask(raw_cohort.map(plant), read_protocol("donor-v1"))
    fold = next(task.folds())
    run_cell(task, fold, Spy(), 0)
    assert [s.id for s in Spy.seen] == [s.id for s in fold.test]
    for section in Spy.seen:
        assert not section.table.layers
        assert not set(section.table.obs) & set(PLANTED_OBS)
        assert not set(section.table.obsm) & set(PLANTED_OBSM)


def test_the_blind_cannot_be_used_to_write_into_the_truth(raw_cohort):
    before = raw_cohort[0].xy_um.copy()
    blind = raw_cohort[0].blind()
    blind.table.obsm[keys.SPATIAL_UM][:] = 0
    np.testing.assert_array_equal(raw_cohort[0].xy_um, before)


@dataclass(kw_only=True)
class Cheat(MeanPredictor):
    """Claims the privilege of a control."""

    name: ClassVar[str] = "cheat"
    uses_truth: ClassVar[bool] = True

    def predict(self, section):
        return Prediction(section.layer(keys.TARGET), section.genes)


def test_a_predictor_cannot_claim_to_be_a_control(task):
    with pytest.raises(InputError, match="has no layer 'target'"):
        run_cell(task, next(task.folds()), Cheat(), 0)


def test_a_control_that_uses_the_truth_is_marked_in_every_row(task):
    rows = run_cell(task, next(task.folds()), DepthOracle(), 0).rows
    assert {r.control for r in rows} == {"uses_truth"}


def test_a_fold_refuses_a_shared_donor(cohort):
    train, test = cohort.where(lambda s: s.id == "s0"), cohort.where(lambda s: s.id == "s1")
    with pytest.raises(LeakageError, match="donors D0 are in train and in test"):
        Fold("x", train, test)


def test_a_fold_refuses_a_shared_section_even_if_declared_optimistic(cohort):
    with pytest.raises(LeakageError, match="sections s0"):
        Fold("x", cohort, cohort.where(lambda s: s.id == "s0"), protocol=read_protocol("section-v1"))


def test_genes_are_chosen_without_the_test_donor(raw_cohort):
    def loud(section):
        """Make GENE11 the most variable gene, in donor D2 only."""
        table = section.table.copy()
        counts = table.layers[keys.COUNTS].tolil()
        counts[:, 11] = (np.arange(section.n_spots) % 2 * 500 if section.donor == "D2" else 0)[..., None] \
            if section.donor == "D2" else np.zeros((section.n_spots, 1))  # fmt: skip
        table.layers[keys.COUNTS] = counts.tocsr()
        table.obs[keys.DEPTH] = np.asarray(table.layers[keys.COUNTS].sum(axis=1)).ravel() + 20
        return section.with_table(table)

    protocol = read_protocol("donor-v1")
    few = type(protocol)(**{f: getattr(protocol, f) for f in protocol.__slots__} | {"n_genes": 3})
    folds = {f.name: f for f in PredictionTask(raw_cohort.map(loud), few).folds()}
    assert "GENE11" not in folds["D2"].train.genes
    assert "GENE11" in folds["D0"].train.genes


def test_expression_of_the_test_section_cannot_change_its_prediction(raw_cohort):
    def scramble(section):
        if section.donor != "D0":
            return section
        table = section.table.copy()
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS][::-1].copy()
        table.obs[keys.DEPTH] = table.obs[keys.DEPTH].to_numpy()[::-1]
        return section.with_table(table)

    predictions = []
    for cohort in (raw_cohort, raw_cohort.map(scramble)):
        task = PredictionTask(cohort, read_protocol("donor-v1"))
        predictions.append(run_cell(task, next(task.folds()), RidgePredictor(encoder="color"), 0).predictions)
    for section in predictions[0]:
        np.testing.assert_array_equal(predictions[0][section], predictions[1][section])


def test_section_protocol_says_that_it_is_optimistic(raw_cohort):
    task = PredictionTask(raw_cohort, read_protocol("section-v1"))
    assert "too good" in task.card.optimistic
    assert len(list(task.folds())) == 6


def test_the_domain_oracle_claims_nothing_where_there_is_one_domain(cohort):
    """The mean of the others falls as the spot's own value rises: a correlation of exactly -1."""
    mean = DomainOracle(spots_per_cluster=40).fit(cohort).predict(cohort[0]).mean
    assert (mean == mean[0]).all()


def test_the_domain_oracle_never_shows_a_spot_its_own_value(cohort, monkeypatch):
    monkeypatch.setattr(ladder, "MIN_CLUSTER", 5)
    section = cohort[0]
    oracle = DomainOracle(spots_per_cluster=15).fit(cohort)
    before = oracle.predict(section).mean
    table = section.table.copy()
    table.layers[keys.TARGET][0] += 100
    after = oracle.predict(section.with_table(table)).mean
    np.testing.assert_allclose(after[0], before[0], atol=1e-9)
    assert (after[1:] > before[1:] + 1).any()


def test_the_domain_oracle_needs_memory_for_spots_not_for_pairs(cohort, monkeypatch):
    """20,000 spots in 666 clusters: one number for each spot, cluster and feature would take 2.3 GB."""
    n = 20_000
    table = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(n)]), var=cohort[0].table.var)
    table.layers[keys.TARGET] = np.zeros((n, 12), dtype=np.float32)
    features = np.random.default_rng(0).normal(size=(n, 22))
    monkeypatch.setattr(ladder, "embed_section", lambda *_: features)
    monkeypatch.setattr(ladder, "kmeans2", lambda x, k, **_: (x[:k], np.arange(n) % k))
    tracemalloc.start()
    DomainOracle().fit(cohort).predict(cohort[0].with_table(table))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
