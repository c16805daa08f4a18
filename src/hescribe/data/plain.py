"""PlainImage: a JPEG, PNG or TIFF file behind ImageSource, decoded when a pixel is asked for."""

import hashlib
import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from hescribe.data.image import read_region
from hescribe.data.untrusted import check_claim, named_damage
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.units import check_mpp, to_um

GLASS_RGB = (229, 211, 229)  # bare glass under H&E light: the paint for masked pixels
BLACK = 10  # a pixel whose three channels are at most this is blacked out: tissue is never that dark
MAX_PX = 2**30  # decoded, 3 GiB; a slide of 30,000 x 30,000 px is within it

_decoding = threading.Lock()


@dataclass(frozen=True)
class PlainImage:
    """A flat image file of known scale.

    The last decoded image is kept, one in the whole process: read section by section.

    Parameters
    ----------
    path
        JPEG, PNG or TIFF. Grey becomes RGB, 16 bits become 8, transparency becomes white.
    mpp
        um per pixel.
    mask_boxes_px
        Boxes (x0, y0, x1, y1) to paint over, in pixels.
    black_background
        Whether black pixels are painted over.
    fill_rgb
        Colour of the paint.

    Raises
    ------
    UnitsError
        If ``mpp`` is no pixel size.
    InputError
        If a box is empty or outside the image.
    """

    path: Path
    mpp: float
    mask_boxes_px: tuple[tuple[int, int, int, int], ...] = ()
    black_background: bool = False
    fill_rgb: tuple[int, int, int] = GLASS_RGB

    def __post_init__(self) -> None:
        check_mpp(self.mpp, str(self.path))
        if self.mask_boxes_px:
            width, height = read_size_px(self.path)
            for box in self.mask_boxes_px:
                if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
                    raise InputError(f"{self.path}: the box to mask {list(box)} is not inside {width} x {height} px")

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        width, height = read_size_px(self.path)
        return float(to_um(width, self.mpp)), float(to_um(height, self.mpp))

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, the masks and the scale: all that decides what ``read`` returns."""
        mask = (self.mask_boxes_px, self.black_background, self.fill_rgb) if self.is_masked else ()
        return hashlib.sha256(f"{hash_file(self.path)} {mask} {self.mpp!r}".encode()).hexdigest()

    @property
    def is_masked(self) -> bool:
        """Whether any pixel may be painted over."""
        return bool(self.mask_boxes_px) or self.black_background

    @property
    def pixels(self) -> np.ndarray:
        """The decoded and masked image, shape ``(h, w, 3)`` uint8, read-only."""
        with _decoding:  # a second reader waits for the decoded image and does not decode it again
            return _pixels(self.path, _state(self.path), self.mask_boxes_px, self.black_background, self.fill_rgb)

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8."""
        return read_region(self.pixels, self.mpp, x_um, y_um, size_um, mpp)


def is_tiff(path: Path) -> bool:
    """Return whether a file begins as a TIFF does."""
    with path.open("rb") as file:
        return file.read(4) in _TIFF


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes; it is read again only after its size or time changed."""
    return _hash_file(path, _state(path))


def read_size_px(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels, from the head of the file.

    Raises
    ------
    FormatError
        If it is no JPEG, PNG or TIFF, is damaged, or has over 2**30 pixels.
    """
    return _read_size_px(path, _state(path))


def read_dpi(path: Path) -> tuple[float, ...]:
    """Return the pixels in an inch in x and y that a JPEG or PNG states; empty if it states none."""
    with named_damage(f"image {path}", "is damaged or truncated"), _HEADS[_kind(path)](path) as head:
        return tuple(float(v) for v in head.info.get("dpi", ()))


