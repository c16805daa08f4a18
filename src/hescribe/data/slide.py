"""SlideImage: a whole-slide image read level by level; and the choice of how to read an image file."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from hescribe.data.image import ImageSource, read_region
from hescribe.data.plain import GLASS_RGB, PlainImage, check_whole, hash_file, is_tiff, read_size_px
from hescribe.data.stated_mpp import OURS, settle_mpp
from hescribe.data.tiff_levels import TiffLevels, check_channels, is_flat
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.units import reduce_mpp, to_px, to_um

FORMAT = 3  # of the pixels that ``read`` returns; raise it when they change
ROUNDING = 0.005  # by which a level may be coarser than what is asked for: a half of 4,443 px has 2,221
MAX_PX = 2**25  # read at once: 100 MB; a larger part of a level is reduced band by band
MAX_FLAT_PX = 2**28  # decoded as a whole: 0.8 GB; a larger TIFF without tiles is read strip by strip


class Levels(Protocol):
    """The pictures of one slide, the finest first."""

    sizes_px: list[tuple[int, int]]
    downsamples: list[float]

    def read(self, level: int, x0: int, y0: int, size_px: tuple[int, int]) -> np.ndarray:
        """Return a region inside a level, shape ``(h, w, 3)`` uint8."""
        ...


@dataclass(frozen=True)
class SlideImage:
    """A whole-slide image, read level by level.

    Parameters
    ----------
    path
        SVS, OME-TIFF and other tiled or large TIFF; NDPI, MRXS, SCN, BIF, DICOM and what else OpenSlide reads.
    mpp
        um per pixel at level 0; that of the file if None.

    Raises
    ------
    UnitsError
        If neither the file nor ``mpp`` states the scale, or they differ by more than 5 %.
    FormatError
        If the file is damaged, cut off, or no H&E.
    """

    path: Path
    mpp: float = None  # type: ignore[assignment] # replaced by the file's own below
    _size_px: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_size_px", self._levels().sizes_px[0])
        object.__setattr__(self, "mpp", settle_mpp(self.path, self.mpp))

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        width, height = self._size_px
        return float(to_um(width, self.mpp)), float(to_um(height, self.mpp))

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, of what lies beside it for formats of many files, and of the scale."""
        facts = (hash_file(self.path), _companions(self.path), self.mpp, FORMAT)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region from the level that is at least as fine as ``mpp``, shape ``(h, w, 3)`` uint8."""
        levels = self._levels()
        finest = float(to_px(mpp, self.mpp)) * (1 + ROUNDING)
        level = max((i for i, d in enumerate(levels.downsamples) if d <= finest), default=0)
        level_mpp = reduce_mpp(self.mpp, levels.downsamples[level])
        spans = []  # (first, last) pixel of the level in x and y; at least one inside, whose edge is repeated
        for start_um, length_um, n_px in zip((x_um, y_um), size_um, levels.sizes_px[level], strict=True):
            first = int(np.floor(to_px(start_um, level_mpp)))
            last = int(np.ceil(to_px(start_um + length_um, level_mpp)))
            spans.append((min(max(first, 0), n_px - 1), min(max(last, 1), n_px)))
        (x0, x1), (y0, y1) = ((a, max(b, a + 1)) for a, b in spans)
        factor = int(to_px(mpp, level_mpp) * (1 + 1e-6)) if (x1 - x0) * (y1 - y0) > MAX_PX else 1
        window = _read_reduced(levels, level, (x0, y0, x1, y1), max(factor, 1))
        left, top = x_um - float(to_um(x0, level_mpp)), y_um - float(to_um(y0, level_mpp))
        return read_region(window, reduce_mpp(level_mpp, max(factor, 1)), left, top, size_um, mpp)

    def _levels(self) -> Levels:
        try:
            return _open(self.path, self.path.stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise DataAccessError(f"image {self.path} does not exist") from error


class OpenSlideLevels:
    """The levels of a slide that OpenSlide reads.

    Parameters
    ----------
    path
        The slide.

    Raises
    ------
    FormatError
        If OpenSlide cannot read it.
    """

    def __init__(self, path: Path) -> None:
        import openslide  # noqa: PLC0415 - loads a C library

        try:
            self._slide, self._path = openslide.OpenSlide(path), path
        except openslide.OpenSlideError as error:
            raise FormatError(f"slide {path} cannot be read: {error}") from error
        self.sizes_px, self.downsamples = list(self._slide.level_dimensions), list(self._slide.level_downsamples)

    def read(self, level: int, x0: int, y0: int, size_px: tuple[int, int]) -> np.ndarray:
        """Return a region inside a level, shape ``(h, w, 3)`` uint8."""
        down = self.downsamples[level]
        try:
            rgba = self._slide.read_region((round(x0 * down), round(y0 * down)), level, size_px)
        except Exception as error:  # OpenSlide has its own error for each way to be damaged
            _open.cache_clear()  # OpenSlide refuses all later reads after one error
            raise FormatError(f"slide {self._path} is damaged: {error}") from error
        return _over_white(np.asarray(rgba))


def is_slide(path: Path) -> bool:
    """Return whether a file is read level by level: what OpenSlide knows, a tiled TIFF, or a flat one too large."""
    return _vendor(path) is not None or (is_tiff(path) and not is_flat(path, MAX_FLAT_PX))


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
    if is_tiff(path):
        check_channels(path)
    check_whole(path)
    return PlainImage(path, settle_mpp(path, mpp), mask_boxes_px, black_background, fill_rgb)


@lru_cache(maxsize=2)
def _open(path: Path, changed_ns: int) -> Levels:  # noqa: ARG001 - the time is a part of the key
    if is_tiff(path) and _vendor(path) in OURS:
        return TiffLevels(path)
    return OpenSlideLevels(path)


def _vendor(path: Path) -> str | None:
    """Return what OpenSlide calls the format of a file; None if it does not read it."""
    import openslide  # noqa: PLC0415 - loads a C library

    if not path.is_file():
        raise DataAccessError(f"image {path} {'is no file' if path.exists() else 'does not exist'}")
    vendor: str | None = openslide.OpenSlide.detect_format(path)
    return vendor


def _companions(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of the other files of a slide: MRXS keeps its pixels in a folder, DICOM beside it."""
    vendor = _vendor(path)
    others = {"mirax": path.with_suffix("").glob("*"), "dicom": path.parent.glob("*.dcm")}.get(vendor or "", ())
    return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in others)


def _read_reduced(levels: Levels, level: int, box: tuple[int, int, int, int], factor: int) -> np.ndarray:
    """Return a box (x0, y0, x1, y1) of a level made ``factor`` times smaller, in bands so that memory stays bounded."""
    x0, y0, x1, y1 = box
    if factor == 1:
        return levels.read(level, x0, y0, (x1 - x0, y1 - y0))
    step = max(MAX_PX // (x1 - x0) // factor, 1) * factor
    bands = (levels.read(level, x0, y, (x1 - x0, min(step, y1 - y))) for y in range(y0, y1, step))
    return np.concatenate([np.asarray(Image.fromarray(band).reduce(factor)) for band in bands])


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Return transparent pixels of a slide as white, shape ``(h, w, 3)`` uint8."""
    alpha = rgba[:, :, 3:]
    if (alpha == 255).all():
        return rgba[:, :, :3]
    wide = rgba[:, :, :3].astype(np.uint16)
    over_white: np.ndarray = ((wide * alpha + 255 * (255 - alpha.astype(np.uint16)) + 127) // 255).astype(np.uint8)
    return over_white
