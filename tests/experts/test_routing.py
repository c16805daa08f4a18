"""Whom a tile is sent to: hand-computed weights, far tiles, and arrays that survive saving."""

import numpy as np
import pytest

from hescribe.errors import FormatError, InputError
from hescribe.experts.clustering import Clusters
from hescribe.experts.mixture import share_out
from hescribe.experts.routing import Router
from hescribe.prep.scale import Scale

CENTRES = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)  # of experts 0, 1 and 0


@pytest.fixture
def router() -> Router:
    clusters = Clusters(CENTRES, np.array([0, 1, 0]), np.array([5, 5, 5]), ("a", "a", "b"), near=0.5, far=2.0)
    return Router(clusters, None, unit=0.5)


def test_weights_are_a_softmax_over_all_centres_summed_by_expert(router):
    # A tile at 1: distances 1, 0, 2; in units of .5 at temperature 2: e^-1, e^0, e^-2.
    e = np.exp([-1.0, 0.0, -2.0])
    np.testing.assert_allclose(
        router.weights(np.array([[1.0]]), 2.0), [[(e[0] + e[2]) / e.sum(), e[1] / e.sum()]], rtol=1e-5
    )


def test_temperature_0_asks_the_nearest_alone_and_infinity_all_centres_alike(router):
    tiles = np.array([[0.1], [1.2], [2.9]])
    np.testing.assert_array_equal(router.weights(tiles, 0.0), [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(router.weights(tiles, np.inf), [[2 / 3, 1 / 3]] * 3, rtol=1e-6)


def test_the_published_temperature_is_one_hot_on_distances_of_that_size(router):
    published = Router(router.clusters, None, unit=1.0)
    assert published.weights(np.array([[0.0]]), 0.1)[0, 0] > 0.9999  # a gap of 1 is e^10 to 1


def test_a_tile_beyond_all_centres_still_has_weights_that_sum_to_1(router):
    weights = router.weights(np.array([[1e6]]), 1e-3)
    assert weights.sum() == pytest.approx(1.0)
    assert router.is_far(np.array([[1e6], [0.0], [5.5]])).tolist() == [True, False, True]


def test_features_are_scaled_before_they_are_compared(router):
    scaled = Router(router.clusters, Scale(np.array([10.0]), np.array([2.0])), unit=0.5)
    assert scaled.nearest(np.array([[12.0]]))[0].tolist() == [1]  # (12 - 10) / 2 = 1, the second centre


def test_refuses_features_of_other_dims_and_a_negative_temperature(router):
    with pytest.raises(InputError, match="fitted on features of 1 dims"):
        router.weights(np.zeros((2, 3)), 1.0)
    with pytest.raises(InputError, match="at least 0, got -1"):
        router.weights(np.zeros((2, 1)), -1.0)


def test_survives_saving_and_refuses_arrays_of_another(router):
    state = router.state()
    again = Router.restore(state, router.clusters.organs)
    tiles = np.linspace(-1, 4, 9)[:, None]
    np.testing.assert_array_equal(again.weights(tiles, 0.3), router.weights(tiles, 0.3))
    with pytest.raises(FormatError, match=r"missing or unknown arrays \(centres\)"):
        Router.restore({k: v for k, v in state.items() if k != "centres"}, router.clusters.organs)
    with pytest.raises(FormatError, match="do not fit together"):
        Router.restore({**state, "expert": np.zeros(2, dtype=int)}, router.clusters.organs)


def test_an_expert_learns_from_its_own_spots_and_a_share_of_the_others():
    expert = np.repeat([0, 1], [40, 60])
    first, second = share_out(expert, 2, 0.05, seed=0)
    assert first[:40].all()
    assert first[40:].sum() == 2
    assert second[40:].all()
    assert second[:40].sum() == 3
    assert [int(p.sum()) for p in share_out(expert, 2, 0.0, seed=0)] == [40, 60]


def test_refuses_a_cluster_without_a_train_pair():
    with pytest.raises(InputError, match="cluster 1 of 3 has no train pair, too few to learn from; lower n_experts"):
        share_out(np.array([0, 0, 2, 2]), 3, 0.0, seed=0)
    with pytest.raises(InputError, match="has 1 train pair,"):
        share_out(np.array([0, 0, 1]), 2, 0.0, seed=0)
