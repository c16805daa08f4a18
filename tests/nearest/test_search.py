import numpy as np
import pytest
from scipy.spatial.distance import cdist

from hescribe.errors import InputError
from hescribe.nearest import _bfloat16, exact
from hescribe.nearest.scan import Scan
from hescribe.nearest.search import nearest

SCIPY = {"cosine": "cosine", "l2": "euclidean", "l1": "cityblock"}


def vectors(n, n_dims, seed, *, offset=0.0):
    return np.random.default_rng(seed).normal(size=(n, n_dims)) + offset


def by_sorting(query, bank, k, metric):
    """Every distance by scipy, in float64, and a stable sort: the independent reference."""
    distance = cdist(query.astype(np.float64), bank.astype(np.float64), SCIPY[metric])
    rows = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(distance, rows, axis=1)


@pytest.mark.parametrize("metric", ["cosine", "l2", "l1"])
class TestEveryMetric:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("offset", [0.0, 50.0])
    def test_finds_what_sorting_all_distances_finds(self, metric, dtype, offset):
        query, bank = (vectors(n, 17, n, offset=offset).astype(dtype) for n in (40, 5000))
        found = nearest(query, bank, 30, metric=metric)
        rows, distance = by_sorting(query, bank, 30, metric)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_allclose(found.distance, distance, rtol=1e-5, atol=1e-7)

    def test_orders_equal_vectors_by_row(self, metric):
        bank = np.tile(vectors(5, 8, 0), (400, 1))  # every vector 400 times
        found = nearest(bank[:5], bank, 300, metric=metric)
        np.testing.assert_array_equal(found.rows, np.arange(5)[:, None] + 5 * np.arange(300))

    def test_tells_apart_what_the_scan_cannot(self, metric):
        """Neighbours that differ in the 10th digit, listed from far to near."""
        query = np.array([[1.0, 0.0]])
        bank = np.column_stack([np.ones(3000), 1e-3 + 1e-10 * np.arange(3000, 0, -1)])
        np.testing.assert_array_equal(nearest(query, bank, 50, metric=metric).rows[0], 2999 - np.arange(50))

    def test_does_not_depend_on_how_the_work_is_cut(self, metric, monkeypatch):
        query, bank = vectors(60, 9, 1), vectors(700, 9, 2)
        whole = nearest(query, bank, 20, metric=metric)
        monkeypatch.setattr(exact, "QUERIES", 7)
        monkeypatch.setattr(exact, "TILE", 11)
        monkeypatch.setattr(exact, "WORTH_THREADS", 0)
        monkeypatch.setenv("HESCRIBE_WORKERS", "3")
        cut = nearest(query, bank, 20, metric=metric)
        np.testing.assert_array_equal(cut.rows, whole.rows)
        np.testing.assert_array_equal(cut.distance, whole.distance)

    def test_gives_a_query_the_same_alone_and_in_company(self, metric):
        query, bank = vectors(50, 33, 3).astype(np.float32), vectors(900, 33, 4).astype(np.float32)
        together, alone = nearest(query, bank, 10, metric=metric), nearest(query[31:32], bank, 10, metric=metric)
        np.testing.assert_array_equal(alone.rows[0], together.rows[31])
        np.testing.assert_array_equal(alone.distance[0], together.distance[31])

    def test_returns_the_whole_bank_in_order(self, metric):
        query, bank = vectors(3, 4, 5), vectors(200, 4, 6)
        np.testing.assert_array_equal(
            nearest(query, bank, 200, metric=metric).rows, by_sorting(query, bank, 200, metric)[0]
        )

    def test_is_exact_for_very_small_and_very_large_vectors(self, metric):
        for size in (1e-22, 1e12):
            query, bank = vectors(5, 6, 7) * size, vectors(400, 6, 8) * size
            np.testing.assert_array_equal(
                nearest(query, bank, 10, metric=metric).rows, by_sorting(query, bank, 10, metric)[0]
            )

    def test_refuses_what_is_not_finite_and_says_where(self, metric):
        bank = vectors(5000, 4, 9)
        bank[4321, 2] = np.nan
        with pytest.raises(InputError, match="row 4321 of the bank holds a value that is not finite"):
            nearest(bank[:3], bank, 2, metric=metric)
        with pytest.raises(InputError, match="row 1 of the query"):
            nearest(bank[4320:4323], bank[:9], 2, metric=metric)


