"""The protocol that scores on half of the counts."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.protocols import read_protocol
from hescribe.bench.task import PredictionTask

SPLIT = read_protocol("labels-split-v1")


@pytest.fixture(scope="module")
def folds(raw_cohort):
    whole, half = (next(PredictionTask(raw_cohort, rule).folds()) for rule in (read_protocol("labels-v1"), SPLIT))
    return whole, half


def test_only_test_sections_are_halved(folds):
    whole, half = folds
    np.testing.assert_array_equal(whole.train.stack(keys.COUNTS), half.train.stack(keys.COUNTS))
    assert half.test.stack(keys.COUNTS).sum() < 0.6 * whole.test.stack(keys.COUNTS).sum()


def test_spots_and_genes_are_those_of_the_whole_counts(folds):
    whole, half = folds
    assert whole.test.genes == half.test.genes
    for a, b in zip(whole.test, half.test, strict=True):
        np.testing.assert_array_equal(a.kept, b.kept)


def test_the_target_is_made_of_the_half_that_is_kept(folds):
    section = folds[1].test[0]
    expected = np.log1p(1e4 * section.layer(keys.COUNTS) / section.depth[section.kept, None])
    np.testing.assert_allclose(section.layer(keys.TARGET), expected, rtol=1e-5)


def test_fewer_counts_lower_the_ceiling(folds):
    whole, half = (np.nanmean([np.nanmean(c.pearson) for c in f.ceilings.values()]) for f in folds)
    assert half < whole


def test_it_differs_from_the_protocol_of_labels_in_nothing_else():
    whole = read_protocol("labels-v1")
    assert replace(whole, name=SPLIT.name, summary=SPLIT.summary, score_on="half") == SPLIT
