import sys
from dataclasses import replace

import numpy as np
import pytest

from hescribe.errors import InputError, MissingDependencyError
from hescribe.nearest.search import measure, nearest


@pytest.fixture(scope="module")
def ivf():
    pytest.importorskip("faiss", reason="approximate search needs the extra [retrieval]")
    from hescribe.nearest.ivf import IvfIndex  # noqa: PLC0415 - only where faiss is

    return IvfIndex


def clustered(n, seed, *, n_clusters=40, n_dims=16):
    centres = np.random.default_rng(0).normal(size=(n_clusters, n_dims))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, n_clusters, n)] + 0.2 * rng.normal(size=(n, n_dims))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_finds_nearly_all_neighbours_in_clusters_and_measures_it(ivf, metric):
    query, bank = clustered(100, 1), clustered(20_000, 2)
    found, exact = ivf.build(bank, k=10, metric=metric).search(query, 10), nearest(query, bank, 10, metric=metric)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.rows, exact.rows, strict=True)])
    assert found.recall == pytest.approx(share, abs=0.002)  # 100 queries: all of them are measured
    assert found.recall >= 0.98
    same = found.rows == exact.rows
    np.testing.assert_array_equal(found.distance[same], exact.distance[same])


def test_says_so_where_it_finds_little(ivf):
    rng = np.random.default_rng(3)
    bank = rng.normal(size=(20_000, 32)).astype(np.float32)
    index = ivf.build(bank, k=10)
    assert replace(index, n_probe=1).search(rng.normal(size=(100, 32)), 10).recall < 0.5


def test_two_indexes_of_one_bank_answer_alike(ivf):
    query, bank = clustered(20, 4), clustered(3000, 5)
    first, second = (ivf.build(bank, k=5).search(query, 5) for _ in range(2))
    np.testing.assert_array_equal(first.rows, second.rows)
    assert first.recall == second.recall


def test_answers_exactly_where_the_lists_hold_too_few_rows(ivf):
    query, bank = clustered(5, 6), clustered(2000, 7)
    found = ivf.build(bank, k=5).search(query, 1500)
    assert found.recall == 1.0
    np.testing.assert_array_equal(found.rows, nearest(query, bank, 1500).rows)


def test_refuses_l1_and_vectors_without_direction(ivf):
    bank = clustered(600, 8)
    with pytest.raises(InputError, match="knows cosine and l2"):
        ivf.build(bank, k=5, metric="l1")
    index = ivf.build(bank, k=5)
    with pytest.raises(InputError, match="row 1 of the query is all zeros"):
        index.search(np.array([[1.0] * 16, [0.0] * 16]), 5)
    with pytest.raises(InputError, match="between 1 and the 600 rows"):
        index.search(bank[:2], 601)
    bank[5] = np.nan
    with pytest.raises(InputError, match="row 5 of the bank holds a value that is not finite"):
        ivf.build(bank, k=5)


def test_names_the_extra_where_faiss_is_missing(monkeypatch):
    from hescribe.nearest.ivf import IvfIndex  # noqa: PLC0415 - imports no faiss

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"hescribe\[retrieval\]"):
        IvfIndex.build(np.ones((10, 2)), k=1)


def test_measures_rows_that_were_found_otherwise():
    query, bank = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    rows = np.array([[2, 0, 1]])
    np.testing.assert_allclose(measure(query, bank, rows), [[0.0, 1.0, 1 - 0.5**0.5]], atol=1e-7)
    np.testing.assert_allclose(measure(query, bank, rows, metric="l1"), [[1.0, 2.0, 1.0]])
    with pytest.raises(InputError, match="rows 0 to 3 are not all in a bank of 3"):
        measure(query, bank, np.array([[0, 3]]))
    with pytest.raises(InputError, match=r"rows must have the shape \(1, k\)"):
        measure(query, bank, np.array([0, 1]))
