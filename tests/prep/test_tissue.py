"""Tissue is found on glass, whatever else is dark, and a grid is laid over it."""

import numpy as np
import pytest

from hescribe.data.image import ArrayImage
from hescribe.errors import InputError
from hescribe.prep.tissue import grid_section, tissue_mask


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
