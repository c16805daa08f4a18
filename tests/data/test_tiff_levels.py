"""Slides in TIFF are read tile by tile, and state their scale wherever their format puts it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from hescribe.data import slide, stated_mpp, tiff_levels
from hescribe.data.plain import PlainImage
from hescribe.data.slide import SlideImage, open_image
from hescribe.data.stated_mpp import read_stated_mpp
from hescribe.errors import FormatError, UnitsError

SIDE = 400


@pytest.fixture
def pixels():
    coarse = np.random.default_rng(0).integers(60, 250, (50, 50, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE)))


def write_tiff(path, pixels, **kwargs):
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "metadata": None} | kwargs)
    return path


def write_ome(path, pixels, *, size=0.5, unit="µm", resolution=None):
    """Write a pyramid of two levels, the second in a SubIFD, as OME-TIFF has it."""
    metadata = {"axes": "YXS"} | {f"PhysicalSize{a}": size for a in "XY"} | {f"PhysicalSize{a}Unit": unit for a in "XY"}
    with tifffile.TiffWriter(path, ome=True) as out:
        common = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "resolutionunit": "CENTIMETER"}
        out.write(pixels, subifds=1, metadata=metadata, resolution=resolution or (1, 1), **common)
        out.write(pixels[::2, ::2], subfiletype=1, **common)
    return path


def test_an_ome_tiff_is_read_by_its_levels_and_states_its_scale(tmp_path, pixels):
    image = open_image(write_ome(tmp_path / "a.ome.tif", pixels))
    assert isinstance(image, SlideImage)
    assert image.mpp == pytest.approx(0.5)
    assert image.size_um == (200.0, 200.0)
    assert (image.read(10.0, 20.0, (70.0, 35.0), 0.5) == pixels[40:110, 20:160]).all()
    assert (image.read(10.0, 20.0, (70.0, 35.0), 1.0) == pixels[::2, ::2][20:55, 10:80]).all()


@pytest.mark.parametrize(("size", "unit"), [(500.0, "nm"), (0.0005, "mm"), (0.5, "µm")])
def test_an_ome_tiff_may_state_its_scale_in_another_unit(tmp_path, pixels, size, unit):
    assert read_stated_mpp(write_ome(tmp_path / "a.ome.tif", pixels, size=size, unit=unit)) == pytest.approx(0.5)


def test_an_aperio_description_and_imagej_s_unit_are_read(tmp_path, pixels):
    svs = "Aperio Image Library v1\n400x400 (64x64) JPEG/RGB|AppMag = 20|MPP = 0.4990|Left = 3"
    path = write_tiff(tmp_path / "a.svs", pixels, tile=(64, 64), description=svs)
    assert read_stated_mpp(path) == pytest.approx(0.499)
    imagej = "ImageJ=1.54\nunit=micron\n"
    path = write_tiff(tmp_path / "b.tif", pixels, resolution=(2.0, 2.0), resolutionunit="NONE", description=imagej)
    assert read_stated_mpp(path) == pytest.approx(0.5)


def test_a_png_of_a_scanner_states_its_scale(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png", dpi=(50_800, 50_800))
    assert open_image(tmp_path / "a.png").mpp == pytest.approx(0.5, rel=1e-3)


def test_a_file_that_contradicts_itself_is_refused_until_the_user_decides(tmp_path, pixels):
    path = write_ome(tmp_path / "a.ome.tif", pixels, size=0.5, resolution=(40_000, 40_000))
    with pytest.raises(UnitsError, match=r"resolution tag says 0\.25.*PhysicalSizeX says 0\.5"):
        open_image(path)
    assert open_image(path, 0.25).mpp == 0.25
    with pytest.raises(UnitsError, match="contradictory"):
        open_image(path, 0.33)


def test_of_a_scanner_s_own_format_only_what_openslide_says_counts(tmp_path, pixels, monkeypatch):
    """The first picture of SCN and BIF is the slide's label, whose resolution is another."""
    path = write_ome(tmp_path / "a.scn", pixels, resolution=(40_000, 40_000))
    said = {"openslide.vendor": "leica", "openslide.mpp-x": "0.4", "openslide.mpp-y": "0.4"}
    monkeypatch.setattr(stated_mpp, "_read_properties", lambda path: said)
    assert read_stated_mpp(path) == pytest.approx(0.4)


def test_a_slide_without_scale_tells_what_its_objective_says(tmp_path, pixels):
    svs = "Aperio Image Library v1\n400x400 (64x64) JPEG/RGB|AppMag = 40"
    path = write_tiff(tmp_path / "a.svs", pixels, tile=(64, 64), description=svs)
    with pytest.raises(UnitsError, match=r"give it with --mpp.*scanned at 40x"):
        open_image(path)


def test_a_path_may_hold_anything(tmp_path, pixels):
    path = write_ome(tmp_path / "Größe 1 'a' \"b\" ☃ $(x).ome.tif", pixels)
    assert open_image(path).read(0.0, 0.0, (32.0, 32.0), 0.5).shape == (64, 64, 3)


