"""Targets against numbers by hand."""

import numpy as np
import pytest

from hescribe import keys
from hescribe.prep.targets import UNITS, gene_axis, log_counts, normaliser, with_target

COUNTS = np.array([[1.0, 0.0, 4.0], [3.0, 0.0, 4.0]])  # 2 spots, 3 genes
DEPTH = np.array([10.0, 100.0])


def test_gene_axis_scales_each_gene_over_the_spots():
    values = 10 ** gene_axis(COUNTS, DEPTH) - 1
    np.testing.assert_allclose(values, [[2500, 0, 5000], [7500, 0, 5000]], rtol=1e-9)


def test_gene_axis_of_a_transposed_table_is_another_target():
    assert not np.allclose(gene_axis(COUNTS.T, DEPTH).T, gene_axis(COUNTS, DEPTH))


def test_log_counts_ignores_depth():
    np.testing.assert_allclose(log_counts(COUNTS, DEPTH), np.log1p(COUNTS))
    np.testing.assert_array_equal(log_counts(COUNTS, DEPTH), log_counts(COUNTS, 7 * DEPTH))


@pytest.mark.parametrize("unit", UNITS)
def test_smoothing_averages_a_spot_with_the_spots_that_touch_it(raw_cohort, unit):
    section = raw_cohort[0]  # a square array of spots
    counts, depth = section.layer(keys.COUNTS), section.depth
    plain, smooth = normaliser(section, unit)(counts, depth), normaliser(section, unit, smooth=True)(counts, depth)
    row, col = (section.table.obs[k].to_numpy() for k in (keys.ARRAY_ROW, keys.ARRAY_COL))
    for spot in (0, int(np.flatnonzero((row == 3) & (col == 4))[0])):
        near = (abs(row - row[spot]) <= 1) & (abs(col - col[spot]) <= 1)
        assert near.sum() == (4 if spot == 0 else 9)
        np.testing.assert_allclose(smooth[spot], plain[near].mean(axis=0), rtol=1e-5)


def test_smoothing_leaves_out_spots_that_are_no_targets(raw_cohort):
    section = raw_cohort[0]
    kept = np.arange(section.n_spots) != 1
    counts, depth = section.layer(keys.COUNTS), section.depth
    part = section.with_kept(kept)
    smooth = normaliser(part, "log_counts", smooth=True)(counts[kept], depth[kept])
    row, col = (section.table.obs[k].to_numpy() for k in (keys.ARRAY_ROW, keys.ARRAY_COL))
    near = (abs(row - row[0]) <= 1) & (abs(col - col[0]) <= 1) & kept
    np.testing.assert_allclose(smooth[0], np.log1p(counts[near]).mean(axis=0), rtol=1e-5)


def test_the_target_stands_beside_counts_that_stay(raw_cohort):
    kept = np.arange(raw_cohort[0].n_spots) % 2 == 0
    section = raw_cohort[0].with_kept(kept)
    after = with_target(section, log_counts)
    np.testing.assert_allclose(after.layer(keys.TARGET), np.log1p(section.layer(keys.COUNTS)), rtol=1e-6)
    assert (after.table.layers[keys.TARGET][~kept] == 0).all()
    np.testing.assert_array_equal(after.layer(keys.COUNTS), section.layer(keys.COUNTS))
    assert keys.TARGET not in section.table.layers
