import os
import time

import pytest

from hescribe._support import STALE_S, remove_stale, write_whole, write_whole_folder
from hescribe.errors import DataAccessError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def age(path):
    long_ago = time.time() - STALE_S - 60
    os.utime(path, (long_ago, long_ago))


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path):
    target = tmp_path / "model"
    for text in ("first", "second"):
        with write_whole_folder(target) as tmp:
            (tmp / "a").write_text(text)
    with pytest.raises(DataAccessError, match="model cannot be written: No space left"), write_whole_folder(target):
        raise OSError(28, "No space left on device")
    assert (target / "a").read_text() == "second"
    assert names(tmp_path) == ["model"]


def test_what_a_kill_left_is_removed_after_a_day(tmp_path):
    """A younger one may belong to another run."""
    for name in (".a.parquet.x1.tmp.parquet", ".b.parquet.x2.tmp.parquet"):
        (tmp_path / name).write_text("half")
    age(tmp_path / ".a.parquet.x1.tmp.parquet")
    remove_stale(tmp_path)
    assert names(tmp_path) == [".b.parquet.x2.tmp.parquet"]


def test_a_file_that_is_written_removes_what_was_left_of_it_alone(tmp_path):
    for name in (".map.png.x1.tmp.png", ".map.png.x2.tmp.png", ".other.png.x3.tmp.png"):
        (tmp_path / name).write_text("half")
        age(tmp_path / name)
    (tmp_path / ".map.png.x2.tmp.png").touch()  # of another run, at work
    with write_whole(tmp_path / "map.png") as tmp:
        tmp.write_text("whole")
    assert names(tmp_path) == [".map.png.x2.tmp.png", ".other.png.x3.tmp.png", "map.png"]


def test_only_what_was_left_of_the_same_target_is_removed_beside_it(tmp_path):
    for name in (".model.x1.tmp", ".other.x2.tmp", ".model.x3.old.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half")
        age(tmp_path / name)
    with write_whole_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == [".other.x2.tmp", "model"]


def test_what_a_kill_set_aside_is_put_back_and_not_removed(tmp_path):
    """Killed between the two renames: the old content is nowhere else, and the new attempt fails too."""
    aside = tmp_path / ".model.x1.old.tmp"
    aside.mkdir()
    (aside / "a").write_text("first")
    age(aside)
    with pytest.raises(DataAccessError, match="No space left"), write_whole_folder(tmp_path / "model"):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "model" / "a").read_text() == "first"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("write", [write_whole, write_whole_folder])
def test_a_target_below_a_file_is_one_clear_error(tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataAccessError, match="model cannot be written"), write(tmp_path / "file" / "model"):
        pytest.fail("nothing can be written there")
