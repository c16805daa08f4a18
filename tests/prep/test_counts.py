"""Normalisation: by spot, never by gene; a transposed table is caught."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.errors import InputError
from hescribe.prep.counts import check_totals, halve_counts, keep_deep_spots, log_normalise, with_lognorm


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(3.0, (30, 8)).astype(np.float32) + np.arange(30)[:, None]


def test_every_spot_has_the_same_sum_after_normalisation(counts):
    scaled = np.expm1(log_normalise(counts, counts.sum(axis=1)))
    np.testing.assert_allclose(scaled.sum(axis=1), 1e4, rtol=1e-5)
    assert np.ptp(scaled.sum(axis=0)) > 1  # genes keep their differences


def test_sparse_and_dense_agree(counts):
    depth = counts.sum(axis=1) + 5
    np.testing.assert_allclose(
        log_normalise(sparse.csr_matrix(counts), depth).toarray(), log_normalise(counts, depth), rtol=1e-6
    )


def test_a_transposed_table_is_caught(counts):
    with pytest.raises(InputError, match="rows are spots, the table may be transposed"):
        log_normalise(counts.T, counts.sum(axis=1))


def test_a_square_transposed_table_is_caught_by_its_sums():
    square = np.random.default_rng(1).poisson(5.0, (20, 20)) * np.arange(1, 21)[:, None]
    with pytest.raises(InputError, match="the table may be transposed"):
        check_totals(square.T, square.sum(axis=1))
    with pytest.raises(InputError, match=r"spot .* counts on the panel but a depth of"):
        check_totals(sparse.csr_matrix(square.T), square.sum(axis=1))
    check_totals(square, square.sum(axis=1))


def test_an_empty_spot_is_zero_not_nan():
    assert (log_normalise(np.zeros((1, 3)), np.zeros(1)) == 0).all()


def test_depth_counts_genes_outside_the_panel(raw_cohort):
    section = raw_cohort[0]
    panel_sum = np.asarray(section.table.layers[keys.COUNTS].sum(axis=1)).ravel()
    values = np.expm1(with_lognorm(section).table.layers[keys.LOGNORM].toarray()).sum(axis=1)
    assert (section.depth > 1.5 * panel_sum).all()
    np.testing.assert_allclose(values, 1e4 * panel_sum / section.depth, rtol=1e-4)


def test_normalising_changes_no_count(raw_cohort):
    before = raw_cohort[0].table.layers[keys.COUNTS].copy()
    after = with_lognorm(raw_cohort[0]).table.layers[keys.COUNTS]
    assert (before != after).nnz == 0


def test_shallow_spots_stay_as_context(raw_cohort):
    section = raw_cohort[0]
    limit = int(np.median(section.depth))
    kept = keep_deep_spots(section, limit)
    assert kept.n_spots == section.n_spots
    assert kept.kept.sum() == (section.depth >= limit).sum()
    assert kept.layer(keys.COUNTS).shape[0] == kept.kept.sum()


def test_a_halved_section_is_a_second_measurement_at_half_the_depth(raw_cohort):
    whole = raw_cohort[0]
    half = halve_counts(whole)
    counts, kept = (s.table.layers[keys.COUNTS].toarray() for s in (whole, half))
    assert (kept <= counts).all()
    assert (kept % 1 == 0).all()
    assert abs(kept.sum() / counts.sum() - 0.5) < 4 * 0.5 / np.sqrt(counts.sum())  # four standard errors of a fair coin
    assert abs(half.depth.sum() / whole.depth.sum() - 0.5) < 4 * 0.5 / np.sqrt(whole.depth.sum())
    assert (half.depth >= kept.sum(axis=1)).all()
    np.testing.assert_allclose(half.table.layers[keys.LOGNORM].toarray(), log_normalise(kept, half.depth), rtol=1e-5)


def test_sections_are_halved_by_coins_of_their_own(raw_cohort):
    one, other = (halve_counts(replace(raw_cohort[0], id=name)) for name in ("a", "b"))
    assert (one.table.layers[keys.COUNTS] != other.table.layers[keys.COUNTS]).nnz


def test_halving_draws_the_same_coins_again(raw_cohort):
    first, again = (halve_counts(raw_cohort[0]).table.layers[keys.COUNTS] for _ in range(2))
    assert (first != again).nnz == 0
