"""The levels of a TIFF read tile by tile: SVS, OME-TIFF, pyramids of other programs, and flat files of any size.

Tiles are decoded by the codec alone and kept while their neighbours are asked for, which is six times as fast as
OpenSlide on JPEG tiles. What OpenSlide does beyond that, joining overlapping or scattered tiles, is left to it.
"""

import re
import threading
from collections import OrderedDict
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from hescribe.data.untrusted import named_damage
from hescribe.errors import FormatError

KEPT_BYTES = 96_000_000  # of decoded tiles: two rows of tiles over a slide of 80,000 px
MAX_TILE_BYTES = 2**28  # of one decoded tile or strip; beyond it, a region cannot be read without reading everything
DAMAGED = "is damaged or truncated"
RATIO = 0.02  # by which the shape of a level may differ from that of the first, for rounding
UM = {"µm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1000.0, "cm": 10_000.0, "nm": 0.001, "m": 1e6, "inch": 25_400.0}


class TiffLevels:
    """The levels of one file, the finest first; thread-safe.

    Parameters
    ----------
    path
        A TIFF whose pixels are H&E: RGB or grey, of 8 or 16 bits.

    Raises
    ------
    FormatError
        If it is damaged or cut off, holds other channels than those of a camera, or one compressed strip too large
        to decode.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_channels(path)
        with named_damage(f"slide {path}", DAMAGED), TiffFile(path) as tiff:
            self._pages = _find_levels(tiff)
            for page in self._pages:
                _check_page(page, path)
            self._codecs = [(p.decode, p.jpegtables) for p in self._pages]  # read now, for the file is closed
            self._mapped = [_map_strip(p, path) for p in self._pages]
        self.sizes_px = [(int(p.imagewidth), int(p.imagelength)) for p in self._pages]
        self.downsamples = [self.sizes_px[0][0] / width for width, _ in self.sizes_px]
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._n_kept, self._lock = 0, threading.Lock()

    def read(self, level: int, x0: int, y0: int, size_px: tuple[int, int]) -> np.ndarray:
        """Return a region inside a level, shape ``(h, w, 3)`` uint8.

        Raises
        ------
        FormatError
            If a tile is damaged.
        """
        width, height = size_px
        page, mapped = self._pages[level], self._mapped[level]
        if mapped is not None:
            return _to_rgb8(np.array(mapped[y0 : y0 + height, x0 : x0 + width]), page)
        tile_h, tile_w = _tile_shape(page)
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y0 // tile_h, -(-(y0 + height) // tile_h)):
            for column in range(x0 // tile_w, -(-(x0 + width) // tile_w)):
                tile = self._tile(level, row * -(-page.imagewidth // tile_w) + column, (tile_h, tile_w))
                top, left = row * tile_h - y0, column * tile_w - x0
                part = tile[max(-top, 0) : height - top, max(-left, 0) : width - left]
                y, x = max(top, 0), max(left, 0)
                out[y : y + part.shape[0], x : x + part.shape[1]] = part
        return out

    def _tile(self, level: int, index: int, shape: tuple[int, int]) -> np.ndarray:
        key = (level, index)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        tile = self._decode(level, index, shape)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = tile
                self._n_kept += tile.nbytes
            while self._n_kept > KEPT_BYTES and len(self._kept) > 1:
                self._n_kept -= self._kept.popitem(last=False)[1].nbytes
        return tile

    def _decode(self, level: int, index: int, shape: tuple[int, int]) -> np.ndarray:
        page = self._pages[level]
        n_planes = page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 1
        n_tiles = len(page.dataoffsets) // n_planes
        planes = [self._decode_plane(level, index + plane * n_tiles) for plane in range(n_planes)]
        if any(p is None for p in planes):  # a tile that was never written: glass
            return np.full((*shape, 3), 255, np.uint8)
        return _to_rgb8(np.concatenate(planes, axis=-1), page)  # type: ignore[arg-type]

    def _decode_plane(self, level: int, index: int) -> np.ndarray | None:
        page = self._pages[level]
        n_bytes = page.databytecounts[index]
        if not n_bytes:
            return None
        try:
            with self.path.open("rb") as file:
                file.seek(page.dataoffsets[index])
                packed = file.read(n_bytes)
            decode, tables = self._codecs[level]
            pixels, _, _ = decode(packed, index, jpegtables=tables)
        except Exception as error:  # codecs raise their own
            raise FormatError(f"slide {self.path} is damaged: tile {index} cannot be decoded: {error}") from error
        return None if pixels is None else np.asarray(pixels[0])


def read_tiff_mpp(path: Path) -> dict[str, float]:
    """Return um per pixel by the place in a TIFF that states it, plausible or not."""
    with named_damage(f"image {path}", DAMAGED), TiffFile(path) as tiff:
        page = tiff.pages.first
        text = page.description
        stated = _resolution_tags(page, text)
        if tiff.is_svs and (found := re.search(r"\|\s*MPP\s*=\s*([\d.]+)", text)):
            stated["its Aperio description"] = float(found[1])
        if tiff.is_ome:
            stated |= _ome_sizes(tiff.ome_metadata or text)
    return stated


def _resolution_tags(page: TiffPage, text: str) -> dict[str, float]:
    unit = {2: UM["inch"], 3: UM["cm"]}.get(int(page.tags.valueof("ResolutionUnit", default=0)))
    if text.startswith("ImageJ="):  # which writes its own unit into the description
        named = re.search(r"^unit=(.+)$", text, re.MULTILINE)
        unit = UM.get(named[1].strip().replace("\\u00B5", "µ")) if named else None
    values = {axis: page.tags.valueof(f"{axis}Resolution") for axis in "XY"}
    return {f"its {axis} resolution tag": unit * v[1] / v[0] for axis, v in values.items() if unit and v and v[0]}


def _ome_sizes(xml: str) -> dict[str, float]:
    try:
        pixels = next(e for e in ET.fromstring(xml).iter() if e.tag.endswith("}Pixels"))  # noqa: S314 - no entity is resolved
    except (ET.ParseError, StopIteration):
        return {}
    return {
        f"its OME PhysicalSize{axis}": float(size) * UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), float("nan"))
        for axis in "XY" if (size := pixels.get(f"PhysicalSize{axis}"))
    }  # fmt: skip


def _find_levels(tiff: TiffFile) -> list[TiffPage]:
    """Return the first picture and those that are the same one reduced, the finest first."""
    first = tiff.pages.first
    pages = [first, *(p.aspage() for p in tiff.pages[1:])]  # a page of a series is a reference to the first
    pages += [p for p in (first.pages or ()) if isinstance(p, TiffPage)]
    levels = [first]
    for page in sorted(pages[1:], key=lambda p: -p.imagewidth):
        wide, high = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
        alike = page.samplesperpixel == first.samplesperpixel and page.dtype == first.dtype
        if page.is_tiled and alike and wide > 1 + RATIO and abs(wide / high - 1) < RATIO:
            levels.append(page)
    return levels


def is_flat(path: Path, max_px: int) -> bool:
    """Return whether a TIFF is one picture without tiles, small enough to be decoded as a whole."""
    try:
        with TiffFile(path) as tiff:
            page = tiff.pages.first
            return not page.is_tiled and page.imagewidth * page.imagelength <= max_px
    except Exception:  # noqa: BLE001 - tifffile has its own error for each way to be damaged
        return True  # whoever decodes it says what is wrong


def check_channels(path: Path) -> None:
    """Raise ``FormatError`` for a TIFF of other channels than a camera's: fluorescence, a stack, a float image."""
    with named_damage(f"image {path}", DAMAGED), TiffFile(path) as tiff:
        page, series = tiff.pages.first, tiff.series[0]
    stacked = {a: n for a, n in zip(series.axes, series.shape, strict=True) if a in "CZT" and n > 1}
    is_grey = page.photometric in {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE} and page.samplesperpixel > 3
    if stacked or is_grey or np.dtype(page.dtype).kind == "f":
        n_channels = int(np.prod(list(stacked.values()))) * page.samplesperpixel
        raise FormatError(
            f"image {path} holds {n_channels} channels or layers of {page.dtype}; an H&E image is one RGB picture of 8 "
            "or 16 bits (a fluorescence image cannot be predicted on)"
        )


def _check_page(page: TiffPage, path: Path) -> None:
    """Raise ``FormatError`` for what is no H&E, is cut off, or cannot be read in parts."""
    colours = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.MINISBLACK)
    if (
        page.photometric not in colours
        or page.samplesperpixel not in {1, 3, 4}
        or page.dtype not in ("uint8", "uint16")
    ):
        raise FormatError(
            f"slide {path} holds {page.samplesperpixel} channels of {page.dtype} "
            f"({PHOTOMETRIC(page.photometric).name}); an H&E image is RGB of 8 or 16 bits"
        )
    ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True) if n]
    if not ends or max(ends) > path.stat().st_size:
        raise FormatError(f"slide {path} is damaged or truncated: it ends before its pixels do; copy it again")
    if _tile_bytes(page) > MAX_TILE_BYTES and not page.is_memmappable:
        raise FormatError(
            f"slide {path} is one strip of {page.imagewidth} x {page.imagelength} px, of which no part can be read "
            "alone; write it again in tiles (vips tiffsave IN OUT --tile --pyramid --compression jpeg)"
        )


def _tile_shape(page: TiffPage) -> tuple[int, int]:
    """Return height and width of a tile, or of a strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _tile_bytes(page: TiffPage) -> int:
    height, width = _tile_shape(page)
    return height * width * int(page.samplesperpixel) * int(np.dtype(page.dtype).itemsize)


def _map_strip(page: TiffPage, path: Path) -> np.ndarray | None:
    """Return an uncompressed strip, too large to keep, as it lies in the file; None for any other page."""
    if not page.is_memmappable or _tile_bytes(page) <= MAX_TILE_BYTES:
        return None
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    return np.memmap(path, dtype, "r", page.dataoffsets[0], page.shape)


def _to_rgb8(pixels: np.ndarray, page: TiffPage) -> np.ndarray:
    """Return decoded pixels as ``(h, w, 3)`` uint8; white behind what is transparent."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if page.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        pixels = ((pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels
