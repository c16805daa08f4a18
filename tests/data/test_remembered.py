"""An array of the cache that is not as it was written is none."""

import json
import zlib

import numpy as np
import pytest

from hescribe.data.remembered import read_remembered, write_note

ARRAY = np.arange(24, dtype=np.float32).reshape(4, 6)


@pytest.fixture
def where(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    write_note(tmp_path / "a.npy", zlib.crc32(ARRAY), {"fov_um": 112.0})
    return tmp_path / "a.npy"


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_array_comes_back_as_it_was(where, in_memory):
    found = read_remembered(where, (4, 6), np.float32, in_memory=in_memory)
    np.testing.assert_array_equal(found, ARRAY)
    assert isinstance(found, np.memmap) is not in_memory
    assert json.loads(where.with_suffix(".json").read_text())["fov_um"] == 112.0


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda p: p.unlink(),
        lambda p: p.write_bytes(p.read_bytes()[:-1]),
        lambda p: p.with_suffix(".json").unlink(),
        lambda p: p.with_suffix(".json").write_text("[1"),
        lambda p: p.with_suffix(".json").write_text("[1]"),
        lambda p: p.with_suffix(".json").write_text("{}"),
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_was_damaged_is_none(where, damage, in_memory):
    damage(where)
    assert read_remembered(where, (4, 6), np.float32, in_memory=in_memory) is None


@pytest.mark.parametrize(("shape", "dtype"), [((6, 4), np.float32), ((4, 6), np.int32)])
def test_another_shape_or_type_is_none(where, shape, dtype):
    assert read_remembered(where, shape, dtype) is None
