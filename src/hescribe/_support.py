"""Optional imports that name the extra, and whole-or-nothing writing."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from hescribe.errors import DataAccessError, MissingDependencyError


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
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        tmp = Path(name)
        yield tmp
        tmp.chmod(0o644)
        tmp.replace(path)
    except DataAccessError:
        raise
    except OSError as error:
        raise DataAccessError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if tmp is not None:
            tmp.unlink(missing_ok=True)
