"""What is wrong with a patch is told by a word."""

import numpy as np
import pytest
from scipy import ndimage

from hescribe.bench.flags import flag_spots
from hescribe.encode.look import Look

PX = 112


def tissue(seed=0):
    """Return nuclei in eosin, with the grain of a camera."""
    rng = np.random.default_rng(seed)
    nuclei = ndimage.gaussian_filter(rng.random((PX, PX)), 3)
    pixels = np.where((nuclei > np.quantile(nuclei, 0.8))[:, :, None], (95, 65, 140), (220, 155, 195))
    return np.clip(pixels + rng.normal(0, 5, (PX, PX, 3)), 0, 255).astype(np.uint8)


def blurred():
    return np.stack([ndimage.gaussian_filter(tissue()[..., c], 3) for c in range(3)], axis=-1)


def inked(colour, rows=40):
    pixels = tissue()
    pixels[:rows] = colour
    return pixels


@pytest.mark.parametrize(
    ("pixels", "flag"),
    [
        (tissue(), ""), (tissue(7), ""), (blurred(), "blurred"), (np.full((PX, PX, 3), 243, np.uint8), "little tissue"),
        (inked((30, 60, 180)), "pen"), (inked((20, 120, 60)), "pen"), (inked((200, 30, 40), 90), "pen"),
        (inked((20, 20, 22)), "fold or ink"),
    ],
)  # fmt: skip
def test_a_patch_is_flagged_for_what_is_wrong_with_it(pixels, flag):
    assert flag_spots(Look().encode(pixels[None])).tolist() == [flag]
