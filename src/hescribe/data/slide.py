"""SlideImage: a whole-slide image read by OpenSlide; and the choice of how to read an image file."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from openslide import OpenSlide

from hescribe.data.image import ImageSource, read_region
from hescribe.data.plain import GLASS_RGB, PlainImage, check_whole, hash_file, read_size_px
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.units import check_agreement, check_mpp, reduce_mpp, to_px, to_um

FINEST_TAG, COARSEST_TAG = 0.05, 5.0  # um per pixel: beyond it, a resolution tag means print, not a scanner


@dataclass(frozen=True)
class SlideImage:
    """A whole-slide image, read level by level.

    Parameters
    ----------
    path
        A file that OpenSlide reads: SVS, NDPI, MRXS, tiled TIFF and others.
    mpp
        um per pixel at level 0; that of the file if None.

    Raises
    ------
    UnitsError
        If neither the file nor ``mpp`` states the scale, or they differ by more than 5 %.
    FormatError
        If OpenSlide cannot read the file.
    """

    path: Path
    mpp: float = None  # type: ignore[assignment] # replaced by the file's own below
    _size_px: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        stated = {"the file": read_stated_mpp(self.path), "mpp": self.mpp}
        known = {k: v for k, v in stated.items() if v is not None}
        check_agreement(known, str(self.path))
        object.__setattr__(self, "mpp", check_mpp(next(iter(known.values()), None), str(self.path)))
        object.__setattr__(self, "_size_px", _open(self.path).dimensions)

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        width, height = self._size_px
        return float(to_um(width, self.mpp)), float(to_um(height, self.mpp))

    @property
    def fingerprint(self) -> str:
        """sha256 of the file and the scale."""
        return hashlib.sha256(f"{hash_file(self.path)} {self.mpp!r}".encode()).hexdigest()

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region from the level that is at least as fine as ``mpp``, shape ``(h, w, 3)`` uint8."""
        slide = _open(self.path)
        level = slide.get_best_level_for_downsample(float(to_px(mpp, self.mpp)) * (1 + 1e-6))
        down, level_mpp = slide.level_downsamples[level], reduce_mpp(self.mpp, slide.level_downsamples[level])
        spans = []  # (first, last) pixel of the level in x and y; at least one inside, whose edge is repeated
        for start_um, length_um, n_px in zip((x_um, y_um), size_um, slide.level_dimensions[level], strict=True):
            first = int(np.floor(to_px(start_um, level_mpp)))
            last = int(np.ceil(to_px(start_um + length_um, level_mpp)))
            spans.append((min(max(first, 0), n_px - 1), min(max(last, 1), n_px)))
        (x0, x1), (y0, y1) = ((a, max(b, a + 1)) for a, b in spans)
        try:
            rgba = slide.read_region((round(x0 * down), round(y0 * down)), level, (x1 - x0, y1 - y0))
        except Exception as error:  # OpenSlide has its own error for each way to be damaged
            _open.cache_clear()  # OpenSlide refuses all later reads after one error
            raise FormatError(f"slide {self.path} is damaged: {error}") from error
        window = _over_white(np.asarray(rgba))
        return read_region(
            window, level_mpp, x_um - float(to_um(x0, level_mpp)), y_um - float(to_um(y0, level_mpp)), size_um, mpp
        )


def read_stated_mpp(path: Path) -> float | None:
    """Return um per pixel as the file itself states it, None if it does not.

    Raises
    ------
    UnitsError
        If the file states different sizes for x and y.
    """
    if is_slide(path):
        properties = _open(path).properties
        sides = {f"its {axis} axis": properties.get(f"openslide.mpp-{axis}") for axis in "xy"}
        stated = {k: float(v) for k, v in sides.items() if v is not None}
    else:
        stated = _read_resolution_tag(path)
    plausible = {k: v for k, v in stated.items() if FINEST_TAG <= v <= COARSEST_TAG}
    check_agreement(plausible, str(path))
    return sum(plausible.values()) / len(plausible) if plausible else None


def is_slide(path: Path) -> bool:
    """Return whether OpenSlide reads the file as a slide; a flat TIFF is none."""
    import openslide  # noqa: PLC0415 - loads a C library

    if not path.exists():
        raise DataAccessError(f"image {path} does not exist")
    return openslide.OpenSlide.detect_format(path) is not None


def open_image(
    path: Path,
    mpp: float | None = None,
    *,
    mask_boxes_px: tuple[tuple[int, int, int, int], ...] = (),
    black_background: bool = False,
    fill_rgb: tuple[int, int, int] = GLASS_RGB,
) -> ImageSource:
    """Return the image of a file, slide or flat.

    Parameters
    ----------
    path
        Any image of tissue.
    mpp
        um per pixel at full resolution; that of the file if None.
    mask_boxes_px, black_background, fill_rgb
        What to paint over, see ``PlainImage``; not for slides.

    Raises
    ------
    UnitsError
        If the scale is stated nowhere, or twice and differently.
    FormatError
        If the file is damaged or no image.
    InputError
        If a slide is to be masked.
    """
    if is_slide(path):
        if mask_boxes_px or black_background:
            raise InputError(f"{path} is a whole-slide image: masks are for flat images only")
        return SlideImage(path, mpp)  # type: ignore[arg-type] # None means: the file's own
    read_size_px(path)  # a damaged file is the first thing to tell
    check_whole(path)
    stated = {k: v for k, v in {"the file": read_stated_mpp(path), "mpp": mpp}.items() if v is not None}
    check_agreement(stated, str(path))
    mpp = check_mpp(mpp if mpp is not None else stated.get("the file"), str(path))
    return PlainImage(path, mpp, mask_boxes_px, black_background, fill_rgb)


@lru_cache(maxsize=4)
def _open(path: Path) -> "OpenSlide":
    import openslide  # noqa: PLC0415 - loads a C library

    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise FormatError(f"slide {path} cannot be read: {error}") from error


def _read_resolution_tag(path: Path) -> dict[str, float]:
    with path.open("rb") as file:
        if file.read(2) not in {b"II", b"MM"}:
            return {}
    import tifffile  # noqa: PLC0415 - half of all users have no TIFF

    um = {2: 25400.0, 3: 10000.0}  # per inch, per cm
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        unit = um.get(int(tags.valueof("ResolutionUnit", default=0)))
        stated = {axis: tags.valueof(f"{axis}Resolution") for axis in "XY"}
    return {f"its {axis} axis": unit * v[1] / v[0] for axis, v in stated.items() if unit and v and v[0]}


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Return transparent pixels of a slide as white, shape ``(h, w, 3)`` uint8."""
    alpha = rgba[:, :, 3:]
    if (alpha == 255).all():
        return rgba[:, :, :3]
    wide = rgba[:, :, :3].astype(np.uint16)
    over_white: np.ndarray = ((wide * alpha + 255 * (255 - alpha.astype(np.uint16)) + 127) // 255).astype(np.uint8)
    return over_white
