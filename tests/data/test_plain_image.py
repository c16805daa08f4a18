import io
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from hescribe.data import plain
from hescribe.data.image import ImageSource
from hescribe.data.plain import PlainImage, read_size_px
from hescribe.data.slide import open_image
from hescribe.errors import DataAccessError, FormatError, InputError, UnitsError

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def save(tmp_path, image, name="a.png", **options):
    path = tmp_path / name
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_pixels_come_back_as_written(tmp_path, name):
    image = PlainImage(save(tmp_path, RGB, name), 0.5)
    assert isinstance(image, ImageSource)
    assert (image.pixels == RGB).all()
    assert image.size_um == (20.0, 15.0)
    assert (image.read(5.0, 2.5, (4.0, 3.0), 0.5) == RGB[5:11, 10:18]).all()


def test_a_jpeg_decodes_as_pillow_does(tmp_path):
    path = save(tmp_path, Image.fromarray(RGB).resize((400, 300)), "a.jpg", quality=90)
    with Image.open(path) as reference:
        difference = PlainImage(path, 0.5).pixels.astype(int) - np.asarray(reference)
    assert np.abs(difference).max() <= 1  # both are libjpeg-turbo, of different versions


def test_grey_becomes_rgb(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif"):
        pixels = PlainImage(save(tmp_path, np.full((9, 9), 77, dtype=np.uint8), name), 0.5).pixels
        assert pixels.shape == (9, 9, 3)
        assert (pixels == 77).all()


def test_16_bits_are_scaled_to_8(tmp_path):
    deep = (RGB.astype(np.uint16) * 257)[:, :, 0]
    assert (PlainImage(save(tmp_path, deep), 0.5).pixels == RGB[:, :, :1]).all()
    tifffile.imwrite(tmp_path / "a.tif", RGB.astype(np.uint16) * 257, photometric="rgb")
    assert (PlainImage(tmp_path / "a.tif", 0.5).pixels == RGB).all()


def test_transparent_pixels_are_white(tmp_path):
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], dtype=np.uint8)])
    rgba[0, 0, 3] = 255
    for name in ("a.png", "a.tif"):
        pixels = PlainImage(save(tmp_path, rgba, name), 0.5).pixels
        assert pixels[0, 0].tolist() == RGB[0, 0].tolist()
        assert (pixels[1:] == 255).all()


def test_palettes_are_resolved(tmp_path):
    palette = Image.fromarray(RGB // 128 * 128).quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    for name in ("a.png", "a.tif"):
        assert (PlainImage(save(tmp_path, palette, name), 0.5).pixels == expected).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_refused_when_opened_and_when_read(tmp_path, name):
    path = save(tmp_path, Image.fromarray(RGB).convert("CMYK"), name)
    with pytest.raises(FormatError, match=f"{name} is CMYK"):
        PlainImage(path, 0.5).pixels  # noqa: B018 - decoding is what fails
    if name == "a.jpg":
        with pytest.raises(FormatError, match="is CMYK"):
            open_image(path, 0.5)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("keep", [0.98, 0.5])
def test_a_truncated_file_is_refused(tmp_path, name, keep):
    path = save(tmp_path, RGB.repeat(9, axis=0), name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(FormatError, match=f"{name} is damaged"):
        PlainImage(path, 0.5).pixels  # noqa: B018 - decoding is what fails
    if name != "a.tif":
        with pytest.raises(FormatError, match=f"{name}.* damaged or truncated"):
            open_image(path, 0.5)


def test_junk_after_the_end_of_a_jpeg_does_no_harm(tmp_path):
    path = save(tmp_path, RGB, "a.jpg")
    whole = PlainImage(path, 0.5).pixels.copy()
    path.write_bytes(path.read_bytes() + b"\0\0junk")
    assert np.abs(open_image(path, 0.5).pixels.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("content", [b"", b"GIF89a not an image of tissue", b"\xff\xd8\xff", b"II*\0"])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.jpg"):
        read_size_px(tmp_path / "a.jpg")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataAccessError, match=r"gone\.png cannot be read"):
        PlainImage(tmp_path / "gone.png", 0.5).pixels  # noqa: B018 - decoding is what fails


def test_fluorescence_channels_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((8, 8, 7), dtype=np.uint8), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(FormatError, match=r"1, 3 or 4 channels of 8 or 16 bits"):
        PlainImage(tmp_path / "a.tif", 0.5).pixels  # noqa: B018 - decoding is what fails


def test_an_image_beyond_memory_is_refused_by_its_head(tmp_path):
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "PNG")
    bomb = bytearray(content.getvalue())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(FormatError, match="60000 x 60000 pixels, more than fit in memory"):
        PlainImage(tmp_path / "a.png", 0.5).pixels  # noqa: B018 - decoding is what fails


def test_a_large_honest_slide_is_within_the_limit():
    assert plain.MAX_PX >= 30_000 * 30_000


def test_boxes_and_black_are_painted_over(tmp_path):
    pixels = np.clip(RGB, 60, 255)
    pixels[10:, 20:] = (3, 0, 10)
    path = save(tmp_path, pixels)
    painted = PlainImage(path, 0.5, ((2, 1, 6, 4),), black_background=True, fill_rgb=(9, 99, 199)).pixels
    assert (painted[1:4, 2:6] == (9, 99, 199)).all()
    assert (painted[10:, 20:] == (9, 99, 199)).all()
    assert (painted[0] == pixels[0]).all()


@pytest.mark.parametrize("box", [(0, 0, 41, 5), (5, 5, 5, 9), (-1, 0, 4, 4)])
def test_a_box_that_is_not_inside_is_refused(tmp_path, box):
    with pytest.raises(InputError, match="is not inside 40 x 30 px"):
        PlainImage(save(tmp_path, RGB), 0.5, (box,))


def test_the_fingerprint_changes_with_whatever_changes_a_pixel(tmp_path):
    path = save(tmp_path, RGB)
    same = PlainImage(path, 0.5).fingerprint
    assert PlainImage(path, 0.5, fill_rgb=(0, 0, 0)).fingerprint == same  # nothing is painted
    others = {
        PlainImage(path, 0.6).fingerprint,
        PlainImage(path, 0.5, ((0, 0, 1, 1),)).fingerprint,
        PlainImage(path, 0.5, black_background=True).fingerprint,
        PlainImage(save(tmp_path, RGB[::-1], "b.png"), 0.5).fingerprint,
    }
    assert len(others - {same}) == 4
    save(tmp_path, RGB[:, ::-1])
    assert PlainImage(path, 0.5).fingerprint != same


def test_one_decoded_image_is_kept(tmp_path, monkeypatch):
    decoded = []
    decode = plain._decode
    monkeypatch.setattr(plain, "_decode", lambda path, kind: decoded.append(path.name) or decode(path, kind))
    first, second = (PlainImage(save(tmp_path, RGB, name), 0.5) for name in ("1.png", "2.png"))
    for image in (first, first, second, second, first):
        image.read(0, 0, (5, 5), 0.5)
    assert decoded == ["1.png", "2.png", "1.png"]


@pytest.mark.parametrize("mpp", [0.0, -1.0, 400.0, float("nan")])
def test_an_absurd_mpp_is_refused(tmp_path, mpp):
    with pytest.raises(UnitsError, match="is not a pixel size"):
        PlainImage(save(tmp_path, RGB), mpp)
