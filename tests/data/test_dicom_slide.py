"""A DICOM slide is read through OpenSlide: pixels, and the scale in its own place."""

import struct

import numpy as np
import pytest

from hescribe.data.slide import SlideImage, open_image
from hescribe.errors import UnitsError

TILE = 128
LONG = {"OB", "OW", "SQ", "UN"}  # have two bytes of padding and a length of four


def element(tag, kind, value):
    """Return one element, explicit VR, little endian (DICOM PS3.5, section 7.1.2)."""
    if isinstance(value, str):
        value = value.encode() + (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    elif isinstance(value, int):
        value = struct.pack("<H" if kind == "US" else "<I", value)
    size = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode() + size + value


def sequence(tag, content):
    return element(tag, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content)


def write_dicom(path, pixels, mpp):
    """Write a whole-slide image of one level, tiled and uncompressed (PS3.3, section A.32.8)."""
    height, width = pixels.shape[:2]
    tiles = [pixels[y : y + TILE, x : x + TILE] for y in range(0, height, TILE) for x in range(0, width, TILE)]
    slide, native = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.1.2.1"
    meta = b"".join([
        element(0x00020001, "OB", b"\0\1"), element(0x00020002, "UI", slide), element(0x00020003, "UI", "1.2.3.1"),
        element(0x00020010, "UI", native), element(0x00020012, "UI", "1.2.3.9"),
    ])  # fmt: skip
    spacing = sequence(0x00289110, element(0x00280030, "DS", f"{mpp / 1000}\\{mpp / 1000}"))
    body = b"".join([
        element(0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"), element(0x00080016, "UI", slide),
        element(0x00080018, "UI", "1.2.3.1"), element(0x00080060, "CS", "SM"), element(0x0020000D, "UI", "1.2.3.2"),
        element(0x0020000E, "UI", "1.2.3.3"), element(0x00209311, "CS", "TILED_FULL"), element(0x00280002, "US", 3),
        element(0x00280004, "CS", "RGB"), element(0x00280006, "US", 0), element(0x00280008, "IS", str(len(tiles))),
        element(0x00280010, "US", TILE), element(0x00280011, "US", TILE), element(0x00280100, "US", 8),
        element(0x00280101, "US", 8), element(0x00280102, "US", 7), element(0x00280103, "US", 0),
        element(0x00480006, "UL", width), element(0x00480007, "UL", height), sequence(0x52009229, spacing),
        element(0x7FE00010, "OB", b"".join(t.tobytes() for t in tiles)),
    ])  # fmt: skip
    path.write_bytes(bytes(128) + b"DICM" + element(0x00020000, "UL", len(meta)) + meta + body)


def test_a_dicom_slide_states_its_scale_and_shows_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2 * TILE, 3 * TILE, 3), dtype=np.uint8)
    write_dicom(tmp_path / "level0.dcm", pixels, 0.5)
    image = open_image(tmp_path / "level0.dcm")
    assert isinstance(image, SlideImage)
    assert image.mpp == pytest.approx(0.5)
    assert (image.read(20.0, 10.0, (100.0, 64.0), 0.5) == pixels[20:148, 40:240]).all()
    with pytest.raises(UnitsError, match=r"the file says 0\.5, mpp says 0\.25"):
        open_image(tmp_path / "level0.dcm", 0.25)


def test_another_file_of_a_dicom_slide_changes_what_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (TILE, TILE, 3), dtype=np.uint8)
    write_dicom(tmp_path / "level0.dcm", pixels, 0.5)
    before = open_image(tmp_path / "level0.dcm").fingerprint
    (tmp_path / "level1.dcm").write_bytes(b"another level")
    assert open_image(tmp_path / "level0.dcm").fingerprint != before
