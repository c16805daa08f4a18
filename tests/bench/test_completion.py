"""The judge of completers: what it hides stays hidden, and no trick but the answer itself is worth anything."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from hescribe import keys
from hescribe.bench.completion.cells import (
    plan_completion,
    score_completer,
)  # fmt: skip
from hescribe.bench.completion.protocol import list_completion_protocols, read_completion_protocol
from hescribe.bench.completion.task import CompletionFold, CompletionTask
from hescribe.bench.runs import Cell
from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, to_values
from hescribe.complete.section_mean import SectionMeanCompleter
from hescribe.errors import InputError, LeakageError, SchemaError
from hescribe.params import Params

N_GENES = 12


def rule(name="complete-v1", **changes):
    """Return a protocol on all genes of the cohort that holds out one donor at a time."""
    return read_completion_protocol(name).model_copy(update={"n_genes": N_GENES, "n_folds": 0, **changes})


@pytest.fixture(scope="module")
def sparse_cohort(raw_cohort):
    """Return the cohort with one of 16 counts, so that many a gene has few or none in a spot."""

    def thin(section):
        table = section.table.copy()
        counts = np.random.default_rng(list(section.id.encode())).binomial(counts_of(section).astype(int), 1 / 16)
        table.layers[keys.COUNTS] = counts.astype(np.float32)
        table.obs[keys.DEPTH] = counts.sum(axis=1) + 300.0
        return section.with_table(table)

    return raw_cohort.map(thin)


@pytest.fixture
def task(raw_cohort):
    return CompletionTask(raw_cohort, rule(shares=(0.3,)))


def fold_of(task):
    return next(task.folds())


def lessons(task, share=0.3):
    """Return (section, lesson) of every test section of the first fold."""
    return list(fold_of(task).lessons(share))


def score(task, completer):
    """Return the values of a completer on the first fold, by metric, mean over sections."""
    fold = fold_of(task)
    rows = pd.DataFrame([vars_of(r) for r in score_completer(task, Cell("k", fold, "c", completer, 0)).rows])
    return rows.groupby("metric")["value"].mean()


def vars_of(row):
    return {name: getattr(row, name) for name in row.__slots__}


def counts_of(section):
    return View.of(section).counts


@dataclass(kw_only=True)
class Spy(Params):
    """Remembers the sections that it is given."""

    name: ClassVar[str] = "spy"
    card: ClassVar[MethodCard] = MethodCard(summary="remembers what it sees")
    fitted: ClassVar[list] = []
    seen: ClassVar[list] = []

    def fit(self, train, *, val=None):
        assert val is None
        self.fitted.append(train)
        return self

    def estimate(self, section):
        self.seen.append(section)
        return Completion(np.zeros((section.n_spots, len(section.genes))))


@dataclass(kw_only=True)
class Oracle(Params):
    """Returns what it is told."""

    name: ClassVar[str] = "oracle"
    card: ClassVar[MethodCard] = MethodCard(summary="returns the answer")
    answers: ClassVar[dict] = {}
    sd: float | None = None

    def fit(self, train, *, val=None):
        return self

    def estimate(self, section):
        answer = self.answers[section.id]
        return Completion(answer, None if self.sd is None else np.full(answer.shape, self.sd))


@dataclass(kw_only=True)
class Peek(Params):
    """Takes what the depth counts and the section does not show for the sum of what is missing."""

    name: ClassVar[str] = "peek"
    card: ClassVar[MethodCard] = MethodCard(summary="reads the sum of what is hidden off the depth")

    def fit(self, train, *, val=None):
        self.mean_ = SectionMeanCompleter().fit(train)
        return self

    def estimate(self, section):
        view, guess = View.of(section), self.mean_.estimate(section).mean
        left = view.depth - view.counts.sum(axis=1)
        weight = np.where(view.observed, 0, np.exp2(guess))
        share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        return Completion(np.where((left > 0)[:, None], to_values(left[:, None] * share, view.depth), guess))


@pytest.fixture
def spy():
    Spy.fitted.clear()
    Spy.seen.clear()
    return Spy()


@pytest.mark.parametrize("name", list_completion_protocols())
def test_what_is_hidden_is_the_same_at_every_call(sparse_cohort, name):
    task = CompletionTask(sparse_cohort, rule(name))
    share = task.protocol.shares[0]
    for (_, one), (_, other) in zip(lessons(task, share), lessons(task, share), strict=True):
        np.testing.assert_array_equal(one.where, other.where)
        np.testing.assert_array_equal(counts_of(one.section), counts_of(other.section))
        assert one.where.any()


def test_what_is_hidden_at_one_share_is_hidden_at_every_greater_one(task):
    for (_, small), (_, middle), (_, large) in zip(*(lessons(task, s) for s in (0.1, 0.5, 0.9)), strict=True):
        assert not (small.where & ~middle.where).any()
        assert not (middle.where & ~large.where).any()
        assert small.where.sum() < middle.where.sum() < large.where.sum()


def test_what_is_hidden_does_not_depend_on_the_other_sections_of_the_fold(raw_cohort, task):
    """Sections are numbered in the order of their names, over the whole cohort and not over a fold."""
    turned = replace(raw_cohort, sections=raw_cohort.sections[::-1])
    there = {
        s.id: lesson.where for fold in CompletionTask(turned, task.protocol).folds() for s, lesson in fold.lessons(0.3)
    }
    here = {s.id: lesson.where for fold in task.folds() for s, lesson in fold.lessons(0.3)}
    assert set(here) == set(there) == {s.id for s in raw_cohort}
    for name, where in here.items():
        np.testing.assert_array_equal(where, there[name])


def test_a_completer_sees_nothing_of_what_is_hidden(task, spy):
    score(task, spy)
    wanted = {s.id: (s, lesson) for s, lesson in lessons(task)}
    assert {s.id for s in spy.seen} == set(wanted)
    for shown in spy.seen:
        whole, lesson = wanted[shown.id]
        assert list(shown.table.layers) == [keys.COUNTS]
        assert shown.table.X is None
        assert (counts_of(shown)[lesson.where] == 0).all()
        np.testing.assert_array_equal(counts_of(shown)[~lesson.where], counts_of(whole)[~lesson.where])
        np.testing.assert_array_equal(
            shown.depth, whole.depth - np.where(lesson.where, counts_of(whole), 0).sum(axis=1)
        )


@pytest.mark.parametrize("name", list_completion_protocols())
def test_nothing_else_in_the_table_tells_what_is_hidden(raw_cohort, spy, name):
    """A table often carries what was made of its whole counts: their sums, their components, the counts once more."""

    def plant(section):
        table, counts = section.table.copy(), counts_of(section)
        table.X, table.raw = counts, table.copy()
        table.obs["total_counts"], table.uns["counts"] = counts.sum(axis=1), counts
        table.obsm["X_pca"], table.varm["PCs"] = counts[:, :5], counts[:12].T
        table.var["total_counts"] = counts.sum(axis=0)
        return section.with_table(table)

    score(CompletionTask(raw_cohort.map(plant), rule(name)), spy)
    for shown in spy.seen:
        table = shown.table
        assert table.X is None
        assert table.raw is None
        assert set(table.layers) == {keys.COUNTS}
        assert set(table.obs) == {keys.ARRAY_ROW, keys.ARRAY_COL, keys.DEPTH}
        assert set(table.obsm) == {keys.SPATIAL, keys.SPATIAL_UM}
        assert [len(table.uns), len(table.varm), len(table.var.columns)] == [0, 0, 0]


def test_a_completer_is_fitted_on_other_donors_once(task, spy):
    score(task, spy)
    (train,) = spy.fitted
    assert not set(train.donors) & {s.donor for s in spy.seen}


def test_in_its_own_section_a_completer_is_fitted_on_what_is_visible(raw_cohort, spy):
    task = CompletionTask(raw_cohort, rule("complete-section-v1", shares=(0.3,)))
    score(task, spy)
    assert len(spy.fitted) == len(spy.seen) == len(raw_cohort)
    for train, section, (_, lesson) in zip(spy.fitted, spy.seen, lessons(task), strict=True):
        assert [s.id for s in train] == [section.id]
        assert (counts_of(train[0])[lesson.where] == 0).all()


def test_the_published_rule_leaves_the_depth_as_it_was(raw_cohort):
    for whole, lesson in lessons(CompletionTask(raw_cohort, rule("spared-mask-2024"))):
        np.testing.assert_array_equal(lesson.section.depth, whole.depth)
        assert (counts_of(lesson.section)[lesson.where] == 0).all()


def test_a_donor_on_both_sides_is_refused(task):
    fold = fold_of(task)
    with pytest.raises(LeakageError, match="donors D0 are in train and in test"):
        CompletionFold("wrong", task.cohort, fold.test, fold.places, fold.protocol)


def test_the_genes_of_a_fold_do_not_depend_on_the_held_out_donor(raw_cohort):
    """A gene that the held-out donor alone has a pattern in is chosen where all donors are looked at, and else not."""
    few = {"n_genes": 3, "shares": (0.3,)}

    def plant(section):
        table = section.table.copy()
        if section.donor == "D0":
            counts = table.layers[keys.COUNTS].toarray()
            counts[:, 11] = np.where(table.obs[keys.ARRAY_ROW].to_numpy() < 3, 400, 1)
            table.layers[keys.COUNTS] = counts
            table.obs[keys.DEPTH] = counts.sum(axis=1) + 5000.0
        return section.with_table(table)

    planted = raw_cohort.map(plant)
    before = fold_of(CompletionTask(raw_cohort, rule(**few)))
    after = fold_of(CompletionTask(planted, rule(**few)))
    assert before.name == "D0"
    assert after.test.genes == before.test.genes
    assert fold_of(CompletionTask(planted, rule("spared-mask-2024", **few))).test.genes[0] == "GENE11"


def test_thinned_counts_add_up_to_the_counts(sparse_cohort):
    for whole, lesson in lessons(CompletionTask(sparse_cohort, rule("thinned-v1")), 0.5):
        shown, where = counts_of(lesson.section), lesson.where
        depth_aside = whole.depth - lesson.section.depth
        aside = (np.exp2(lesson.answer.astype(np.float64)) - 1) * depth_aside[:, None] / 1e6
        np.testing.assert_allclose(shown + aside, counts_of(whole), atol=0.01)
        assert (shown[where] == 0).all()
        assert where.any()
        assert 0 < (aside[where] < 0.5).mean() < 1  # zeros are asked for too, and not only they


@pytest.mark.parametrize("name", list_completion_protocols())
def test_a_completer_that_returns_the_answer_has_no_error(sparse_cohort, name):
    task = CompletionTask(sparse_cohort, rule(name, shares=(0.5,)))
    Oracle.answers = {s.id: lesson.answer for s, lesson in lessons(task, 0.5)}
    found = score(task, Oracle(sd=0.1))
    assert found["mse"] == found["mae"] == 0
    assert found["coverage_90"] == 1
    assert found["pearson_hidden"] == pytest.approx(1)


def test_an_error_is_scored_as_it_is(task):
    """A value too high by 0.5 everywhere: squared error 0.25, absolute 0.5, inside 1.645 sd from sd 0.304 on."""
    Oracle.answers = {s.id: lesson.answer + np.float32(0.5) for s, lesson in lessons(task)}
    for sd, covered in ((0.31, 1.0), (0.30, 0.0)):
        found = score(task, Oracle(sd=sd))
        assert found["mse"] == pytest.approx(0.25, rel=1e-5)
        assert found["mae"] == pytest.approx(0.5, rel=1e-5)
        assert found["coverage_90"] == covered
    assert "coverage_90" not in score(task, Oracle())


def test_what_is_said_of_entries_that_were_not_hidden_changes_no_score(task):
    answers = {s.id: lesson.answer for s, lesson in lessons(task)}
    Oracle.answers = {s.id: np.where(lesson.where, answers[s.id], 99) for s, lesson in lessons(task)}
    assert score(task, Oracle())["mse"] == 0


def test_peeking_at_the_depth_gains_under_the_published_rule_alone(raw_cohort):
    """Without genes left out, full depth less what is visible is the sum of what is hidden."""
    errors = {}
    for name in ("complete-v1", "spared-mask-2024"):
        task = CompletionTask(raw_cohort, rule(name, shares=(0.1,)))
        errors[name] = (score(task, Peek())["mse"], score(task, SectionMeanCompleter())["mse"])
    peek, plain = errors["complete-v1"]
    assert peek == pytest.approx(plain, rel=1e-6)
    peek, plain = errors["spared-mask-2024"]
    assert peek < 0.5 * plain


def test_a_panel_with_fewer_genes_than_the_protocol_asks_for_is_judged_on_all_of_them(raw_cohort):
    fold = next(CompletionTask(raw_cohort, rule(n_genes=128)).folds())
    assert 1 < len(fold.test.genes) <= len(raw_cohort.genes) < 128


def test_one_tissue_under_two_donors_is_refused(raw_cohort):
    copy = replace(raw_cohort[0], id="copy", donor="stranger")
    task = CompletionTask(replace(raw_cohort, sections=(*raw_cohort, copy)), rule())
    with pytest.raises(LeakageError, match=r"s0 \(donor D0\) and copy \(donor stranger\) are the same tissue"):
        list(task.folds())


def test_rows_count_genes_without_a_correlation(task):
    """A mean is constant over a gene's hidden entries, so that no gene has a correlation."""
    rows = score_completer(task, Cell("k", fold_of(task), "c", SectionMeanCompleter(), 0)).rows
    assert {r.metric for r in rows} == {"mse", "mae", "pearson_hidden"}
    hidden = {s.id: int(lesson.where.sum()) for s, lesson in lessons(task)}
    for r in rows:
        if r.metric == "pearson_hidden":
            assert np.isnan(r.value)
            assert (r.n_defined, r.n_undefined) == (0, N_GENES)
        else:
            assert (r.n_defined, r.n_undefined) == (hidden[r.section], 0)
        assert r.task == "complete:colour, 30% hidden"
        assert np.isfinite(r.ceiling) == (r.metric == "mse")