class TestHalves:
    """The scan in bfloat16, which any processor can do; it is chosen where that is fast."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(_bfloat16, "WORTH_IT", 0)
        monkeypatch.setattr(_bfloat16, "is_faster", lambda: True)

    def test_finds_what_sorting_all_distances_finds(self):
        query, bank = vectors(30, 64, 11), vectors(9000, 64, 12)
        np.testing.assert_array_equal(nearest(query, bank, 25).rows, by_sorting(query, bank, 25, "cosine")[0])

    def test_tells_apart_what_bfloat16_cannot(self):
        """Two digits of bfloat16, ten of the distances; the bank goes from far to near."""
        query = np.array([[1.0, 1.0, 0.0]])
        bank = np.column_stack([np.ones((6000, 2)), 1.0 + 1e-8 * np.arange(6000, 0, -1)])
        np.testing.assert_array_equal(nearest(query, bank, 50).rows[0], 5999 - np.arange(50))

    def test_finds_the_nearest_of_a_bank_on_the_other_side(self):
        """All cosines are negative: their bits are in the opposite order."""
        query, bank = -np.ones((4, 8)), np.abs(vectors(5000, 8, 13))
        np.testing.assert_array_equal(nearest(query, bank, 9).rows, by_sorting(query, bank, 9, "cosine")[0])


def test_a_scan_that_is_wrong_by_more_than_its_bound_is_caught(monkeypatch):
    """A planted fault: scores that are too low would lose neighbours in silence."""
    compare = Scan.compare
    monkeypatch.setattr(Scan, "compare", lambda *parts: compare(*parts) - 0.01)
    with pytest.raises(AssertionError, match="more than its bound"):
        nearest(vectors(5, 8, 14), vectors(100, 8, 15), 3)


def test_refuses_a_vector_without_direction_under_the_cosine_only():
    bank = np.array([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(InputError, match="row 1 of the bank is all zeros"):
        nearest(bank[:1], bank, 1)
    assert nearest(bank[:1], bank, 1, metric="l2").rows.item() == 0


def test_refuses_vectors_too_large_to_square():
    with pytest.raises(InputError, match="row 1 of the bank is larger than 1e"):
        nearest(np.ones((1, 2)), np.array([[1.0, 1.0], [1e20, 1.0]]), 1, metric="l1")


def test_reads_a_memory_map_of_half_precision(tmp_path):
    bank = np.memmap(tmp_path / "bank", dtype=np.float16, mode="w+", shape=(300, 5))
    bank[:] = vectors(300, 5, 10)
    rows, _ = by_sorting(bank[:4], bank, 6, "l2")
    np.testing.assert_array_equal(nearest(bank[:4], bank, 6, metric="l2").rows, rows)


def test_answers_no_query_with_no_rows():
    found = nearest(np.empty((0, 3)), np.ones((4, 3)), 2)
    assert found.rows.shape == found.distance.shape == (0, 2)


@pytest.mark.parametrize(
    ("query", "bank", "k", "metric", "message"),
    [
        (np.ones((2, 3)), np.empty((0, 3)), 1, "cosine", "the bank is empty"),
        (np.ones((2, 3)), np.ones((5, 3)), 6, "cosine", "between 1 and the 5 rows of the bank, got 6"),
        (np.ones((2, 3)), np.ones((5, 3)), 0, "cosine", "between 1 and the 5 rows of the bank, got 0"),
        (np.ones((2, 3)), np.ones((5, 4)), 1, "cosine", "the query has 3 dimensions and the bank 4"),
        (np.ones(3), np.ones((5, 3)), 1, "cosine", "the query must be real numbers of shape"),
        (np.ones((2, 3)), np.full((5, 3), "a"), 1, "cosine", "the bank must be real numbers"),
        (np.ones((2, 3)), np.ones((5, 3)), 1, "euclid", "metric must be one of cosine, l2, l1, got 'euclid'"),
    ],
)
def test_refuses_a_search_that_makes_no_sense(query, bank, k, metric, message):
    with pytest.raises(InputError, match=message):
        nearest(query, bank, k, metric=metric)
