"""Crops around the spots of a section, and the image that they make together."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from scipy.spatial import cKDTree

from hescribe.data.untrusted import named_damage
from hescribe.errors import SchemaError

N_COMPARED = 40  # pairs of neighbours whose crops are compared
SAME = 20.0  # grey levels between two copies of one place; more is not the compression of images
WHITE = 255


@dataclass(frozen=True)
class Crops:
    """Encoded square images, each around the centre of a spot.

    Parameters
    ----------
    encoded
        One a spot: bytes, or a struct that holds them.
    xy_px
        Centres (x, y) in pixels of the slide, shape ``(n_spots, 2)``.
    """

    encoded: Sequence[pa.Scalar]
    xy_px: np.ndarray

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height that reach from the slide's upper left corner to the end of the last crop."""
        side = self.decode(0).shape[0]
        right, bottom = np.ceil(self.xy_px.max(axis=0) + side / 2).astype(int)
        return int(right), int(bottom)

    def decode(self, i: int) -> np.ndarray:
        """Return the crop of a spot, shape ``(h, w, 3)`` uint8.

        Raises
        ------
        FormatError
            If it is no image.
        """
        value = self.encoded[i].as_py()
        data: Any = value.get("bytes") if isinstance(value, dict) else value
        with named_damage(f"the crop of row {i}", "is no image; fetch the file again"):
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def place(self, i: int) -> tuple[np.ndarray, int, int]:
        """Return the crop of a spot, and where its upper left pixel lies on the slide: column and row."""
        crop = self.decode(i)
        x, y = self.xy_px[i] - np.array(crop.shape[1::-1]) / 2
        return crop, round(x), round(y)

    def check_neighbours(self, where: str, pitch_px: float) -> None:
        """Refuse crops that are no pieces of one slide at the scale of its coordinates.

        Neighbouring crops are compared where they overlap; crops that were scaled, or axes that are swapped, disagree.

        Raises
        ------
        SchemaError
            If most of them disagree.
        """
        pairs = sorted(cKDTree(self.xy_px).query_pairs(1.2 * pitch_px))
        chosen = np.random.default_rng(0).permutation(len(pairs))[:N_COMPARED]
        found = [d for k in chosen if (d := self._difference(*pairs[k])) is not None]
        if found and np.median(found) > SAME:
            problem = (
                f"crops of neighbouring spots differ by {np.median(found):.0f} grey levels where they overlap: they "
                "were scaled, or the two columns of cell_coords are not x and y in pixels of the slide"
            )
            raise SchemaError(where, [problem])

    def _difference(self, i: int, j: int) -> float | None:
        """Return the mean absolute difference of two crops where they overlap; None where they do not."""
        (one, left, top), (two, right, bottom) = self.place(i), self.place(j)
        x, y = right - left, bottom - top
        a = one[max(y, 0) : max(two.shape[0] + y, 0), max(x, 0) : max(two.shape[1] + x, 0)]
        b = two[max(-y, 0) : max(one.shape[0] - y, 0), max(-x, 0) : max(one.shape[1] - x, 0)]
        return float(np.abs(a.astype(int) - b).mean()) if a.size and a.shape == b.shape else None


def paste(crops: Crops) -> np.ndarray:
    """Return the slide as far as crops show it, shape ``(h, w, 3)`` uint8; white elsewhere."""
    width, height = crops.size_px
    canvas = np.full((height, width, 3), WHITE, dtype=np.uint8)
    for i in range(len(crops.encoded)):
        crop, x, y = crops.place(i)
        left, top = max(-x, 0), max(-y, 0)
        part = crop[top : top + height - max(y, 0), left : left + width - max(x, 0)]
        canvas[max(y, 0) : max(y, 0) + part.shape[0], max(x, 0) : max(x, 0) + part.shape[1]] = part
    return canvas