def check_whole(path: Path) -> None:
    """Raise ``FormatError`` for a file that is cut off or in print colours, without decoding one that is whole."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 12))
        end = file.read()
    kind = _kind(path)
    if kind == "tiff":
        return  # has its directory anywhere
    with named_damage(f"image {path}", "is damaged or truncated"):
        with _HEADS[kind](path) as head:
            _refuse_cmyk(path, head.mode == "CMYK")
        if not end.endswith(_ENDS[kind]):
            _decode(path, kind)  # junk after the end is legal: only decoding tells


def _refuse_cmyk(path: Path, is_cmyk: bool) -> None:
    if is_cmyk:
        raise FormatError(
            f"image {path} is CMYK, the colours of print; convert it to RGB with its colour profile first"
        )


def _state(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataAccessError(f"image {path} cannot be read: {error.strerror or error}") from error
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4096)
def _hash_file(path: Path, state: tuple[int, int]) -> str:  # noqa: ARG001 - the state is a part of the key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _read_size_px(path: Path, state: tuple[int, int]) -> tuple[int, int]:
    with named_damage(f"image {path}", "is damaged or truncated"):
        kind = _kind(path)
        if kind == "tiff":
            import tifffile  # noqa: PLC0415 - half of all users have no TIFF

            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages.first
                width, height = page.imagewidth, page.imagelength
        else:
            with _HEADS[kind](path) as head:
                width, height = head.size
    if width * height > MAX_PX:
        raise FormatError(f"image {path} has {width} x {height} pixels, more than fit in memory; tile it as a pyramid")
    check_claim(3 * width * height, state[0], f"image {path}")
    return width, height


@lru_cache(maxsize=1)
def _pixels(
    path: Path,
    state: tuple[int, int],
    boxes: tuple[tuple[int, int, int, int], ...],
    black: bool,
    fill: tuple[int, int, int],
) -> np.ndarray:
    _read_size_px(path, state)
    with named_damage(f"image {path}", "is damaged or truncated"):
        kind = _kind(path)
        pixels = _decode_tiff(path) if kind == "tiff" else _decode(path, kind)
    if black:
        pixels = np.where((pixels <= BLACK).all(axis=2, keepdims=True), np.array(fill, dtype=np.uint8), pixels)
    if boxes and not pixels.flags.writeable:
        pixels = pixels.copy()
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = fill
    pixels.flags.writeable = False
    return pixels


# The classes themselves: Image.open refuses honest slides of over 179 million pixels as bombs.
_HEADS = {"jpeg": JpegImagePlugin.JpegImageFile, "png": PngImagePlugin.PngImageFile}
_TIFF = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_ENDS = {"jpeg": b"\xff\xd9", "png": b"IEND\xaeB`\x82"}


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if magic == b"\x89PNG\r\n\x1a\n":
        return "png"
    if magic[:4] in _TIFF:
        return "tiff"
    raise FormatError(f"image {path} is no JPEG, PNG or TIFF file" + (": it is empty" if not magic else ""))


def _decode(path: Path, kind: str) -> np.ndarray:
    with _HEADS[kind](path) as image:
        mode, alpha = image.mode, image.has_transparency_data
        _refuse_cmyk(path, mode == "CMYK")
        if kind == "jpeg" and path.read_bytes().endswith(_ENDS[kind]):  # the fast decoder hides a missing end
            import imagecodecs  # noqa: PLC0415 - 0.1 s

            return _to_rgb8(imagecodecs.jpeg8_decode(path.read_bytes()))
        image.load()
        if alpha:
            rgba = image.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
        if mode.startswith("I"):
            return _to_rgb8(np.asarray(image).astype(np.uint16))
        return np.asarray(image.convert("RGB"))


def _decode_tiff(path: Path) -> np.ndarray:
    import tifffile  # noqa: PLC0415 - half of all users have no TIFF

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        colours = tifffile.PHOTOMETRIC
        _refuse_cmyk(path, page.photometric == colours.SEPARATED)
        pixels = page.asarray()
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        if page.colormap is not None:
            pixels = np.moveaxis(page.colormap[:, pixels], 0, -1)
        if page.photometric == colours.MINISWHITE:
            pixels = np.iinfo(pixels.dtype).max - pixels if pixels.dtype != bool else ~pixels
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise FormatError(
            f"image {path} holds {pixels.dtype} values of shape {pixels.shape}; an H&E image has "
            "1, 3 or 4 channels of 8 or 16 bits"
        )
    return _to_rgb8(pixels)


def _to_rgb8(pixels: np.ndarray) -> np.ndarray:
    """Return grey, 16-bit or transparent pixels as ``(h, w, 3)`` uint8."""
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        over_white = (pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
        pixels = over_white.astype(np.uint8)
    return np.ascontiguousarray(pixels)
