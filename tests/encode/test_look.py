"""The facts of a patch, by hand and by what each fault moves."""

import numpy as np
import pytest
from scipy import ndimage

from hescribe.encode.look import FACTS, Look
from hescribe.errors import InputError

PX = 112


def facts(pixels):
    return dict(zip(FACTS, Look().encode(pixels[None])[0], strict=True))


def flat(*colour):
    return np.tile(np.array(colour, dtype=np.uint8), (PX, PX, 1))


def stained(seed=0):
    """Return stripes and grain in the colours of H&E."""
    rng = np.random.default_rng(seed)
    pixels = np.where((np.arange(PX) // 6 % 2 == 0)[:, None, None], (150, 90, 160), (225, 160, 205))
    return np.clip(pixels + rng.normal(0, 8, (PX, PX, 3)), 0, 255).astype(np.uint8)


def test_density_is_the_logarithm_of_the_light_that_is_left():
    """25.6 of 256 grey levels are one unit of optical density, 2.56 two."""
    found = facts(flat(24, 2, 255))
    assert found["red density"] == pytest.approx(np.log10(256 / 25), abs=1e-4)
    assert found["green density"] == pytest.approx(np.log10(256 / 3), abs=1e-4)
    assert found["blue density"] == 0.0
    assert found["tissue"] == 1.0


def test_density_is_that_of_the_stained_part_alone():
    half = np.concatenate([flat(150, 90, 160)[: PX // 2], flat(250, 250, 250)[PX // 2 :]])
    assert facts(half)["tissue"] == pytest.approx(0.5)
    for channel in ("red", "green", "blue"):
        name = f"{channel} density"
        assert facts(half)[name] == pytest.approx(facts(flat(150, 90, 160))[name], abs=1e-4)


def test_blur_lowers_focus_and_light_does_not():
    sharp = stained()
    soft = np.stack([ndimage.gaussian_filter(sharp[..., c], 2) for c in range(3)], axis=-1)
    dim = (sharp * 0.7).astype(np.uint8)
    assert facts(soft)["focus"] < facts(sharp)["focus"] - 1
    assert facts(dim)["focus"] == pytest.approx(facts(sharp)["focus"], abs=0.05)


@pytest.mark.parametrize(
    ("colour", "moved"),
    [((40, 60, 170), "blue ink"), ((30, 130, 60), "blue ink"), ((190, 30, 40), "red ink"), ((30, 30, 30), "black ink")],
)
def test_a_tenth_under_ink_shows_in_one_number(colour, moved):
    inked = stained()
    inked[: PX // 10 + 1] = colour
    assert facts(inked)[moved] > facts(stained())[moved] + 0.2


def test_patches_of_another_size_are_refused():
    with pytest.raises(InputError, match="reads uint8 patches"):
        Look().encode(np.zeros((1, 64, 64, 3), np.uint8))
