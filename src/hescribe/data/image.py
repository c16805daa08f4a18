"""ImageSource: an image read lazily, in micrometres; and the arrays and flat files behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from hescribe.data.halve import halve
from hescribe.units import check_mpp, to_px, to_um


@runtime_checkable
class ImageSource(Protocol):
    """An H&E image of known scale.

    ``mpp`` is um per pixel at full resolution, ``size_um`` the (width, height) in um, and
    ``fingerprint`` changes whenever a pixel that ``read`` returns could.
    """

    @property
    def mpp(self) -> float:
        """Size of a pixel at full resolution in um."""
        ...

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies every pixel that ``read`` can return."""
        ...

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8.

        Parameters
        ----------
        x_um, y_um
            Upper left corner of the region.
        size_um
            Its (width, height). Outside the image the edge pixels are repeated.
        mpp
            um per pixel of the result.
        """
        ...


def read_region(  # noqa: PLR0917 - a place, a size and two scales
    pixels: np.ndarray, mpp_in: float, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float
) -> np.ndarray:
    """Cut a region out of a decoded image and scale it.

    Parameters
    ----------
    pixels
        Shape ``(h, w, 3)`` uint8 at ``mpp_in``.
    mpp_in, mpp
        um per pixel of the image and of the result.
    x_um, y_um, size_um
        Upper left corner and (width, height) of the region; edge pixels are repeated outside.

    Returns
    -------
    Shape ``(round(height / mpp), round(width / mpp), 3)`` uint8, bilinear with antialiasing.
    """
    left, top = float(to_px(x_um, mpp_in)), float(to_px(y_um, mpp_in))
    right, bottom = left + float(to_px(size_um[0], mpp_in)), top + float(to_px(size_um[1], mpp_in))
    out = (max(1, round(float(to_px(size_um[0], mpp)))), max(1, round(float(to_px(size_um[1], mpp)))))
    x0, y0, x1, y1 = int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom))
    height, width = pixels.shape[:2]
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        region = pixels[y0:y1, x0:x1]
    else:
        rows, cols = np.clip(np.arange(y0, y1), 0, height - 1), np.clip(np.arange(x0, x1), 0, width - 1)
        region = pixels[rows[:, None], cols]
    box = (left - x0, top - y0, right - x0, bottom - y0)
    if box == (0, 0, *out):  # nothing to scale
        return np.array(region)
    if box == (0, 0, 2 * out[0], 2 * out[1]) and 1 < out[1] <= out[0]:
        return halve(region)
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(region)).resize(out, Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    )


@dataclass(frozen=True)
class ArrayImage:
    """An image held in memory.

    Parameters
    ----------
    pixels
        Shape ``(h, w, 3)`` uint8.
    mpp
        um per pixel.
    fingerprint
        Identifies the content; the caller vouches for it.
    """

    pixels: np.ndarray = field(repr=False)
    mpp: float
    fingerprint: str

    def __post_init__(self) -> None:
        check_mpp(self.mpp, "image in memory")

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        height, width = self.pixels.shape[:2]
        return float(to_um(width, self.mpp)), float(to_um(height, self.mpp))

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8."""
        return read_region(self.pixels, self.mpp, x_um, y_um, size_um, mpp)


@dataclass(frozen=True)
class LazyImage:
    """An image inside another file, decoded each time it is asked for; writing a cohort writes it out once.

    Parameters
    ----------
    load
        Returns the pixels, shape ``(h, w, 3)`` uint8.
    size_px
        Width and height.
    fingerprint
        Identifies the content; the caller vouches for it.
    mpp
        um per pixel.
    """

    load: Callable[[], np.ndarray] = field(repr=False)
    size_px: tuple[int, int]
    fingerprint: str
    mpp: float

    def __post_init__(self) -> None:
        check_mpp(self.mpp, f"image {self.fingerprint}")

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        width, height = self.size_px
        return float(to_um(width, self.mpp)), float(to_um(height, self.mpp))

    @property
    def pixels(self) -> np.ndarray:
        """The decoded image, shape ``(h, w, 3)`` uint8."""
        return self.load()

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8."""
        return read_region(self.pixels, self.mpp, x_um, y_um, size_um, mpp)


@dataclass(frozen=True)
class CoveredImage:
    """Another image with a square covered by one colour: what a model says without seeing that place.

    Parameters
    ----------
    base
        The image.
    corner_um, side_um
        Upper left corner (x, y) and side of the square.
    rgb
        The colour.
    """

    base: ImageSource
    corner_um: tuple[float, float]
    side_um: float
    rgb: tuple[int, int, int]

    @property
    def mpp(self) -> float:
        """Size of a pixel at full resolution in um."""
        return self.base.mpp

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        return self.base.size_um

    @property
    def fingerprint(self) -> str:
        """Of the image, the square and the colour."""
        return f"{self.base.fingerprint} covered {self.corner_um} {self.side_um} {self.rgb}"

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8; pixels that are covered by half or more show the colour."""
        pixels = self.base.read(x_um, y_um, size_um, mpp).copy()
        columns, rows = (
            slice(*(max(round(float(to_px(at - start, mpp))), 0) for at in (corner, corner + self.side_um)))
            for corner, start in zip(self.corner_um, (x_um, y_um), strict=True)
        )
        pixels[rows, columns] = self.rgb
        return pixels

    def is_near(self, xy_um: np.ndarray, fov_um: float) -> np.ndarray:
        """Return which patches show any of the square or lie within a pixel of it.

        Parameters
        ----------
        xy_um
            Centres of the patches, shape ``(n, 2)``.
        fov_um
            Their side.
        """
        centre = np.array(self.corner_um) + self.side_um / 2
        reach = (fov_um + self.side_um) / 2 + self.mpp
        return np.asarray((np.abs(xy_um - centre) < reach).all(axis=1))
