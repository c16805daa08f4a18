"""Unpack an archive that came from outside: no path out of the folder, no link, no bomb, all of it or nothing."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from hescribe._support import on_disk, write_whole_folder
from hescribe.data.safe_path import check_relative, same_name
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.progress import track

CHUNK = 1 << 20
TARS = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open}
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error, NotImplementedError,
    RuntimeError, UnicodeError, ValueError, OSError,
)  # fmt: skip


class Readable(Protocol):
    """What a member is read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may unpack to.

    Parameters
    ----------
    n_members
        Number of files and folders, those that a path alone implies included.
    n_bytes
        Bytes of all files.
    ratio
        Bytes unpacked per byte packed, of one file and of the whole. Count tables reach about 100.
    free_bytes
        Bytes that may be unpacked whatever the ratio: a small file of zeros is no bomb.
    """

    n_members: int = 500_000
    n_bytes: int = 1 << 40
    ratio: float = 300.0
    free_bytes: int = 64 << 20

    def allow(self, packed: int) -> int:
        """Return how many bytes ``packed`` bytes may become."""
        return min(self.n_bytes, max(self.free_bytes, int(self.ratio * packed)))


def is_archive(path: Path) -> bool:
    """Return whether ``extract`` can unpack a file, by its name.

    Examples
    --------
    >>> is_archive(Path("a.tar.gz")), is_archive(Path("a.h5"))
    (True, False)
    """
    return path.name.lower().endswith((".zip", ".gz", *TARS))


def extract(archive: Path, out: Path, *, limits: Limits | None = None) -> tuple[Path, ...]:
    """Unpack a zip, tar (plain, gz, bz2 or xz) or gz file into a new folder.

    Parameters
    ----------
    archive
        File; its name says what it is.
    out
        Folder to write; new or empty.
    limits
        What it may unpack to.

    Returns
    -------
    Paths of the files, in the order of the archive.

    Raises
    ------
    FormatError
        If the archive is damaged, holds a link, a device, two names that are one, a name that leaves the
        folder, or more than ``limits``; nothing is left behind.
    InputError
        If its kind is unknown or ``out`` holds something.
    DataAccessError
        If there is no such file, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with zipfile.ZipFile(folder / "a.zip", "w") as file:
    ...     file.writestr("b/c.txt", "text")
    >>> [p.relative_to(folder).as_posix() for p in extract(folder / "a.zip", folder / "out")]
    ['out/b/c.txt']
    """
    if not is_archive(archive):
        raise InputError(f"{archive} is no archive that can be unpacked; its name must end with .zip, .tar.gz or .gz")
    if not archive.is_file():
        raise DataAccessError(f"{archive} cannot be read: there is no such file")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; give a new folder")
    name = archive.name.lower()
    read = _read_zip if name.endswith(".zip") else _read_tar if name.endswith(tuple(TARS)) else _read_gz
    with write_whole_folder(out) as tmp:
        writer = _Writer(archive, tmp, limits or Limits())
        try:
            read(archive, writer)
        except DataAccessError:
            raise
        except DAMAGE as error:
            raise FormatError(f"{archive} is damaged: {error or type(error).__name__}; fetch it again") from error
    return tuple(out / path for path in writer.files)


@dataclass
class _Writer:
    """Takes members one by one and keeps count of everything that is limited."""

    archive: Path
    folder: Path
    limits: Limits
    files: list[PurePosixPath] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._allowed = self.limits.allow(self.archive.stat().st_size)
        self._taken: dict[str, tuple[str, PurePosixPath]] = {}
        self._n_bytes = 0

    def add_folder(self, name: str) -> None:
        """Make a folder."""
        path = self._claim(name.rstrip("/"), "folder")
        with on_disk(self.folder / path):
            (self.folder / path).mkdir(parents=True, exist_ok=True)

    def add_file(self, name: str, content: Readable, *, size: int | None = None, packed: int | None = None) -> None:
        """Write a file; ``size`` is what the archive states, ``packed`` what it takes there."""
        path = self._claim(name, "file")
        allowed = self._allowed - self._n_bytes
        if packed is not None:
            allowed = min(allowed, self.limits.allow(packed))
        self._check(size or 0, allowed, name)
        target, done = self.folder / path, 0
        with on_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        with file:
            while chunk := content.read(CHUNK):
                done += len(chunk)
                self._check(done, allowed, name)
                with on_disk(target):
                    file.write(chunk)
        if size is not None and done != size:
            raise FormatError(f"{self.archive} is damaged: {name!r} has {done} bytes, its header says {size}")
        self._n_bytes += done
        self.files.append(path)

    def refuse(self, name: str, what: str) -> FormatError:
        """Return the error for a member that may not be."""
        return FormatError(f"{self.archive} holds {what}, {name[:200]!r}; nothing is written")

    def check_stream(self, n_bytes: int) -> None:
        """Refuse a stream that is longer than all that may be unpacked, with room for the headers."""
        self._check(n_bytes, 2 * self._allowed, "its headers")

    def _check(self, n_bytes: int, allowed: int, name: str) -> None:
        if n_bytes > allowed:
            raise FormatError(
                f"{self.archive} unpacks to more than {self.limits.ratio:g} times its size or "
                f"{self.limits.n_bytes} bytes, at {name[:200]!r}; nothing is written"
            )

    def _claim(self, name: str, kind: str) -> PurePosixPath:
        """Return the path of a new member: each file once, and no two names that some file system takes for one."""
        path = check_relative(name, str(self.archive))
        for parent in path.parents[:-1]:
            if self._taken.setdefault(same_name(parent), ("folder", parent)) != ("folder", parent):
                raise self.refuse(name, "a folder whose name is taken")
        known = self._taken.setdefault(same_name(path), (kind, path))
        if known != (kind, path) or (kind == "file" and self._is_there(path)):
            raise self.refuse(name, "a name twice, or two that differ in case alone")
        if len(self._taken) > self.limits.n_members:
            raise FormatError(f"{self.archive} holds over {self.limits.n_members} members; nothing is written")
        return path

    def _is_there(self, path: PurePosixPath) -> bool:
        return (self.folder / path).exists()


def _read_zip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as file:
        for info in track(file.infolist(), f"unpacking {archive.name}"):
            name = info.orig_filename  # filename is cut at a null byte
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                raise writer.refuse(name, "an encrypted file")
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise writer.refuse(name, "a link or device")
            if name.endswith("/"):
                writer.add_folder(name)
                continue
            with file.open(info) as content:
                writer.add_file(name, content, size=info.file_size, packed=info.compress_size)


def _read_tar(archive: Path, writer: _Writer) -> None:
    suffix = next(s for s in sorted(TARS, key=len, reverse=True) if archive.name.lower().endswith(s))
    opener: Callable[..., IO[bytes]] = TARS[suffix]  # type: ignore[assignment]
    with opener(archive, "rb") as stream:
        metered = _Metered(stream, writer)
        with tarfile.open(fileobj=metered, mode="r|", errorlevel=2) as file:
            for member in track(file, f"unpacking {archive.name}"):
                if member.isdir():
                    if member.name not in {".", ""}:
                        writer.add_folder(member.name.removeprefix("./"))
                    continue
                content = None if member.issparse() or not member.isreg() else file.extractfile(member)
                if content is None:
                    raise writer.refuse(member.name, "a link, a device or a sparse file")
                writer.add_file(member.name.removeprefix("./"), content, size=member.size)
        metered.finish()


def _read_gz(archive: Path, writer: _Writer) -> None:
    with gzip.open(archive, "rb") as content:
        writer.add_file(archive.name[: -len(".gz")], content)


class _Metered(io.RawIOBase):
    """A stream that stops at the limit: a header of a tar may be a bomb too, and is read as a whole."""

    def __init__(self, stream: IO[bytes], writer: _Writer) -> None:
        self._stream, self._writer, self._done, self._last = stream, writer, 0, b""

    def read(self, size: int = -1) -> bytes:
        """Read on, and refuse what passes the limit."""
        chunk = self._stream.read(size)
        self._done += len(chunk)
        self._writer.check_stream(self._done)
        self._last = (self._last + chunk[-tarfile.BLOCKSIZE :])[-tarfile.BLOCKSIZE :]
        return chunk

    def finish(self) -> None:
        """Read what tarfile leaves: the checksum of the compressed stream is behind it, and the mark of the end."""
        while self.read(CHUNK):
            pass
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it ends before its end mark")
