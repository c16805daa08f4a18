import numpy as np
import pytest

from hescribe.data.scale import choose_mpp, find_pitch_px
from hescribe.errors import UnitsError

SQUARE = np.array([(x, y) for x in range(5) for y in range(4)])
TURN = np.array([[0.6, -0.8], [0.8, 0.6]])


def nearest(xy):
    """Return the smallest distance between two spots."""
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    return apart[apart > 0].min()


@pytest.mark.parametrize(
    ("grid", "array_xy", "step"),
    [
        ("square", SQUARE, (1.0, 1.0)),
        ("checker", SQUARE[SQUARE.sum(axis=1) % 2 == 0], (1.0, 1.0)),
        ("hex", SQUARE[SQUARE.sum(axis=1) % 2 == 1], (0.5, np.sqrt(3) / 2)),
    ],
)
@pytest.mark.parametrize("mirror", [1, -1])
def test_the_pitch_is_the_distance_of_neighbours(grid, array_xy, step, mirror):
    xy_px = array_xy * step * 173.0 @ TURN * (1, mirror) + 1000
    assert find_pitch_px(xy_px, array_xy, grid, "s1") == pytest.approx(nearest(xy_px))


def test_jitter_hardly_matters():
    xy_px = SQUARE * 300.0 + np.random.default_rng(0).normal(0, 5, SQUARE.shape)
    assert find_pitch_px(xy_px, SQUARE, "square", "s1") == pytest.approx(300, rel=0.02)


def test_pixels_of_another_section_are_refused():
    xy_px = np.random.default_rng(0).permutation(SQUARE) * 300.0
    with pytest.raises(UnitsError, match="section s1: the pixel coordinates do not follow the places on the array"):
        find_pitch_px(xy_px, SQUARE, "square", "section s1")


@pytest.mark.parametrize("places", [SQUARE[:2], np.array([(0, 0), (1, 1), (2, 2), (3, 3)])])
def test_spots_in_one_line_give_no_scale(places):
    with pytest.raises(UnitsError, match="do not span a grid"):
        find_pitch_px(places * 300.0, places, "square", "s1")


def test_a_full_array_is_no_checker():
    with pytest.raises(UnitsError, match="do not lie on a checker array"):
        find_pitch_px(SQUARE * 300.0, SQUARE, "checker", "s1")


def test_the_first_statement_wins_if_all_agree():
    assert choose_mpp({"image": None, "--mpp": 0.5, "spot pitch": 0.51}, "s1") == (0.5, "--mpp")


def test_contradictions_and_silence_are_refused():
    with pytest.raises(UnitsError, match="s1: the scale is contradictory"):
        choose_mpp({"image": 0.5, "spot pitch": 0.53}, "s1")
    with pytest.raises(UnitsError, match=r"s1: .*give --mpp .* or pitch_um"):
        choose_mpp({"image": None}, "s1")
