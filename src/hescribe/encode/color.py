"""Colour statistics of a patch: eleven numbers without weights, the baseline every encoder must beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from hescribe.cards import EncoderCard
from hescribe.encode.base import check_patches
from hescribe.params import Params

LEVELS = np.arange(256, dtype=np.float64)
OPTICAL_DENSITY = -np.log10((LEVELS + 1) / 256)  # + 1: black stays finite, white is 0
BRIGHT = 215  # grey above which a pixel is mostly background


@dataclass(kw_only=True)
class Color(Params):
    """Mean and spread of each channel, mean optical density, bright share and dark end of grey.

    Examples
    --------
    >>> Color().encode(np.full((1, 112, 112, 3), 255, np.uint8)).round(1).tolist()
    [[255.0, 255.0, 255.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 255.0]]
    """

    name: ClassVar[str] = "color"
    card: ClassVar[EncoderCard] = EncoderCard(
        name="color", revision="2", px=112, n_dims=11, fov_um=(112.0, 224.0), licence="BSD-3-Clause",
        paper="none: per-channel mean, spread and optical density",
    )  # fmt: skip

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the statistics, shape ``(n, 11)`` float32.

        Per channel (red, green, blue) the mean, the standard deviation and the mean optical density, then
        the share of pixels with grey above 215 and the 10th percentile of grey.
        """
        red_green_blue, grey = _histograms(check_patches(patches, self.card))
        mean = red_green_blue @ LEVELS
        spread = np.sqrt(np.maximum(red_green_blue @ LEVELS**2 - mean**2, 0))
        bright = grey[:, BRIGHT + 1 :].sum(axis=1)
        dark_end = (grey.cumsum(axis=1) < 0.1).sum(axis=1)
        rest = np.stack([bright, dark_end], axis=1)
        return np.hstack([mean, spread, red_green_blue @ OPTICAL_DENSITY, rest]).astype(np.float32)


def _histograms(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of pixels at each level, ``(n, 3, 256)`` by channel and ``(n, 256)`` of grey.

    Grey is the mean of the channels. With luma, which nearly ignores blue, the ridge on these
    statistics loses .016 of its .122 on her2st.

    All statistics follow from these. Pillow counts 6 times faster than numpy, without numba's start.
    """
    counts = np.empty((len(patches), 4, 256))
    for count, patch in zip(counts, patches, strict=True):
        count[:3] = np.reshape(Image.fromarray(patch).histogram(), (3, 256))
        count[3] = np.bincount(
            (patch[..., 0].astype(np.uint16) + patch[..., 1] + patch[..., 2]).ravel() // 3, minlength=256
        )
    shares = counts / (patches.shape[1] * patches.shape[2])
    return shares[:, :3], shares[:, 3]
