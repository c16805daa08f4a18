"""Embedding a section, and remembering it on disk and in memory."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from anndata import AnnData

from hescribe.ahead import ahead
from hescribe.cards import EncoderCard
from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.encode.features import Memory, embed_section, embed_tiles, memory
from hescribe.errors import DataAccessError, InputError, UnknownNameError
from hescribe.params import Params
from hescribe.progress import listen


@dataclass(kw_only=True)
class Counting(Params):
    """Mean red, times a factor; counts how often it is called."""

    name: ClassVar[str] = "counting"
    card: ClassVar[EncoderCard] = EncoderCard(
        name="counting", revision="1", px=8, n_dims=2, fov_um=(10.0,), licence="none", paper="none"
    )
    calls: ClassVar[list[int]] = []
    factor: float = 1.0

    def encode(self, patches: np.ndarray) -> np.ndarray:
        self.calls.append(len(patches))
        red = patches[..., 0].mean(axis=(1, 2), dtype=np.float32) * self.factor
        return np.stack([red, np.full_like(red, len(self.calls) > 0)], axis=1)


@pytest.fixture(autouse=True)
def _forget():
    memory.clear()
    Counting.calls.clear()


@pytest.fixture
def section() -> Section:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[..., 0] = np.arange(300) // 2
    xy = np.stack([np.linspace(20, 280, 150), np.full(150, 50.0)], axis=1)
    return Section("s1", "d", AnnData(np.zeros((150, 1)), obsm={"spatial_um": xy}), ArrayImage(pixels, 1.0, "v1"))


def test_every_spot_is_embedded_in_order_also_those_not_kept(section, tmp_path):
    found = embed_section(section.with_kept(np.zeros(150)), Counting(), cache=tmp_path)
    assert found.shape == (150, 2)
    assert found.dtype == np.float32
    assert (np.diff(found[:, 0]) > 0).all()


def test_fields_of_view_are_concatenated(section, tmp_path):
    both = embed_section(section, Counting(), fov_um=(10.0, 30.0), cache=tmp_path)
    parts = [embed_section(section, Counting(), fov_um=(fov,), cache=tmp_path) for fov in (10.0, 30.0)]
    np.testing.assert_array_equal(both, np.hstack(parts))


def test_never_more_than_a_chunk_of_patches_at_once(section, tmp_path):
    embed_section(section, Counting(), cache=tmp_path)
    assert Counting.calls == [64, 64, 22]


def test_a_second_call_encodes_nothing(section, tmp_path):
    first = embed_section(section, Counting(), cache=tmp_path)
    n_calls = len(Counting.calls)
    assert embed_section(section, Counting(), cache=tmp_path) is first  # from memory
    memory.clear()
    np.testing.assert_array_equal(embed_section(section, Counting(), cache=tmp_path), first)  # from disk
    assert len(Counting.calls) == n_calls


def test_features_handed_out_cannot_be_changed_by_accident(section, tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        embed_section(section, Counting(), cache=tmp_path)[0, 0] = 1


@pytest.mark.parametrize("change", ["image", "parameter", "field of view", "coordinates", "scale"])
def test_whatever_features_depend_on_makes_them_anew(section, tmp_path, change):
    embed_section(section, Counting(), cache=tmp_path)
    n_calls, encoder, fov_um = len(Counting.calls), Counting(), None
    if change == "image":
        section = replace(section, image=replace(section.image, fingerprint="v2"))
    elif change == "parameter":
        encoder = Counting(factor=2.0)
    elif change == "field of view":
        fov_um = (11.0,)
    elif change == "coordinates":
        table = section.table.copy()
        table.obsm["spatial_um"] = table.obsm["spatial_um"] + 1
        section = section.with_table(table)
    else:
        section = replace(section, image=replace(section.image, mpp=1.1))
    embed_section(section, encoder, fov_um=fov_um, cache=tmp_path)
    assert len(Counting.calls) == 2 * n_calls


@pytest.mark.parametrize("damage", ["cut", "flipped", "pickled", "emptied", "without its note", "with a broken note"])
def test_a_damaged_cache_entry_is_computed_again(section, tmp_path, damage):
    first = embed_section(section, Counting(), cache=tmp_path)
    (file,), (note,) = tmp_path.rglob("*.npy"), tmp_path.rglob("*.json")
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[:-100])
    elif damage == "flipped":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "pickled":
        with file.open("wb") as out:
            np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "emptied":
        file.write_bytes(b"")
    elif damage == "without its note":
        note.unlink()
    else:
        note.write_text("{")
    memory.clear()
    np.testing.assert_array_equal(embed_section(section, Counting(), cache=tmp_path), first)
    memory.clear()
    n_calls = len(Counting.calls)
    np.testing.assert_array_equal(embed_section(section, Counting(), cache=tmp_path), first)
    assert len(Counting.calls) == n_calls  # and it was mended


def test_the_note_says_what_made_the_features(section, tmp_path):
    embed_section(section, Counting(factor=3.0), cache=tmp_path)
    (note,) = tmp_path.rglob("*.json")
    said = json.loads(note.read_text())
    assert said["encoder"]["name"] == "counting"
    assert said["params"] == {"factor": 3.0}
    assert said["backend"] == "numpy"


def test_a_broken_encoder_leaves_nothing_behind(section, tmp_path, monkeypatch):
    def fail(_self, _patches):
        raise InputError("broken")

    monkeypatch.setattr(Counting, "encode", fail)
    with pytest.raises(InputError, match="broken"):
        embed_section(section, Counting(), cache=tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_cache_that_cannot_be_written_is_named(section, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataAccessError, match="cannot be written"):
        embed_section(section, Counting(), cache=tmp_path / "file")


def test_a_section_without_image_is_named():
    with pytest.raises(InputError, match="section bare has no image"):
        embed_section(Section("bare", "d", AnnData(np.zeros((2, 1)))), "color")


def test_an_unknown_encoder_gets_a_suggestion(section):
    with pytest.raises(UnknownNameError, match="did you mean 'color'"):
        embed_section(section, "colour")


def test_no_field_of_view_is_refused(section):
    with pytest.raises(InputError, match="fov_um is empty"):
        embed_section(section, "color", fov_um=())


def test_a_section_without_spots_has_no_rows(section, tmp_path):
    nothing = section.with_table(section.table[:0].copy())
    assert embed_section(nothing, Counting(), cache=tmp_path).shape == (0, 2)


def test_color_gives_the_22_statistics(section, tmp_path):
    assert embed_section(section, "color", cache=tmp_path).shape == (150, 22)


def test_progress_is_reported_per_chunk(section, tmp_path):
    said = []

    class Listener:
        def start(self, label, total):
            said.append((label, total))
            return 0

        def advance(self, _handle, n):
            said.append(n)

        def stop(self, _handle):
            said.append("done")

    with listen(Listener()):
        embed_section(section, Counting(), cache=tmp_path)
    assert said == [("embedding s1", 3), 1, 1, 1, "done"]


def test_tiles_come_row_by_row_from_the_upper_left(tmp_path):
    """Red of the quarters of one patch: 10 and 20 above, 30 and 40 below."""
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[..., 0] = np.kron([[10, 20], [30, 40]], np.ones((50, 50)))
    table = AnnData(np.zeros((1, 1)), obsm={"spatial_um": np.array([[50.0, 50.0]])})
    patch = Section("s", "d", table, ArrayImage(pixels, 1.0, "quarters"))
    tiles = embed_tiles(patch, Counting(), n_side=2, fov_um=16.0, cache=tmp_path)  # of 8 px each
    np.testing.assert_array_equal(tiles[0, :, 0], [10, 20, 30, 40])


def test_tiles_of_every_spot_average_to_its_patch(section, tmp_path):
    """The image is a ramp of red, so that a patch is the mean of its nine tiles."""
    tiles = embed_tiles(section, Counting(), n_side=3, fov_um=30.0, cache=tmp_path)
    assert tiles.shape == (150, 9, 2)
    assert tiles.dtype == np.float32
    patches = embed_section(section, Counting(), fov_um=(30.0,), cache=tmp_path)
    np.testing.assert_allclose(tiles[..., 0].mean(axis=1), patches[:, 0], atol=0.5)


def test_one_tile_is_the_patch_and_shares_its_place_in_the_cache(section, tmp_path):
    patches = embed_section(section, Counting(), cache=tmp_path)
    n_calls = len(Counting.calls)
    np.testing.assert_array_equal(embed_tiles(section, Counting(), n_side=1, cache=tmp_path)[:, 0], patches)
    assert len(Counting.calls) == n_calls


def test_tiles_are_embedded_once_a_chunk_at_a_time_and_cannot_be_changed(section, tmp_path):
    first = embed_tiles(section, Counting(), n_side=4, cache=tmp_path)
    assert max(Counting.calls) == 64
    n_calls = len(Counting.calls)
    np.testing.assert_array_equal(embed_tiles(section, Counting(), n_side=4, cache=tmp_path), first)
    assert len(Counting.calls) == n_calls
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1
    embed_tiles(section, Counting(), n_side=2, cache=tmp_path)
    assert len(Counting.calls) > n_calls


def test_damaged_tiles_are_computed_again(section, tmp_path):
    first = np.array(embed_tiles(section, Counting(), n_side=2, cache=tmp_path))
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:-8])
    np.testing.assert_array_equal(embed_tiles(section, Counting(), n_side=2, cache=tmp_path), first)


def test_no_tiles_and_no_image_are_refused(section):
    with pytest.raises(InputError, match="n_side must be at least 1, got 0"):
        embed_tiles(section, "color", n_side=0)
    with pytest.raises(InputError, match="section bare has no image"):
        embed_tiles(Section("bare", "d", AnnData(np.zeros((2, 1)))), "color", n_side=2)


def test_a_section_without_spots_has_no_tiles(section, tmp_path):
    nothing = section.with_table(section.table[:0].copy())
    assert embed_tiles(nothing, Counting(), n_side=2, cache=tmp_path).shape == (0, 4, 2)


def test_memory_forgets_the_least_recently_used():
    small = Memory(limit_bytes=2 * 80)
    for key in "ab":
        small.add(key, np.zeros(10))
    small.get("a")
    small.add("c", np.zeros(10))
    assert [small.get(key) is not None for key in "abc"] == [True, False, True]


def test_reading_ahead_passes_errors_on():
    def items():
        yield 1
        raise InputError("second")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(InputError, match="second"):
        next(found)


FLAT_SECTION = """
import sys, numpy as np
from anndata import AnnData
from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.encode.features import embed_section
image = ArrayImage(np.full((60, 60, 3), 180, np.uint8), 1.0, "flat")
table = AnnData(np.zeros((2, 1)), obsm={"spatial_um": np.full((2, 2), 30.0)})
section = Section("s", "d", table, image)
"""


def test_remembered_network_features_need_no_torch(tmp_path):
    here: dict = {}
    exec(FLAT_SECTION, here)  # noqa: S102 - the same lines in this process and in a fresh one
    embed_section(here["section"], cache=tmp_path)
    code = f"""{FLAT_SECTION}
features = embed_section(section, cache={str(tmp_path)!r})
print(features.shape, "torch" in sys.modules, "openvino" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 1280) False False"
