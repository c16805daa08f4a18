"""Ranks, recall and chance against hand-computed numbers, brute force and scipy."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from hescribe.metrics.ranks import chance_median_rank, chance_recall, find, median_rank, recall


def one_query(similarity, hits):
    is_hit = np.zeros((1, len(similarity)), dtype=bool)
    is_hit[0, list(hits)] = True
    return find(np.array([similarity], dtype=float), is_hit)


def every_order(similarity, hits, score):
    """Return a score for every order of the candidates in which ties are broken one way or another."""
    scores = []
    for order in permutations(range(len(similarity))):
        ranked = sorted(order, key=lambda i: -similarity[i])  # stable: the order decides between equals
        scores.append(score([i in hits for i in ranked]))
    return scores


@pytest.mark.parametrize(
    ("similarity", "hits"),
    [
        ([0.9, 0.5, 0.4, 0.1], {1}),
        ([0.5, 0.5, 0.5, 0.5], {2}),
        ([0.9, 0.5, 0.5, 0.5, 0.2], {1, 3}),
        ([0.7, 0.7, 0.5, 0.5, 0.5], {0, 4}),
        ([0.1, 0.9, 0.9, 0.3, 0.3], {0, 3}),
    ],
)
class TestAgainstEveryOrderOfTies:
    @pytest.mark.parametrize("k", [1, 2, 3, 5])
    def test_recall_is_its_mean(self, similarity, hits, k):
        expected = np.mean(every_order(similarity, hits, lambda ranked: any(ranked[:k])))
        assert recall(one_query(similarity, hits), k).item() == pytest.approx(expected)

    def test_median_rank_is_that_of_the_first_hit(self, similarity, hits):
        ranks = every_order(similarity, hits, lambda ranked: ranked.index(True) + 1)
        assert median_rank(one_query(similarity, hits)) == np.median(ranks)

    def test_auc_is_its_mean(self, similarity, hits):
        def auc(ranked):
            pairs = [(i, j) for i, hit in enumerate(ranked) for j, other in enumerate(ranked) if hit and not other]
            return np.mean([i < j for i, j in pairs])

        assert one_query(similarity, hits).auc.item() == pytest.approx(np.mean(every_order(similarity, hits, auc)))


def test_of_one_hit_the_auc_is_one_minus_the_mean_rank():
    found = one_query([0.9, 0.8, 0.5, 0.1, 0.0], {2})  # third of five
    assert found.auc.item() == 1 - (median_rank(found) - 1) / 4 == 0.5


def test_a_difference_of_rounding_is_a_tie():
    found = one_query([0.5 + 1e-15, 0.5, 0.1], {1})
    assert (found.better.item(), found.others.item()) == (0, 1)


@pytest.mark.parametrize(("n", "n_hits", "k"), [(64, 1, 1), (64, 1, 5), (64, 10, 1), (256, 10, 50), (300, 10, 5)])
def test_chance_of_recall_is_hypergeometric(n, n_hits, k):
    expected = 1 - stats.hypergeom.pmf(0, n, n_hits, k)
    assert chance_recall(n, n_hits, k) == pytest.approx(expected, rel=1e-12)


def test_more_places_than_candidates_find_everything():
    assert chance_recall(20, 1, 50) == 1.0
    assert recall(one_query([0.9, 0.1], {1}), 50).item() == 1.0


@pytest.mark.parametrize(("n", "n_hits"), [(64, 1), (65, 1), (64, 10), (12, 10)])
def test_chance_of_the_median_rank_is_that_of_a_random_order(n, n_hits):
    reached = np.array([1 - stats.hypergeom.pmf(0, n, n_hits, rank) for rank in range(1, n + 1)])
    expected = 1 + (np.argmax(reached > 0.5 - 1e-9) + np.argmax(reached > 0.5 + 1e-9)) / 2
    assert chance_median_rank(n, n_hits) == expected


def test_the_median_rank_of_what_is_all_tied_is_chance():
    is_hit = np.broadcast_to(np.arange(64) < 10, (7, 64))
    assert median_rank(find(np.zeros((7, 64)), is_hit)) == chance_median_rank(64, 10)
