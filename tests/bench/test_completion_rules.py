"""What the completion protocols hide of sections whose rates are known, and the noise that is left there."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.bench.completion.cells import noise_floor
from hescribe.bench.completion.protocol import read_completion_protocol
from hescribe.bench.completion.task import CompletionFold
from hescribe.cards import TECHNOLOGIES, SectionCard
from hescribe.complete.base import View
from hescribe.complete.hiding import draw_lesson
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section

BY_GENE = read_completion_protocol("complete-per-gene-v1")


def counts_of(section):
    return View.of(section).counts


def uniform_section(rate, *, n_side=20, depth=100_000.0, seed=0):
    """A section of Poisson counts whose rates are the same everywhere: one gene a rate."""
    rng = np.random.default_rng(seed)
    n = n_side**2
    row, col = np.divmod(np.arange(n), n_side)
    table = AnnData(
        obs=pd.DataFrame({keys.ARRAY_ROW: row, keys.ARRAY_COL: col, keys.DEPTH: depth}, index=np.arange(n).astype(str)),
        var=pd.DataFrame(index=[f"G{g}" for g in range(len(rate))]),
        obsm={keys.SPATIAL_UM: np.column_stack([col, row]) * 200.0},
        layers={keys.COUNTS: rng.poisson(rate, (n, len(rate))).astype(np.float32)},
    )
    return Section("u", "D", table, None, SectionCard(technology=TECHNOLOGIES["toy"], pitch_um=200.0))


def test_the_rule_by_gene_hides_a_share_of_all_entries():
    """Of a gene seen in 1 - exp(-1) = 63 % of spots, 30 % of all entries are hidden, and all of one seen in 18 %."""
    section = uniform_section([0.2, 1.0, 50.0], n_side=60)
    fold = CompletionFold("D", None, Cohort((section,)), {"u": 0}, BY_GENE)
    ((whole, lesson),) = fold.lessons(0.3)
    np.testing.assert_allclose(lesson.where.mean(axis=0)[1:], 0.3, atol=0.03)
    np.testing.assert_array_equal(lesson.where[:, 0], counts_of(whole)[:, 0] > 0)


def test_the_rule_by_gene_knows_a_gene_from_training_alone():
    """A gene seen in 63 % of train spots loses .3 / .63 of its counts, however rare it is in what is scored."""
    train, test = uniform_section([1.0, 50.0], n_side=60), uniform_section([0.2, 50.0], n_side=60, seed=1)
    fold = CompletionFold("E", Cohort((train,)), Cohort((replace(test, donor="E"),)), {"u": 0}, BY_GENE)
    ((whole, lesson),) = fold.lessons(0.3)
    measured = counts_of(whole)[:, 0] > 0
    assert lesson.where[measured, 0].mean() == pytest.approx(0.3 / 0.632, abs=0.06)


def test_half_of_the_depth_is_set_aside():
    whole = uniform_section([0.5, 0.5])
    lesson = draw_lesson(whole, 0.5, np.random.default_rng(0), missing="any")
    assert lesson.section.depth.mean() == pytest.approx(whole.depth.mean() / 2, rel=0.001)


def test_a_spot_of_which_nothing_was_set_aside_is_not_asked_for():
    """Of spots with one count or two often nothing is left to ask for: no fresh measurement, and so no zeros."""
    whole = uniform_section([0.5, 0.5, 0.5], depth=2.0)
    table = whole.table.copy()
    table.obs[keys.DEPTH] = counts_of(whole).sum(axis=1)
    lesson = draw_lesson(whole.with_table(table), 0.5, np.random.default_rng(0), missing="any")
    none_aside = lesson.section.depth == table.obs[keys.DEPTH].to_numpy()
    assert none_aside.any()
    assert not lesson.where[none_aside].any()
    assert lesson.where[~none_aside].any()


def test_the_noise_floor_is_what_simulated_counts_leave():
    """Whoever knows every rate says the mean log of a count that is not 0, and is left with its variance."""
    rng = np.random.default_rng(1)
    for rate in (0.3, 0.5, 1.0, 2.0, 8.0, 20.0, 60.0):
        section = uniform_section([rate, rate], n_side=60)
        lesson = draw_lesson(section, 0.5, rng)
        drawn = rng.poisson(rate, 400_000)
        left = np.log2(drawn[drawn > 0]).var()
        assert noise_floor(section, lesson) == pytest.approx(left, rel=0.05), rate
