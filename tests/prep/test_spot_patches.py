from dataclasses import replace

import numpy as np
import pytest

from hescribe import settings
from hescribe.errors import InputError
from hescribe.prep import spot_patches
from hescribe.prep.patches import iter_patches
from hescribe.prep.spot_patches import SpotPatches, section_patches


def cut(section):
    return np.concatenate(list(iter_patches(section, 200.0, 16)))


def test_patches_of_kept_spots_come_in_the_order_of_the_cohort(cohort):
    masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) % 10 == 3))
    patches = SpotPatches.of(masked, 200.0, 16)
    expected = np.concatenate(
        [cut(s)[s.kept] for s in cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) % 10 == 3))]
    )
    assert len(patches) == len(expected)
    np.testing.assert_array_equal(np.concatenate(list(patches.chunks())), expected)
    np.testing.assert_array_equal(patches.take(np.array([7, 0])), expected[[7, 0]])


def test_patches_are_cut_once_and_read_only(cohort, monkeypatch, tmp_path):
    monkeypatch.setenv("HESCRIBE_CACHE", str(tmp_path))
    first = section_patches(cohort[0], 200.0, 16)
    np.testing.assert_array_equal(first, cut(cohort[0]))
    assert not first.flags.writeable
    monkeypatch.setattr(spot_patches, "write_whole", lambda _: pytest.fail("cut again"))
    np.testing.assert_array_equal(section_patches(cohort[0], 200.0, 16), first)


def flipped(content):
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


@pytest.mark.parametrize("damage", [lambda content: content[:-100], flipped])
def test_a_damaged_file_is_cut_again(cohort, monkeypatch, tmp_path, damage):
    monkeypatch.setenv("HESCRIBE_CACHE", str(tmp_path))
    section_patches(cohort[0], 200.0, 16)
    (file,) = (settings.cache_dir() / "patches").glob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    np.testing.assert_array_equal(section_patches(cohort[0], 200.0, 16), cut(cohort[0]))
    assert file.read_bytes() == whole


def test_another_size_or_section_is_another_file(cohort, monkeypatch, tmp_path):
    monkeypatch.setenv("HESCRIBE_CACHE", str(tmp_path))
    for section, fov_um, px in (
        (cohort[0], 200.0, 16),
        (cohort[0], 100.0, 16),
        (cohort[0], 200.0, 8),
        (cohort[1], 200.0, 16),
    ):
        assert section_patches(section, fov_um, px).shape == (49, px, px, 3)
    assert len(list((tmp_path / "patches").glob("*.npy"))) == 4


def test_refuses_a_section_without_image(cohort):
    with pytest.raises(InputError, match="has no image to cut patches from"):
        section_patches(replace(cohort[0], image=None), 200.0, 16)