def test_the_coarsest_level_that_is_fine_enough_is_read_whatever_was_rounded(tmp_path):
    """A level of 500 px is a half of 1,001, and one of 490 is none."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as out:
        for side, grey in ((1001, 10), (500, 20), (245, 30)):
            level = np.full((side, side, 3), grey, np.uint8)
            out.write(level, photometric="rgb", tile=(64, 64), subfiletype=int(side < 1001), metadata=None)
    image = open_image(path, 0.5)
    assert [image.read(0.0, 0.0, (64.0, 64.0), mpp)[0, 0, 0] for mpp in (0.5, 0.9, 1.0, 2.0, 2.05)] == [
        10,
        10,
        20,
        20,
        30,
    ]


def test_planes_apart_and_tiles_never_written_are_read(tmp_path, pixels):
    planar = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    path = write_tiff(tmp_path / "planar.tif", planar, planarconfig="separate", tile=(64, 64))
    assert (open_image(path, 0.5).read(10.0, 20.0, (70.0, 35.0), 0.5) == pixels[40:110, 20:160]).all()
    tile = np.full((64, 64, 3), 90, np.uint8)
    parts = [None if i == 1 else tile for i in range(49)]
    path = write_tiff(tmp_path / "sparse.tif", iter(parts), shape=(SIDE, SIDE, 3), dtype=np.uint8, tile=(64, 64))
    region = open_image(path, 0.5).read(0.0, 0.0, (96.0, 32.0), 0.5)
    assert np.unique(region[:, 70:120]).tolist() in ([255], [0])  # as the writer fills it
    assert (region[:, :60] == 90).all()


def test_jpeg_tiles_are_what_openslide_reads(tmp_path, pixels):
    path = write_tiff(tmp_path / "a.tif", pixels, tile=(64, 64), compression="jpeg")
    region = open_image(path, 0.5).read(10.0, 20.0, (70.0, 35.0), 0.5)
    reference = np.asarray(openslide.OpenSlide(path).read_region((20, 40), 0, (140, 70)).convert("RGB"))
    assert (region == reference).all()


def test_a_truncated_pyramid_is_refused(tmp_path, pixels):
    path = write_ome(tmp_path / "a.ome.tif", pixels)
    whole = path.read_bytes()
    for share in (0.2, 0.6, 0.95):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(FormatError, match=r"a\.ome\.tif.*(damaged|truncated)"):
            open_image(path, 0.5)


def test_a_damaged_tile_is_told_when_it_is_read(tmp_path, pixels):
    path = write_ome(tmp_path / "a.ome.tif", pixels)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[8]
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = b"\0" * 40
    path.write_bytes(bytes(content))
    with pytest.raises(FormatError, match="tile 8 cannot be decoded"):
        open_image(path).read(0.0, 0.0, (200.0, 200.0), 0.5)


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_a_fluorescence_image_is_refused(tmp_path, tile):
    channels = np.random.default_rng(0).integers(0, 4000, (5, 128, 128), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "if.ome.tif", channels, ome=True, metadata={"axes": "CYX"}, tile=tile)
    with pytest.raises(FormatError, match=r"5 channels or layers of uint16.*fluorescence"):
        open_image(tmp_path / "if.ome.tif", 0.5)


def test_a_huge_strip_is_read_where_it_lies_or_refused(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(slide, "MAX_FLAT_PX", 1000)
    monkeypatch.setattr(tiff_levels, "MAX_TILE_BYTES", 1000)
    packed = write_tiff(tmp_path / "packed.tif", pixels, compression="zlib", rowsperstrip=SIDE)
    with pytest.raises(FormatError, match=r"one strip of 400 x 400 px.*write it again in tiles"):
        open_image(packed, 0.5)
    flat = open_image(write_tiff(tmp_path / "flat.tif", pixels, rowsperstrip=SIDE), 0.5)
    assert isinstance(flat, SlideImage)
    assert (flat.read(10.0, 20.0, (70.0, 35.0), 0.5) == pixels[40:110, 20:160]).all()


def test_a_large_flat_file_is_read_strip_by_strip(tmp_path, pixels, monkeypatch):
    path = write_tiff(tmp_path / "strips.tif", pixels, compression="zlib", rowsperstrip=16)
    assert isinstance(open_image(path, 0.5), PlainImage)
    monkeypatch.setattr(slide, "MAX_FLAT_PX", 1000)
    monkeypatch.setattr(slide, "MAX_PX", SIDE * 32)
    image = open_image(path, 0.5)
    assert isinstance(image, SlideImage)
    assert (image.read(10.0, 20.0, (70.0, 35.0), 0.5) == pixels[40:110, 20:160]).all()
    assert (image.read(0.0, 0.0, (200.0, 200.0), 2.0) == np.asarray(Image.fromarray(pixels).reduce(4))).all()


def test_memory_of_tiles_is_bounded_and_readers_may_share_it(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(tiff_levels, "KEPT_BYTES", 3 * 64 * 64 * 3)
    levels = tiff_levels.TiffLevels(write_ome(tmp_path / "a.ome.tif", pixels))
    places = [(x, y) for x in range(0, 300, 37) for y in range(0, 300, 41)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda p: levels.read(0, *p, (90, 70)), places))
    assert all((f == pixels[y : y + 70, x : x + 90]).all() for f, (x, y) in zip(found, places, strict=True))
    assert sum(t.nbytes for t in levels._kept.values()) <= tiff_levels.KEPT_BYTES
