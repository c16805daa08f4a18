"""The noise ceiling against simulated counts whose truth is known."""

import numpy as np
import pytest

from hescribe.metrics.ceiling import noise_ceiling
from hescribe.metrics.gene import correlate
from hescribe.prep.counts import log_normalise


@pytest.fixture(scope="module")
def simulated():
    rng = np.random.default_rng(0)
    n_spots, n_genes = 400, 60
    depth_factor = np.exp(rng.normal(0, 0.3, n_spots))
    share = np.exp(rng.normal(0, 0.7, (n_spots, n_genes)))
    rate = 20 * depth_factor[:, None] * share / share.mean()
    counts = rng.poisson(rate)
    depth = counts.sum(axis=1) + rng.poisson(4000 * depth_factor)
    truth = np.log1p(1e4 * rate / (4000 * depth_factor + rate.sum(axis=1))[:, None])
    return counts, depth, truth


def test_ceiling_is_what_the_truth_reaches(simulated):
    counts, depth, truth = simulated
    y = np.log1p(1e4 * counts / depth[:, None])
    reached = correlate(y, truth).mean()
    assert noise_ceiling(counts, depth, log_normalise).pearson.mean() == pytest.approx(reached, abs=0.02)


def test_ceiling_falls_with_depth(simulated):
    counts, depth, _ = simulated
    thin = np.random.default_rng(1).binomial(counts, 0.1)
    assert (
        noise_ceiling(thin, depth // 10, log_normalise).pearson.mean()
        < noise_ceiling(counts, depth, log_normalise).pearson.mean() - 0.1
    )


def test_pure_noise_has_no_ceiling_once_depth_is_removed():
    rng = np.random.default_rng(2)
    counts = rng.poisson(3.0, (500, 40))
    ceiling = noise_ceiling(counts, counts.sum(axis=1) + 1000, log_normalise)
    assert ceiling.pearson_depth_partial.mean() < 0.2


def test_a_gene_that_is_never_seen_is_undefined_not_zero():
    counts = np.column_stack([np.random.default_rng(3).poisson(5, 50), np.zeros(50, int)])
    ceiling = noise_ceiling(counts, counts.sum(axis=1) + 100, log_normalise)
    assert np.isfinite(ceiling.pearson[0])
    assert np.isnan(ceiling.pearson[1])


def test_the_same_seed_gives_the_same_ceiling(simulated):
    counts, depth, _ = simulated
    np.testing.assert_array_equal(
        noise_ceiling(counts, depth, log_normalise, seed=4).pearson,
        noise_ceiling(counts, depth, log_normalise, seed=4).pearson,
    )
