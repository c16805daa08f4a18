"""Embedding goes block by block, and what was done before a stop is not done again."""

import numpy as np
import pytest
from anndata import AnnData

from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.encode import blocks, features
from hescribe.encode.blocks import Kept, order_blocks
from hescribe.encode.color import Color
from hescribe.encode.features import embed_section


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 40)
    features.memory.clear()
    yield
    features.memory.clear()


@pytest.fixture
def section():
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    xy = np.random.default_rng(1).uniform(60, 240, (200, 2))
    return Section("s", "d", AnnData(np.zeros((200, 1)), obsm={"spatial_um": xy}), ArrayImage(pixels, 1.0, "noise"))


class Stopping(Color):
    """An encoder that is stopped before it has embedded more than so many patches."""

    left = 10**9

    def encode(self, patches):
        self.left -= len(patches)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().encode(patches)


def files(tmp_path):
    return sorted(p.name for p in tmp_path.rglob("*.npz"))


def test_each_spot_is_in_one_block_and_neighbours_are_together():
    xy = np.random.default_rng(0).uniform(0, 8000, (500, 2))
    found = order_blocks(xy)
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert max(map(len, found)) == 40
    squares = {tuple(s) for b in found for s in np.floor(xy[b] / blocks.SQUARE_UM).astype(int)}
    assert sum(len({tuple(s) for s in np.floor(xy[b] / blocks.SQUARE_UM).astype(int)}) for b in found) < 2 * len(
        squares
    )


def test_a_stopped_run_goes_on_where_it_stopped_to_the_same_result(section, tmp_path):
    whole = embed_section(section, Color(), fov_um=(50.0,), cache=tmp_path / "whole")
    features.memory.clear()
    stopped = Stopping()
    stopped.left = 130
    with pytest.raises(KeyboardInterrupt):
        embed_section(section, stopped, fov_um=(50.0,), cache=tmp_path / "cut")
    assert files(tmp_path / "cut") == ["000000.npz", "000001.npz", "000002.npz"]
    assert not list((tmp_path / "cut").rglob("*.npy"))
    second = Stopping()
    second.left = 80 + 40  # the two blocks that are missing, and the first chunk, which chooses the way
    np.testing.assert_array_equal(embed_section(section, second, fov_um=(50.0,), cache=tmp_path / "cut"), whole)
    assert files(tmp_path) == []


def test_a_damaged_block_and_one_computed_another_way_are_done_again(section, tmp_path, monkeypatch):
    kept = Kept(tmp_path / "x.blocks", Color())
    rows = np.ones((40, 11), np.float32)
    kept.write(0, rows)
    kept.write(1, rows)
    np.testing.assert_array_equal(kept.read(0, (40, 11)), rows)
    content = (kept.folder / "000001.npz").read_bytes()
    (kept.folder / "000001.npz").write_bytes(content[:900] + b"\1\2\3" + content[903:])
    assert kept.read(1, (40, 11)) is None
    assert kept.read(0, (40, 12)) is None
    assert kept.read(7, (40, 11)) is None
    monkeypatch.setattr(blocks.accelerate, "backend", lambda encoder: "another")
    assert kept.read(0, (40, 11)) is None


def test_another_image_finds_no_blocks_of_this_one(section, tmp_path):
    stopped = Stopping()
    stopped.left = 130
    with pytest.raises(KeyboardInterrupt):
        embed_section(section, stopped, fov_um=(50.0,), cache=tmp_path)
    changed = np.array(section.image.pixels)
    changed[150, 150] = 0
    other = Section("s", "d", section.table, ArrayImage(changed, 1.0, "changed"))
    fresh = embed_section(other, Color(), fov_um=(50.0,), cache=tmp_path / "fresh")
    features.memory.clear()
    np.testing.assert_array_equal(embed_section(other, Color(), fov_um=(50.0,), cache=tmp_path), fresh)
    assert len(files(tmp_path)) == 3
