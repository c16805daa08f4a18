"""Optional imports that name the extra, and whole-or-nothing writing."""

import glob
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import ModuleType

from hescribe.errors import DataAccessError, MissingDependencyError

MAX_ENTRIES = 1000  # of a folder that are looked at for each file: a millisecond
STALE_S = 24 * 3600  # no single file takes longer to write


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Raises
    ------
    MissingDependencyError
        If it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{purpose} needs {module}; install it with: pip install 'hescribe[{extra}]'"
        raise MissingDependencyError(message) from error


def remove_stale(folder: Path, name: str = "*") -> None:
    """Remove what killed runs left half-written in a folder, once nobody has touched it for a day.

    The age is what tells it from the work of another run on the same folder.

    Parameters
    ----------
    folder
        One of our own, unless ``name`` is given.
    name
        Of the file or folder that was to be written; all by default.
    """
    for path in folder.glob(f".{name}.*.tmp*"):
        _remove_if_stale(path)


def _remove_stale_of(path: Path) -> None:
    """Remove what killed runs left of one file, as far as the first entries of its folder show it.

    Of a folder with more entries, such as the cells of a large run, its own command tidies once.
    """
    begin = f".{path.name}."
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in islice(entries, MAX_ENTRIES):
            if entry.name.startswith(begin) and ".tmp" in entry.name:
                _remove_if_stale(Path(entry.path))


def _remove_if_stale(path: Path) -> None:
    with suppress(OSError):  # another run may have been faster
        if time.time() - path.stat().st_mtime > STALE_S:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Say that ``path`` cannot be written where the disk refuses, for it is full or the folder is read-only.

    Raises
    ------
    DataAccessError
        In place of any other ``OSError`` of the block.
    """
    try:
        yield
    except DataAccessError:
        raise
    except OSError as error:
        raise DataAccessError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only if the block succeeds.

    Raises
    ------
    DataAccessError
        If the disk is full or the folder cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with write_whole(target) as tmp:
    ...     _ = tmp.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    tmp: Path | None = None
    try:
        with on_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_of(path)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".tmp{path.suffix}", dir=path.parent)
            os.close(handle)
            tmp = Path(name)
            yield tmp
            tmp.chmod(0o644)
            tmp.replace(path)
    finally:
        if tmp is not None:
            tmp.unlink(missing_ok=True)


@contextmanager
def write_whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place only if the block succeeds.

    Raises
    ------
    DataAccessError
        If the disk is full or the folder cannot be written; nothing is left behind, and what was
        at ``path`` stays.
    """
    path, tmp = path.resolve(), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _put_back(path)
        remove_stale(path.parent, glob.escape(path.name))
        tmp = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        yield tmp
        tmp.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old.tmp", dir=path.parent))
            path.replace(old)
            tmp.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            tmp.replace(path)
    except DataAccessError as error:  # of a file in it
        raise type(error)(str(error).replace(str(tmp), str(path))) from error
    except OSError as error:
        raise DataAccessError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if tmp is not None:
            shutil.rmtree(tmp, ignore_errors=True)


def _put_back(path: Path) -> None:
    """Give a folder back what was set aside, if a kill came before the new content took its place."""
    if not path.exists():
        for old in path.parent.glob(f".{glob.escape(path.name)}.*.old.tmp"):
            if any(old.iterdir()):
                old.replace(path)
                return
