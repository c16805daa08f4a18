"""Download one file whole: resumed where it was cut, checked against what its source publishes, never half taken."""

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hescribe._support import on_disk
from hescribe.data.toml_file import Record, read_toml, to_toml
from hescribe.data.web import PATIENT, InterruptedTransfer, Patience, open_url, read_pieces, wait_or_give_up
from hescribe.errors import DataAccessError, FormatError

if TYPE_CHECKING:
    import requests

ENOUGH = 1 << 20  # bytes that make an attempt count as progress


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file on a host, and what its source states about it.

    Parameters
    ----------
    url
        Address.
    path
        Where it belongs in the dataset's folder, with ``/``.
    size
        Bytes, None if not stated.
    sha256, md5
        Checksums as published, None if not.
    page
        Address for people: where licence and terms are.
    with_token
        Whether the token is sent.
    """

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    page: str = ""
    with_token: bool = False

    @property
    def is_checked(self) -> bool:
        """Whether the source publishes a checksum."""
        return bool(self.sha256 or self.md5)


class _PartState(Record):
    """What the beginning of a file belongs to."""

    url: str
    etag: str = ""
    last_modified: str = ""


def download(
    file: RemoteFile,
    target: Path,
    *,
    token: str | None = None,
    patience: Patience = PATIENT,
    report: Callable[[int], None] = lambda _: None,
) -> str:
    """Fetch a file to ``target`` and return its sha256.

    The beginning lies in ``target.part`` until the whole is checked. It is resumed only if the server
    shows that the file has not changed (ETag or date), or if its checksum is published.

    Parameters
    ----------
    file
        What to fetch.
    target
        Path to write; must not exist.
    token
        Sent if ``file.with_token``, and to no other host.
    patience
        How long to try.
    report
        Called with the number of bytes of each piece.

    Raises
    ------
    DataAccessError
        If the server refuses, has no such file, or keeps failing; if the disk is full.
    FormatError
        If size or checksum are not what the source states: the file is deleted, never taken.
    """
    part = target.with_name(f"{target.name}.part")
    with on_disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    failures, longest = 0, _size(part)
    while True:
        before = _size(part)
        try:
            _transfer(file, part, token if file.with_token else None, patience.timeout_s, report)
            sha256 = _verify(file, part, is_resumed=before > 0)
            break
        except InterruptedTransfer as error:
            # Against the longest: a server that starts anew each time would never be given up.
            failures = 1 if _size(part) - longest >= ENOUGH else failures + 1
            longest = max(longest, _size(part))
            wait_or_give_up(error, failures, file.url, patience)
        except FormatError:
            _drop(part)
            raise
    with on_disk(target):
        part.replace(target)
        _state_path(part).unlink(missing_ok=True)
    return sha256


def _transfer(file: RemoteFile, part: Path, token: str | None, timeout_s: float, report: Callable[[int], None]) -> None:
    """Bring the part to its full length, from where it is if that is safe."""
    offset, headers = _resume_at(file, part)
    if offset and offset == file.size:
        return  # killed between the last byte and the check
    with open_url(file.url, headers, token, timeout_s, file.page or file.url) as response:
        if response.status_code == 416:
            _drop(part)
            raise InterruptedTransfer("the beginning that was kept is longer than the file")
        if response.status_code == 206:
            total: int | None = _check_continues(response, part, offset)
        else:
            offset, total = 0, _read_length(response)
        _check_announced(file, response, total, part, offset)
        limit = next(n for n in (file.size, total, 1 << 62) if n is not None) - offset
        with on_disk(part):
            handle = part.open("r+b" if offset else "wb")
        with handle:
            handle.seek(offset)
            handle.truncate()
            with on_disk(part):  # only now: an old beginning must never stand under a new tag
                _write_state(part, file.url, response)
            for piece in read_pieces(response, limit, file.url):
                with on_disk(part):
                    handle.write(piece)
                report(len(piece))
    if total is not None and _size(part) < total:
        raise InterruptedTransfer(f"the connection was cut at {_size(part)} of {total} bytes")


def _resume_at(file: RemoteFile, part: Path) -> tuple[int, dict[str, str]]:
    """Return the length to keep and the headers that ask for the rest, (0, {}) for a clean start."""
    state, offset = _read_state(part), _size(part)
    if not offset or state is None or state.url != file.url:
        return 0, {}
    headers = {"Range": f"bytes={offset}-"}
    if state.etag and not state.etag.startswith("W/"):
        headers["If-Range"] = state.etag
    elif state.last_modified:
        headers["If-Range"] = state.last_modified
    elif not file.is_checked:
        return 0, {}
    return offset, headers


def _check_continues(response: "requests.Response", part: Path, offset: int) -> int:
    """Return the length of the whole file if the answer joins the beginning; else drop it: the file has changed."""
    state, headers = _read_state(part), response.headers
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    same = state is not None and (
        state.etag == headers.get("ETag", "") if state.etag else state.last_modified == headers.get("Last-Modified", "")
    )
    if not (same and place and int(place[1]) == offset):
        _drop(part)
        raise InterruptedTransfer("the file changed on the server while it was fetched")
    return int(place[2])


def _read_length(response: "requests.Response") -> int | None:
    """Return the length of a file as the server states it, None if it does not."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _check_announced(
    file: RemoteFile, response: "requests.Response", total: int | None, part: Path, offset: int
) -> None:
    """Refuse, before a byte is written, what is not the file, could not be told whole, or does not fit the disk."""
    has_end = total is not None or "chunked" in response.headers.get("Transfer-Encoding", "")
    if not has_end and file.size is None and not file.is_checked:
        raise DataAccessError(
            f"{file.url} states no length and its source no checksum: nobody could tell if it is whole"
        )
    if total is not None and file.size not in {None, total}:
        raise FormatError(
            f"{file.path}: the server announces {total} bytes, its source states {file.size}; nothing was taken. "
            f"See {file.page or file.url}"
        )
    missing, free = (total or file.size or 0) - offset, shutil.disk_usage(part.parent).free
    if missing > free:
        raise DataAccessError(f"{file.path} needs {missing} bytes more, and the disk of {part.parent} has {free} left")


def _verify(file: RemoteFile, part: Path, *, is_resumed: bool) -> str:
    """Return the sha256 of the whole file, if it is what the source states."""
    size, (sha256, md5) = _size(part), hash_whole(part)
    pairs = (("sha256", file.sha256, sha256), ("md5", file.md5, md5))
    wrong = [(kind, want, got) for kind, want, got in pairs if want not in {None, got}]
    if file.size is not None and size != file.size:
        wrong.insert(0, ("size", str(file.size), str(size)))
    if not wrong:
        return sha256
    if is_resumed:
        _drop(part)
        raise InterruptedTransfer("the resumed file was not whole")
    what, want, found = wrong[0]
    raise FormatError(f"{file.path} from {file.url}: expected {what} {want}, got {found}; it was deleted, try again")


def hash_whole(path: Path) -> tuple[str, str]:
    """Return sha256 and md5 of a file, read once."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)  # what some sources publish
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.toml")


def _read_state(part: Path) -> _PartState | None:
    try:
        return read_toml(_state_path(part), _PartState)
    except (DataAccessError, ValueError):  # none there, or cut by a kill: start anew
        return None


def _write_state(part: Path, url: str, response: "requests.Response") -> None:
    state = {
        "url": url,
        "etag": response.headers.get("ETag", ""),
        "last_modified": response.headers.get("Last-Modified", ""),
    }
    _state_path(part).write_text(to_toml(state), encoding="utf-8")


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)
