"""Tissue is found on glass, whatever else is dark, and a grid is laid over it."""

import numpy as np
import pytest

from hescribe.data.image import ArrayImage
from hescribe.errors import InputError
from hescribe.prep.tissue import grid_section, placed_section, tissue_mask


def slide(paint):
    pixels = np.random.default_rng(0).normal(240, 3, (400, 600, 3)).clip(0, 255).astype(np.uint8)
    paint(pixels)
    return ArrayImage(pixels, 4.0, "slide")  # 2.4 x 1.6 mm


def eosin(pixels):
    pixels[100:300, 150:450] = (205, 140, 180)


def test_tissue_is_found_where_it_is():
    mask = tissue_mask(slide(eosin))
    assert mask[60:140, 90:210].mean() > 0.95
    assert mask[:40].mean() < 0.02


def test_a_black_border_is_no_tissue():
    def paint(pixels):
        eosin(pixels)
        pixels[:40] = 5

    assert tissue_mask(slide(paint))[:18].mean() < 0.05


def test_grid_covers_the_tissue_at_its_pitch():
    section = grid_section(slide(eosin), "slide", 100.0)
    x, y = section.xy_um.T
    assert (x.min() > 550, x.max() < 1850, y.min() > 350, y.max() < 1250) == (True,) * 4
    assert section.n_spots == pytest.approx(12 * 8, rel=0.2)
    assert np.diff(np.unique(x)).min() == 100.0


def test_an_empty_slide_is_refused():
    with pytest.raises(InputError, match="no tissue found"):
        grid_section(slide(lambda p: None), "blank", 100.0)


@pytest.mark.parametrize("pitch_um", [0.0, -3.0, float("nan"), float("inf"), 0.01])
def test_an_impossible_pitch_is_refused(pitch_um):
    with pytest.raises(InputError, match="distance between spots must be at least 1 um"):
        grid_section(slide(eosin), "slide", pitch_um)


@pytest.mark.parametrize(
    "ink", [(30, 60, 180), (20, 120, 60), (200, 30, 40), (25, 25, 30), (90, 92, 94)],
    ids=["blue", "green", "red", "black", "pencil"],
)  # fmt: skip
def test_ink_is_no_tissue_wherever_it_was_drawn(ink):
    def paint(pixels):
        eosin(pixels)
        pixels[20:60, 50:550] = ink  # on glass
        pixels[180:220, 200:400] = ink  # on tissue

    mask = tissue_mask(slide(paint))
    assert mask[12:28, 30:270].mean() < 0.02
    assert mask[95:105, 110:190].mean() < 0.05
    assert mask[60:80, 90:210].mean() > 0.9


def test_a_fold_and_a_haematoxylin_nest_are_tissue():
    def paint(pixels):
        eosin(pixels)
        pixels[150:250, 200:240] = np.array((205, 140, 180)) ** 2 // 255  # two layers
        pixels[150:250, 300:380] = (90, 60, 140)

    mask = tissue_mask(slide(paint))
    assert mask[80:120, 102:118].all()
    assert mask[80:120, 155:185].all()


def test_a_background_that_was_blacked_out_is_no_tissue_and_no_fluorescence():
    def paint(pixels):
        pixels[:] = np.random.default_rng(1).integers(0, 4, pixels.shape)
        pixels[100:300, 150:450] = np.random.default_rng(2).normal((205, 140, 180), 6, (200, 300, 3))

    section = grid_section(slide(paint), "dark", 100.0)
    assert section.n_spots == pytest.approx(12 * 8, rel=0.2)


def test_a_blank_border_of_another_white_is_no_tissue():
    def paint(pixels):
        eosin(pixels)
        pixels[:, :60] = 255
        pixels[370:] = (214, 214, 216)  # the edge of the glass

    mask = tissue_mask(slide(paint))
    assert mask[:, :28].mean() < 0.01
    assert mask[188:].mean() < 0.01


@pytest.mark.parametrize("light", [(20, 30, 200), (150, 150, 150), (10, 90, 20)], ids=["blue", "grey", "green"])
def test_fluorescence_is_refused(light):
    def paint(pixels):
        rng = np.random.default_rng(1)
        glow = rng.random((400, 600, 1)) ** 3 * (rng.random((400, 600, 1)) < 0.4)
        pixels[:] = 6 + glow * np.array(light)

    with pytest.raises(InputError, match="light on dark, as under fluorescent light"):
        grid_section(slide(paint), "stained", 100.0)


def test_spots_lie_where_they_are_told_to_and_nowhere_else():
    section = placed_section(slide(eosin), "slide", ["a", "b"], np.array([[700.0, 500.0], [810.0, 620.0]]))
    assert list(section.table.obs_names) == ["a", "b"]
    np.testing.assert_array_equal(section.xy_um, [[700.0, 500.0], [810.0, 620.0]])
    np.testing.assert_allclose(section.table.obsm["spatial"], [[175.0, 125.0], [202.5, 155.0]])
    with pytest.raises(InputError, match=r"1 of 2 places are outside of slide \(2400 x 1600 um\), such as b"):
        placed_section(slide(eosin), "slide", ["a", "b"], np.array([[700.0, 500.0], [810.0, 6200.0]]))
