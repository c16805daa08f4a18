"""A pyramid of JPEG tiles of any image, cut when they are asked for."""

import io
import math
from collections import OrderedDict
from threading import Lock

import numpy as np
from PIL import Image

from hescribe.data.image import ImageSource
from hescribe.errors import InputError
from hescribe.units import to_px

TILE_PX = 256
OVERVIEW_PX = 2048  # longest side of the reduced copy that coarse tiles are cut from
JPEG_QUALITY = 85
KEPT_BYTES = 100_000_000  # of encoded tiles


class Tiles:
    """Tiles of one image.

    Level 0 is one tile that holds the whole image; each further level has twice the resolution, up to that of the
    image. Tiles are counted from the upper left corner, which is that of the image.

    Parameters
    ----------
    image
        Of known scale.

    Examples
    --------
    >>> import numpy as np
    >>> from hescribe.data.image import ArrayImage
    >>> tiles = Tiles(ArrayImage(np.zeros((300, 1000, 3), np.uint8), 0.5, "black"))
    >>> tiles.n_levels, tiles.side_um  # 256 px at level 0 are 512 um wide
    (3, 512.0)
    """

    def __init__(self, image: ImageSource) -> None:
        self.image, self._lock = image, Lock()
        longest = max(float(to_px(side, image.mpp)) for side in image.size_um)
        self.n_levels = max(math.ceil(math.log2(longest / TILE_PX)), 0) + 1
        self._kept, self._n_bytes = OrderedDict[tuple[int, int, int], bytes](), 0
        self._overview: tuple[np.ndarray, float] | None = None

    @property
    def side_um(self) -> float:
        """Side of the square that level 0 shows; the image lies in its upper left corner."""
        return TILE_PX * self.level_mpp(0)

    def level_mpp(self, level: int) -> float:
        """Return um per pixel of a level."""
        return float(self.image.mpp * 2 ** (self.n_levels - 1 - level))

    def read(self, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG; beyond the edge of the image it is white.

        Raises
        ------
        InputError
            If the image has no such tile.
        """
        mpp = self.level_mpp(level) if 0 <= level < self.n_levels else 0.0
        x_um, y_um = column * TILE_PX * mpp, row * TILE_PX * mpp
        width_um, height_um = self.image.size_um
        if not mpp or not (0 <= column < 2**level and 0 <= row < 2**level):
            raise InputError(f"no tile at level {level}, column {column}, row {row}")
        if x_um >= width_um or y_um >= height_um:
            return BLANK
        key = (level, column, row)
        with self._lock:
            if key not in self._kept:
                self._keep(key, _to_jpeg(self._cut(x_um, y_um, mpp)))
            self._kept.move_to_end(key)
            return self._kept[key]

    def overview(self, longest_px: int) -> bytes:
        """Return the whole image as JPEG, its longer side about so many pixels."""
        with self._lock:
            pixels, _ = self._reduced()
        small = Image.fromarray(pixels)
        small.thumbnail((longest_px, longest_px))
        return _to_jpeg(np.asarray(small))

    def _cut(self, x_um: float, y_um: float, mpp: float) -> np.ndarray:
        """Return what a tile shows of the image, white where there is none."""
        width_um, height_um = (
            min(TILE_PX * mpp, side - start) for side, start in zip(self.image.size_um, (x_um, y_um), strict=True)
        )
        overview, overview_mpp = self._reduced()
        if mpp >= overview_mpp * 0.999:
            scale = mpp / overview_mpp
            box = (x_um / overview_mpp, y_um / overview_mpp)
            out = (max(round(width_um / mpp), 1), max(round(height_um / mpp), 1))
            far = (min(b + n * scale, side) for b, n, side in zip(box, out, overview.shape[1::-1], strict=True))
            small = Image.fromarray(overview).resize(out, Image.Resampling.BILINEAR, box=(*box, *far), reducing_gap=3)
            seen = np.asarray(small)
        else:
            seen = self.image.read(x_um, y_um, (width_um, height_um), mpp)
        tile = np.full((TILE_PX, TILE_PX, 3), 255, dtype=np.uint8)
        seen = seen[:TILE_PX, :TILE_PX]
        tile[: seen.shape[0], : seen.shape[1]] = seen
        return tile

    def _reduced(self) -> tuple[np.ndarray, float]:
        """Return a copy of the whole image of at most ``OVERVIEW_PX`` a side, and its um per pixel."""
        if self._overview is None:
            longest = max(float(to_px(side, self.image.mpp)) for side in self.image.size_um)
            mpp = self.image.mpp * max(longest / OVERVIEW_PX, 1.0)
            self._overview = self.image.read(0.0, 0.0, self.image.size_um, mpp), mpp
        return self._overview

    def _keep(self, key: tuple[int, int, int], tile: bytes) -> None:
        self._kept[key] = tile
        self._n_bytes += len(tile)
        while self._n_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._n_bytes -= len(self._kept.popitem(last=False)[1])


def _to_jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


BLANK = _to_jpeg(np.full((TILE_PX, TILE_PX, 3), 255, dtype=np.uint8))  # beyond the image
