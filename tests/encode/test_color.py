"""The colour statistics, against numbers by hand and against numpy on the pixels themselves."""

import subprocess
import sys

import numpy as np

from hescribe.encode.color import Color


def test_a_half_black_half_white_patch_by_hand():
    patch = np.zeros((1, 112, 112, 3), np.uint8)
    patch[:, :, 56:] = 255
    found = Color().encode(patch)[0]
    np.testing.assert_allclose(found[:3], 127.5)
    np.testing.assert_allclose(found[3:6], 127.5)  # two values at equal distance from their mean
    np.testing.assert_allclose(found[6:9], np.log10(256) / 2, rtol=1e-6)  # black has log10(256), white 0
    np.testing.assert_allclose(found[9:], [0.5, 0])


def test_statistics_equal_those_of_the_pixels():
    patches = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    patches[1] //= 2
    found = Color().encode(patches)
    pixels = patches.reshape(3, -1, 3).astype(float)
    grey = np.floor(pixels.mean(axis=2) + 1e-9)
    np.testing.assert_allclose(found[:, :3], pixels.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 3:6], pixels.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[:, 6:9], -np.log10((pixels + 1) / 256).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 9], (grey > 215).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 10], np.percentile(grey, 10, axis=1), atol=1)


def test_it_reads_two_fields_of_view_and_needs_no_torch():
    assert Color.card.fov_um == (112.0, 224.0)
    code = (
        "import sys; from hescribe.encode.base import encoders; encoders.create('color'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
