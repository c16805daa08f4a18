"""A picture is halved to the bit as Pillow halves it."""

import numpy as np
import pytest
from PIL import Image

from hescribe.data.halve import halve
from hescribe.data.image import read_region


@pytest.mark.parametrize("shape", [(4, 4), (6, 10), (224, 224), (4, 38)])
def test_halving_is_pillow_s_bilinear(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    half = (shape[1] // 2, shape[0] // 2)
    expected = Image.fromarray(pixels).resize(half, Image.Resampling.BILINEAR, reducing_gap=3.0)
    np.testing.assert_array_equal(halve(pixels), np.asarray(expected))


@pytest.mark.parametrize(("width", "height"), [(20, 16), (4, 24), (16, 16)])
def test_a_region_read_at_half_the_size_is_pillow_s(width, height):
    pixels = np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    part = Image.fromarray(pixels[10 : 10 + 2 * height, 20 : 20 + 2 * width])
    expected = part.resize((width, height), Image.Resampling.BILINEAR)
    found = read_region(pixels, 0.5, 10.0, 5.0, (float(width), float(height)), 1.0)
    np.testing.assert_array_equal(found, np.asarray(expected))
