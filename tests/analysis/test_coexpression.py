"""Co-expression: what a prediction keeps, loses and makes up."""

import numpy as np
import pytest

from hescribe.analysis.coexpression import compare_coexpression
from hescribe.errors import InputError
from hescribe.prep.counts import log_normalise

N_SPOTS, GENES = 400, tuple(f"GENE{g}" for g in range(12))


@pytest.fixture(scope="module")
def tissue():
    """Return counts of genes in two groups that exclude each other, their depth, and their mean."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(N_SPOTS, 1))
    mean = 20 * np.exp(0.5 * np.hstack([signal] * 6 + [-signal] * 6))
    counts = rng.poisson(mean).astype(float)
    return counts, np.full(N_SPOTS, 5000.0), np.log1p(mean)


def compare(tissue, predicted, genes=GENES):
    counts, depth, _ = tissue
    measured = log_normalise(counts, depth)
    return compare_coexpression(measured, predicted, genes, counts=counts, depth=depth, normalise=log_normalise)


def test_the_true_mean_reaches_the_ceiling(tissue):
    found = compare(tissue, tissue[2])
    assert found.agreement == pytest.approx(found.ceiling, abs=0.03)
    assert found.signs_kept == 1.0


def test_the_matrices_are_numpys(tissue):
    counts, depth, mean = tissue
    found = compare(tissue, mean)
    np.testing.assert_allclose(found.predicted, np.corrcoef(mean.T), atol=1e-12)
    np.testing.assert_allclose(found.measured, np.corrcoef(log_normalise(counts, depth).T), atol=1e-6)


def test_genes_in_another_order_lose_their_partners(tissue):
    """A planted fault: columns of the prediction are permuted."""
    found = compare(tissue, tissue[2][:, np.random.default_rng(3).permutation(12)])
    assert found.agreement < 0.3
    assert found.signs_kept < 0.7


def test_a_prediction_of_one_pattern_overstates_co_expression(tissue):
    found = compare(tissue, np.outer(tissue[2][:, 0], np.arange(1.0, 13.0)))
    assert found.strength_predicted == pytest.approx(1.0)
    assert found.strength_measured < 0.9


def test_constant_genes_are_left_out_and_counted(tissue):
    predicted = tissue[2].copy()
    predicted[:, 3] = 1.0
    found = compare(tissue, predicted)
    assert found.n_undefined == 1
    assert "GENE3" not in found.genes
    assert found.measured.shape == (11, 11)


def test_a_constant_prediction_says_nothing(tissue):
    found = compare(tissue, np.ones((N_SPOTS, 12)))
    assert found.n_undefined == 12
    assert np.isnan([found.agreement, found.ceiling, found.signs_kept]).all()


def test_a_panel_that_differs_is_refused(tissue):
    with pytest.raises(InputError, match="must be of the same spots and genes"):
        compare(tissue, tissue[2], GENES[:-1])
