"""Names that come from outside, from an archive or from a host's list of files, as paths that stay inside a folder."""

import unicodedata
from pathlib import PurePosixPath

from hescribe.errors import FormatError

MAX_BYTES = 255  # of one name, on the file systems in use
MAX_PATH = 1024  # bytes of a whole path: some systems hold no more
FORBIDDEN = frozenset('\\:*?"<>|')  # a path separator, a drive or a pattern somewhere
DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))})


def check_relative(name: str, where: str) -> PurePosixPath:
    """Return a name as a relative path, or refuse it.

    Parameters
    ----------
    name
        As the archive or the host states it, with ``/`` between folders.
    where
        Its origin, for the message.

    Raises
    ------
    FormatError
        If it is absolute, leaves its folder, or some file system could not hold it.

    Examples
    --------
    >>> check_relative("a/b.txt", "x.zip")
    PurePosixPath('a/b.txt')
    """
    reason = _find_fault(name)
    if reason:
        raise FormatError(f"{where} holds the name {name[:200]!r}, which {reason}; nothing is written")
    return PurePosixPath(name)


def same_name(path: PurePosixPath) -> str:
    """Return what two paths share if some file system takes them for one: case and composed letters.

    Examples
    --------
    >>> same_name(PurePosixPath("A/b")) == same_name(PurePosixPath("a/B"))
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _find_fault(name: str) -> str:
    if not name or name.startswith("/"):
        return "is empty or absolute"
    if len(name.encode(errors="replace")) > MAX_PATH:
        return f"is over {MAX_PATH} bytes long"
    faults = (_find_fault_of_part(part) for part in name.split("/"))
    return next((f for f in faults if f), "")


def _find_fault_of_part(part: str) -> str:
    if part in {"", ".", ".."}:
        return "has an empty part, or . or .."
    if len(part.encode(errors="replace")) > MAX_BYTES:
        return f"has a part over {MAX_BYTES} bytes"
    if not part.isprintable() or set(part) & FORBIDDEN:  # a lone surrogate is not printable
        return f"holds a control character or one of {' '.join(sorted(FORBIDDEN))}"
    if part[-1] in ". " or part.partition(".")[0].lower() in DEVICES:
        return "not every file system can hold"
    return ""
