"""The protocol that mclSTExp was published with, on a small cohort."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import run_study
from hescribe.bench.task import PredictionTask
from hescribe.prep.targets import gene_axis

PUBLISHED = read_protocol("mclstexp-2024")


@pytest.fixture(scope="module")
def task(raw_cohort):
    return PredictionTask(raw_cohort, PUBLISHED)


@pytest.fixture(scope="module")
def results(task, tmp_path_factory):
    out = tmp_path_factory.mktemp("published")
    run_study(task, ("color_ridge", "depth_oracle", "shuffled_pairs"), out)
    return Results(out)


def test_each_section_is_held_out_and_its_donor_may_train(task):
    folds = list(task.folds())
    assert [f.name for f in folds] == [f"s{i}" for i in range(6)]
    assert all(f.test.donors[0] in f.train.donors for f in folds)


def test_every_fold_has_the_panel_that_is_chosen_on_all_sections(task):
    panels = {f.train.genes for f in task.folds()}
    assert panels == {task.choose_genes(task.prepared)}


def test_the_target_scales_genes_and_not_spots(task):
    fold = next(task.folds())
    for section in (*fold.train, *fold.test):
        expected = gene_axis(section.layer(keys.COUNTS).astype(float), section.depth)
        np.testing.assert_allclose(section.layer(keys.TARGET), expected, rtol=1e-6)


def test_spots_are_kept_however_few_their_counts(raw_cohort):
    def starve(section):
        table = section.table.copy()
        counts = table.layers[keys.COUNTS].toarray()
        counts[0] = 0
        table.layers[keys.COUNTS] = sparse.csr_matrix(counts)
        table.obs[keys.DEPTH] = counts.sum(axis=1)
        return section.with_table(table)

    starved = raw_cohort.map(starve)
    assert PredictionTask(starved, PUBLISHED).prepared[0].kept.all()
    assert not PredictionTask(starved, read_protocol("donor-v1")).prepared[0].kept[0]


def test_the_mean_is_over_sections_and_has_no_interval(raw_cohort, tmp_path):
    """Two sections of donor X and one of each of four others: a mean over donors weighs them otherwise."""
    lopsided = raw_cohort.map(lambda s: replace(s, donor="X") if s.id in {"s0", "s1"} else replace(s, donor=s.id))
    run_study(PredictionTask(lopsided, PUBLISHED), ("color_ridge",), tmp_path)
    results = Results(tmp_path)
    score = next(s for s in results.scores if s.metric == "pearson")
    rows = results.rows[(results.rows["metric"] == "pearson") & (results.rows["gene"] == "")]
    assert score.value == pytest.approx(rows["value"].mean())
    assert score.value != pytest.approx(np.mean(list(score.by_donor.values())), abs=1e-6)
    assert (score.low, score.high, score.n_donors) == (None, None, 5)


def test_chance_is_averaged_as_the_score_is(results):
    shuffled = results.rows.query("model == 'shuffled_pairs' and metric == 'pearson' and gene == ''")
    score = next(s for s in results.scores if (s.model, s.metric) == ("color_ridge", "pearson"))
    assert score.chance == pytest.approx(shuffled.groupby("seed")["value"].mean().mean())


@pytest.mark.slow
def test_its_scores_are_those_of_the_paper_and_one_without_depth(results):
    assert {s.metric for s in results.scores} == {"pearson", "pearson_top50", "mse", "mae", "pearson_depth_partial"}


def test_it_says_why_its_scores_are_too_good(task):
    for reason in ("sections of the test donor are in train", "panel was chosen", "depth in the target"):
        assert reason in task.card.optimistic
