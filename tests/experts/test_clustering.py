"""Clusters in two stages: where they lie, what they count, and what is refused."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from hescribe.errors import InputError
from hescribe.experts import clustering
from hescribe.experts.clustering import NpyTiles, distances, fit_clusters
from hescribe.experts.stability import rank_numbers, stability


def clouds(places: list[float], n: int = 30, seed: int = 0) -> np.ndarray:
    """Return tiles around some places of a line in five dims, ``n`` at each."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(at, 0.1, (n, 5)) for at in places]).astype(np.float32)


def test_finds_clouds_within_organs_and_joins_those_that_organs_share():
    organs = {"breast": clouds([0.0, 10.0]), "colon": clouds([0.2, 20.0], seed=1)}
    found = fit_clusters(organs, n_fine=2, n_experts=3)
    where = {round(float(c.mean())): e for c, e in zip(found.centres, found.expert, strict=True)}
    of_zero = {int(e) for c, e in zip(found.centres, found.expert, strict=True) if c.mean() < 1}
    assert len(of_zero) == 1, "both organs have a cloud at 0"
    assert len({where[0], where[10], where[20]}) == 3
    assert found.organs == ("breast", "breast", "colon", "colon")
    np.testing.assert_array_equal(found.size, [30, 30, 30, 30])


def test_weighting_lets_many_tiles_outvote_many_centres():
    # 1,000 tiles each at 0 and 2 of one organ, two each at 4 and 5 of another. Of two experts, tiles draw the border
    # between 0 and 2, centres that count once draw it between 2 and 4.
    organs = {"large": clouds([0.0, 2.0], n=1000), "small": clouds([4.0, 5.0], n=2)}
    weighted = fit_clusters(organs, n_fine=2, n_experts=2)
    unweighted = fit_clusters(organs, n_fine=2, n_experts=2, weighted=False)

    def experts(found):
        return [int(e) for _, e in sorted(zip(found.centres.mean(axis=1), found.expert, strict=True))]

    assert experts(weighted)[0] != experts(weighted)[1]
    assert experts(unweighted)[0] == experts(unweighted)[1] != experts(unweighted)[2]


def test_streaming_moves_centres_to_the_mean_of_all_tiles(monkeypatch, tmp_path):
    x = clouds([0.0, 10.0], n=500)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(clustering, "N_SAMPLE", 50)
    monkeypatch.setattr(clustering, "BLOCK", 64)
    found = fit_clusters({"breast": NpyTiles(tmp_path / "x.npy")}, n_fine=2, n_experts=2)
    expected = np.stack([x[:500].mean(axis=0), x[500:].mean(axis=0)])
    order = found.centres.mean(axis=1).argsort()
    np.testing.assert_allclose(found.centres[order], expected, atol=1e-4)
    np.testing.assert_array_equal(found.size, [500, 500])


def test_agrees_with_lloyds_steps_of_scikit_learn():
    x = clouds([0.0, 1.0, 2.0, 5.0], n=50)
    found = fit_clusters({"breast": x}, n_fine=4, n_experts=4)
    reference = KMeans(4, n_init=10, random_state=1).fit_predict(x)
    assert adjusted_rand_score(found.nearest(x)[0], reference) == 1.0


def test_distances_are_those_of_numpy():
    rng = np.random.default_rng(0)
    x, centres = rng.normal(size=(20, 8)), rng.normal(size=(3, 8))
    expected = np.linalg.norm(x[:, None] - centres, axis=2)
    np.testing.assert_allclose(distances(x, centres), expected, rtol=1e-4)


def test_far_is_a_distance_that_one_train_tile_in_a_hundred_exceeds():
    x = clouds([0.0], n=1000)
    found = fit_clusters({"breast": x}, n_fine=1, n_experts=1)
    assert np.mean(found.nearest(x)[1] > found.far) == pytest.approx(0.01, abs=0.002)


def test_refuses_more_clusters_than_an_organ_has_tiles():
    with pytest.raises(InputError, match="organ colon has 3 train tiles and is to have 4 clusters; lower n_fine"):
        fit_clusters({"breast": clouds([0.0]), "colon": clouds([0.0], n=3)}, n_fine=4, n_experts=2)


def test_refuses_more_experts_than_centres():
    with pytest.raises(InputError, match="n_experts is 5, more than the 4 centres"):
        fit_clusters({"breast": clouds([0.0]), "colon": clouds([1.0])}, n_fine=2, n_experts=5)


def test_refuses_tiles_that_are_all_alike():
    with pytest.raises(InputError, match="organ breast: fewer than 2 tiles differ"):
        fit_clusters({"breast": np.zeros((10, 3))}, n_fine=2, n_experts=2)


def test_refuses_organs_of_different_dims_and_values_that_are_not_finite():
    with pytest.raises(InputError, match="features of 4 and 5 dims"):
        fit_clusters({"breast": clouds([0.0]), "colon": np.zeros((9, 4))}, n_fine=1, n_experts=1)
    broken = clouds([0.0])
    broken[7, 2] = np.nan
    with pytest.raises(InputError, match="tile 7 are not finite"):
        fit_clusters({"breast": broken}, n_fine=1, n_experts=1)


def test_stability_is_high_for_as_many_clusters_as_there_are_clouds_and_low_for_more():
    features = [clouds([0.0, 3.0, 9.0, 30.0], seed=d) for d in range(4)]
    curve = stability(["breast"] * 4, ["a", "b", "c", "d"], features, n_fine=12, candidates=(2, 4, 8, 12))
    assert curve[2] > 0.95
    assert curve[4] > 0.95
    assert curve[12] < 0.7
    assert rank_numbers(curve)[0] == 4


def test_one_donor_is_cut_into_parts_of_its_tiles():
    curve = stability(["breast"], ["a"], [clouds([0.0, 9.0])], n_fine=4, candidates=(2,))
    assert curve[2] == pytest.approx(1.0)


def test_more_experts_than_tiles_are_not_tried():
    assert stability(["breast"], ["a"], [clouds([0.0], n=8)], n_fine=16, candidates=(16,)) == {}
    with pytest.raises(InputError, match="give n_experts="):
        rank_numbers({})
