"""Tiles put together are the image, at every level."""

import io

import numpy as np
import pytest
from PIL import Image

from hescribe.data.image import ArrayImage
from hescribe.errors import InputError
from hescribe.view import tiles as module
from hescribe.view.tiles import TILE_PX, Tiles


@pytest.fixture
def image():
    rows, columns = np.mgrid[:700, :1000]
    pixels = np.stack([columns // 4, rows // 3, np.full_like(rows, 60)], axis=-1).astype(np.uint8)
    return ArrayImage(pixels, 0.5, "ramp")


def decode(tile):
    return np.asarray(Image.open(io.BytesIO(tile))).astype(int)


def test_the_finest_level_is_the_image_itself(image):
    tiles = Tiles(image)
    assert (tiles.n_levels, tiles.level_mpp(2)) == (3, 0.5)
    seen = decode(tiles.read(2, 3, 2))  # columns 768 to 999, rows 512 to 699
    assert np.abs(seen[:176, :216] - image.pixels[512:688, 768:984]).max() < 12  # whole blocks of the JPEG
    assert (seen[195:, 240:] > 245).all()  # white beyond the image


@pytest.mark.parametrize("overview_px", [256, 2048])
def test_a_coarse_tile_shows_the_place_it_stands_for(image, overview_px, monkeypatch):
    monkeypatch.setattr(module, "OVERVIEW_PX", overview_px)
    tiles = Tiles(image)
    whole = decode(tiles.read(0, 0, 0))  # 2 um per pixel
    for x, y in ((10, 10), (200, 50), (100, 150)):
        assert np.abs(whole[y, x] - image.pixels[4 * y, 4 * x]).max() < 8


def test_what_lies_beyond_the_image_is_blank_and_beyond_the_grid_an_error(image):
    tiles = Tiles(image)
    assert (decode(tiles.read(2, 0, 3)) == 255).all()
    for level, column, row in ((3, 0, 0), (-1, 0, 0), (2, 4, 0), (2, 0, -1)):
        with pytest.raises(InputError, match="no tile"):
            tiles.read(level, column, row)


def test_kept_tiles_have_a_limit(image, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 1)
    tiles = Tiles(image)
    first = tiles.read(2, 0, 0)
    tiles.read(2, 1, 0)
    assert tiles.read(2, 0, 0) == first
    assert len(first) < TILE_PX**2


def test_a_small_image_is_one_tile():
    tiles = Tiles(ArrayImage(np.full((40, 90, 3), 9, np.uint8), 2.0, "small"))
    assert (tiles.n_levels, tiles.side_um) == (1, 512.0)
    assert decode(tiles.read(0, 0, 0))[20, 50].max() < 20
