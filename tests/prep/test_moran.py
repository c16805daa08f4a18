"""Moran's I is its definition, sparse or dense."""

import numpy as np
import pytest
from scipy import sparse

from hescribe.errors import InputError
from hescribe.prep.moran import morans_i


def chain(n):
    return sparse.csr_matrix(np.eye(n, k=1) + np.eye(n, k=-1))


def by_definition(x, w):
    z = x - x.mean(axis=0)
    return len(x) / w.sum() * np.einsum("ig,ij,jg->g", z, w, z) / (z**2).sum(axis=0)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_it_equals_its_definition_on_an_asymmetric_graph(form):
    rng = np.random.default_rng(0)
    x = rng.poisson(0.6, (30, 9)).astype(float)
    w = rng.random((30, 30)) * (rng.random((30, 30)) < 0.15)
    np.testing.assert_allclose(morans_i(form(x), sparse.csr_matrix(w)), by_definition(x, w), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_any_number_type_will_do(dtype):
    x = np.random.default_rng(1).poisson(1.0, (20, 4)).astype(dtype)
    expected = by_definition(x.astype(float), chain(20).toarray())
    np.testing.assert_allclose(morans_i(x, chain(20)), expected, rtol=1e-10)
    np.testing.assert_allclose(morans_i(sparse.csr_matrix(x), chain(20)), expected, rtol=1e-10)


def test_a_small_change_on_a_large_mean_is_still_seen():
    x = np.random.default_rng(2).normal(1e3, 1.0, (50, 3))
    expected = by_definition(x, chain(50).toarray())
    np.testing.assert_allclose(morans_i(sparse.csr_matrix(x), chain(50)), expected, atol=1e-6)
    np.testing.assert_allclose(morans_i(x, chain(50)), expected, atol=1e-12)


def test_a_value_that_is_stored_in_two_parts_counts_once():
    x = np.array([[3.0, 0.0], [1.0, 2.0], [0.0, 5.0]])
    parts = sparse.csr_matrix(([2.0, 1.0, 1.0, 2.0, 5.0], [0, 0, 0, 1, 1], [0, 2, 4, 5]), shape=(3, 2))
    np.testing.assert_allclose(morans_i(parts, chain(3)), by_definition(x, chain(3).toarray()))
    assert parts.nnz == 5  # what is given is not changed


def test_a_constant_gene_is_undefined_and_the_others_are_not():
    x = np.array([[0.0, 2.7, 1.0], [0.0, 2.7, 2.0], [0.0, 2.7, 4.0]])
    for form in (np.asarray, sparse.csr_matrix):
        assert np.isnan(morans_i(form(x), chain(3))).tolist() == [True, True, False]


def test_without_neighbours_every_gene_is_undefined():
    x = np.array([[1.0], [2.0]])
    assert np.isnan(morans_i(x, sparse.csr_matrix((2, 2)))).all()
    assert np.isnan(morans_i(sparse.csr_matrix(x), sparse.csr_matrix((2, 2)))).all()


def test_one_spot_is_undefined():
    assert np.isnan(morans_i(np.ones((1, 2)), sparse.csr_matrix((1, 1)))).all()


def test_a_graph_of_other_spots_is_refused():
    with pytest.raises(InputError, match="joins 4 spots and the values have 3 rows"):
        morans_i(np.ones((3, 1)), chain(4))
