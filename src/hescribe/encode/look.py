"""What a patch looks like to someone who checks slides: eight numbers that blur, stain, ink and empty glass move.

No predictor is meant to learn from them. They are compared with those of the training images, to tell a spot that no
prediction should be trusted on: see ``prep/looks.py``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hescribe.cards import EncoderCard
from hescribe.encode.base import check_patches
from hescribe.encode.color import OPTICAL_DENSITY
from hescribe.params import Params

DENSITY = OPTICAL_DENSITY.astype(np.float32)
STAINED = 0.1  # spread of the channels' optical density plus half its mean; glass has less
MIN_STAINED = 0.02  # share of pixels; below it the mean density is that of the whole patch
SKIP = 2  # every second pixel is enough for all but focus
FACTS = ("focus", "tissue", "red density", "green density", "blue density", "blue ink", "red ink", "black ink")


@dataclass(kw_only=True)
class Look(Params):
    """Focus, share of tissue, its optical density by channel, and how far the extremes leave what H&E can look like.

    Examples
    --------
    >>> Look().encode(np.full((1, 112, 112, 3), 255, np.uint8))[:, :5].tolist()
    [[0.0, 0.0, 0.0, 0.0, 0.0]]
    """

    name: ClassVar[str] = "look"
    card: ClassVar[EncoderCard] = EncoderCard(
        name="look", revision="1", px=112, n_dims=8, fov_um=(112.0,), licence="BSD-3-Clause",
        paper="none: focus, tissue, optical density and ink",
    )  # fmt: skip

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the facts in the order of ``FACTS``, shape ``(n, 8)`` float32.

        Focus is log10 of the variance of the Laplacian over that of the grey values, as in
        ``prep.quality``. Densities are means over stained pixels. Ink is the 95th percentile of what H&E is poor
        in: red above green density (blue and green pens), blue density (red pens), the least of the
        three (black).
        """
        check_patches(patches, self.card)
        red, green, blue = (DENSITY[patches[:, ::SKIP, ::SKIP, channel]] for channel in range(3))
        low = np.minimum(np.minimum(red, green), blue)
        high = np.maximum(np.maximum(red, green), blue)
        stained = high - low + (red + green + blue) / 6 > STAINED
        share = stained.mean(axis=(1, 2))
        stained |= (share < MIN_STAINED)[:, None, None]
        n_stained = stained.sum(axis=(1, 2))
        means = [(channel * stained).sum(axis=(1, 2)) / n_stained for channel in (red, green, blue)]
        ink = [_percentile_95(values) for values in (red - green, blue, low)]
        return np.column_stack([_focus(patches), share, *means, *ink]).astype(np.float32)


def _focus(patches: np.ndarray) -> np.ndarray:
    return np.array([_focus_of(patch) for patch in patches])  # one by one: a patch stays in the processor's cache


def _focus_of(patch: np.ndarray) -> float:
    red, green, blue = (patch[..., channel].astype(np.float32) for channel in range(3))
    grey = (red + green + blue) / 3
    around = grey[2:, 1:-1] + grey[:-2, 1:-1] + grey[1:-1, 2:] + grey[1:-1, :-2]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    return float(np.log10((laplacian.var() + 1) / (grey.var() + 1)))  # + 1: glass is flat


def _percentile_95(values: np.ndarray) -> np.ndarray:
    """Return the 95th percentile of each patch of shape ``(n, h, w)``."""
    flat = values.reshape(len(values), values.shape[1] * values.shape[2])
    at = int(0.95 * flat.shape[1])
    return np.asarray(np.partition(flat, at, axis=1)[:, at])