def test_a_share_that_hides_nothing_scores_nothing(raw_cohort):
    task = CompletionTask(raw_cohort, rule(shares=(0.0,)))
    assert np.isnan(score(task, SectionMeanCompleter())["mse"])


@pytest.mark.parametrize("wrong", [np.zeros((3, 3)), np.full((49, N_GENES), np.nan)])
def test_a_completion_of_another_shape_or_with_nan_is_refused(task, wrong):
    Oracle.answers = {s.id: wrong for s, _ in lessons(task)}
    with pytest.raises(InputError, match="oracle returns shape"):
        score(task, Oracle())


def test_a_cohort_that_cannot_be_judged_is_told(raw_cohort):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    with pytest.raises(InputError, match="one donor only"):
        fold_of(CompletionTask(one, rule()))

    def spoil(section):
        table = section.table.copy()
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS] * 0.5
        return section.with_table(table)

    with pytest.raises(SchemaError, match="not an integer"):
        fold_of(CompletionTask(raw_cohort.map(spoil), rule()))
    with pytest.raises(InputError, match="share to hide must be between 0 and 1"):
        lessons(CompletionTask(raw_cohort, rule()), 1.5)


def test_a_completer_is_told_what_the_protocol_asks_for(raw_cohort):
    (cell, *_) = plan_completion(CompletionTask(raw_cohort, rule("thinned-v1")), ["gene_ridge"])
    assert cell.model.missing == "any"
    (cell, *_) = plan_completion(CompletionTask(raw_cohort, rule("spared-mask-2024")), ["gene_ridge"])
    assert cell.model.depth_seen == "full"
