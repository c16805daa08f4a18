"""Mixing of batches against scikit-learn, an independent search, and planted offsets."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import silhouette_score

from hescribe.errors import InputError
from hescribe.metrics.mixing import batch_silhouette, cross_modal_lisi, lisi, modality_lisi
from hescribe.metrics.pairs import Pairs

RNG = np.random.default_rng(0)
LABELS = np.repeat(["a", "b", "c"], [120, 100, 80])
SPOTS = RNG.normal(size=(300, 6))


def pairs_of(image, expression):
    return Pairs(image=image, expression=expression, section=LABELS, donor=LABELS)


def test_silhouette_equals_scikit_learn():
    vectors = SPOTS + (LABELS == "b")[:, None] * 2.0
    assert batch_silhouette(vectors, LABELS) == pytest.approx(silhouette_score(vectors, LABELS), abs=1e-12)


def test_silhouette_of_a_batch_of_one_counts_0_as_in_scikit_learn():
    labels = np.array(["a"] * 299 + ["b"])
    assert batch_silhouette(SPOTS, labels) == pytest.approx(silhouette_score(SPOTS, labels), abs=1e-12)


def test_silhouette_of_collapsed_vectors_is_0():
    assert batch_silhouette(np.ones((4, 2)), np.array(["a", "a", "b", "b"])) == 0.0


def test_lisi_equals_a_kernel_whose_width_another_solver_finds():
    asked, sought = SPOTS[:5], SPOTS[5:]
    found, _ = lisi(asked, sought, LABELS[5:], perplexity=20)
    for row, point in zip(found, asked, strict=True):
        distance = np.linalg.norm(sought - point, axis=1)
        near = np.argsort(distance)[:60]

        def weights(beta, near=near, distance=distance):
            w = np.exp(-beta * (distance[near] - distance[near].min()))
            return w / w.sum()

        def surplus(beta, weights=weights):
            return -(weights(beta) * np.log(weights(beta))).sum() - np.log(20)

        w = weights(optimize.brentq(surplus, 1e-6, 30))
        shares = [w[LABELS[5:][near] == name].sum() for name in "abc"]
        assert row == pytest.approx(1 / np.square(shares).sum(), rel=1e-6)


def test_cross_modal_lisi_of_noise_is_that_of_perfect_mixing():
    found = cross_modal_lisi(pairs_of(SPOTS, np.random.default_rng(1).normal(size=SPOTS.shape)))
    assert found.mixed < 300**2 / (120**2 + 100**2 + 80**2)  # 30 neighbours are never quite even
    assert found.value == pytest.approx(found.mixed, rel=0.03)


def test_perfect_mixing_is_the_mean_over_permuted_labels():
    permuted = [lisi(SPOTS[:9], SPOTS[9:], np.random.default_rng(i).permutation(LABELS[9:]))[0] for i in range(400)]
    _, mixed = lisi(SPOTS[:9], SPOTS[9:], LABELS[9:])
    np.testing.assert_allclose(1 / np.mean(1 / np.array(permuted), axis=0), mixed, rtol=0.01)


def test_cross_modal_lisi_falls_to_1_where_sections_lie_apart():
    apart = SPOTS + 30 * (LABELS[:, None] == np.repeat([["a", "b", "c"]], 2, axis=1).ravel())
    assert cross_modal_lisi(pairs_of(apart, apart)).value == pytest.approx(1, abs=0.01)


def test_cross_modal_lisi_sees_an_offset_of_one_side():
    """Each side alone is well mixed but for section c, whose images lie among the expression of nobody near them."""
    offset = np.where(LABELS == "c", 30.0, 0.0)[:, None] * np.eye(6)[0]
    whole, shifted = cross_modal_lisi(pairs_of(SPOTS, SPOTS)), cross_modal_lisi(pairs_of(SPOTS, SPOTS + offset))
    assert shifted.value < whole.value - 0.2


def test_a_gap_between_the_sides_shows_in_the_modality():
    mixed, apart = modality_lisi(pairs_of(SPOTS, SPOTS + 0.0)), modality_lisi(pairs_of(SPOTS + 20, SPOTS - 20))
    assert round(apart.value, 3) == 1.0
    assert mixed.value == pytest.approx(mixed.mixed, rel=0.05)


@pytest.mark.parametrize("score", [cross_modal_lisi, lambda p: batch_silhouette(p.image, p.section)])
def test_one_section_cannot_be_mixed(score):
    labels = np.repeat(["a"], 300)
    with pytest.raises(InputError, match="one only"):
        score(Pairs(image=SPOTS, expression=SPOTS, section=labels, donor=labels))


def test_silhouette_names_the_spot_that_is_not_finite():
    vectors = SPOTS.copy()
    vectors[11, 2] = np.inf
    with pytest.raises(InputError, match="at spot 11"):
        batch_silhouette(vectors, LABELS)


def test_lisi_needs_neighbours():
    with pytest.raises(InputError, match="at least 2 neighbours"):
        lisi(SPOTS[:1], SPOTS[:1], LABELS[:1])
