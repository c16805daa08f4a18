import numpy as np
import pytest

from hescribe.errors import InputError
from hescribe.nearest.weights import WEIGHTINGS, average, weigh


@pytest.mark.parametrize("how", WEIGHTINGS)
def test_weights_add_up_to_one_and_never_rise_with_distance(how):
    distance = np.sort(np.random.default_rng(0).gamma(2.0, 1.0, (20, 9)), axis=1)
    weights = weigh(distance, how)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (np.diff(weights, axis=1) <= 0).all()


def test_inverse_weights_by_hand():
    distance = np.array([[1.0, 2.0, 4.0]])
    np.testing.assert_allclose(weigh(distance, "inverse"), np.array([[4, 2, 1]]) / 7)
    np.testing.assert_allclose(weigh(distance, "inverse_square"), np.array([[16, 4, 1]]) / 21)


def test_softmax_of_distances_is_the_softmax_of_minus_them():
    distance, temperature = np.array([[0.3, 0.9]]), 0.2
    expected = np.exp(-distance / temperature) / np.exp(-distance / temperature).sum()
    np.testing.assert_allclose(weigh(distance, "softmax", temperature=temperature), expected)


def test_neighbours_at_distance_zero_share_all_the_weight():
    np.testing.assert_array_equal(weigh(np.array([[0.0, 0.0, 3.0]]), "inverse_square"), [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize("how", WEIGHTINGS)
@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_weights_stay_finite_at_any_size_of_the_distances(how, size):
    weights = weigh(np.array([[1.0, 2.0]]) * size, how)
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("distance", "options", "message"),
    [
        ([[1.0, -1.0]], {}, "query 0 has others"),
        ([[1.0, 1.0], [1.0, np.nan]], {}, "query 1 has others"),
        ([[1.0]], {"how": "gaussian"}, "the weighting must be one of uniform"),
        ([[1.0]], {"how": "softmax", "temperature": 0.0}, "temperature must be above 0"),
        ([1.0], {}, "shape"),
    ],
)
def test_refuses_what_cannot_be_weighed(distance, options, message):
    with pytest.raises(InputError, match=message):
        weigh(np.array(distance), **options)


def test_average_takes_each_neighbour_by_its_weight():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    out = average(values, np.array([[2, 0], [1, 1]]), np.array([[0.75, 0.25], [0.5, 0.5]]))
    np.testing.assert_allclose(out, [[2.5, 25.0], [2.0, 20.0]])


def test_average_refuses_rows_of_another_bank():
    with pytest.raises(InputError, match="rows 0 to 7 are not all in a bank of 3"):
        average(np.ones((3, 1)), np.array([[0, 7]]), np.full((1, 2), 0.5))


def test_average_refuses_weights_of_another_shape():
    with pytest.raises(InputError, match="both must be"):
        average(np.ones((3, 1)), np.array([[0, 1]]), np.ones((1, 3)))
