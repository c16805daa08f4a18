"""Bring files into a folder, several at once, with a record beside them, so that a later fetch can tell a change."""

import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from hescribe._support import write_whole
from hescribe.data.dataset_card import Entry, Sha256
from hescribe.data.download import RemoteFile, download, hash_whole
from hescribe.data.toml_file import Record, read_toml, to_toml
from hescribe.data.web import PATIENT, Patience
from hescribe.errors import DataAccessError, FormatError, HescribeError, InputError
from hescribe.progress import track

RECORD = "fetched.toml"
MIB = 1 << 20
MAX_FAILURES = 3  # files that may fail before the rest is not begun


class FetchedFile(Record):
    """One file that is there, whole: where it came from and what it was."""

    path: str
    url: str
    size: int
    sha256: Sha256


class Fetched(Record):
    """``fetched.toml``: what a folder of a dataset holds."""

    dataset: str
    file: tuple[FetchedFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FetchReport:
    """What a fetch brought.

    Parameters
    ----------
    out
        Folder.
    new, kept
        Paths below it that were fetched, and that were there already.
    n_bytes
        Size of both together.
    """

    out: Path
    new: tuple[str, ...]
    kept: tuple[str, ...]
    n_bytes: int


class Ledger:
    """The record of a folder, written whole after each file."""

    def __init__(self, dataset: str, out: Path) -> None:
        self.dataset, self.out = dataset, out
        self._lock = threading.Lock()
        self._files: dict[str, FetchedFile] = {}
        if (out / RECORD).exists():
            read = read_toml(out / RECORD, Fetched)
            if read.dataset != dataset:
                raise InputError(f"{out} holds {read.dataset}; give another folder for {dataset}")
            self._files = {f.path: f for f in read.file}

    @property
    def files(self) -> tuple[FetchedFile, ...]:
        """Files that were fetched, by path."""
        return tuple(self._files[path] for path in sorted(self._files))

    def holds(self, file: RemoteFile) -> bool:
        """Return whether a file is there and is what it should be; raise if it is another."""
        target, known = self.out / file.path, self._files.get(file.path)
        if not target.resolve().is_relative_to(self.out.resolve()):
            raise FormatError(f"{target} is a link out of {self.out}; nothing is written there")
        if not target.is_file():
            return False
        sha256, md5 = hash_whole(target)
        size = target.stat().st_size
        expected = file.sha256 or file.md5 or (known.sha256 if known else file.size)
        if expected is None:
            raise FormatError(f"{target} is there, and nothing says what it should be; move it away and fetch again")
        if expected not in {sha256, md5, size}:
            got = f"{size} bytes" if expected == file.size else f"sha256 {sha256}, md5 {md5}"
            raise FormatError(
                f"{target} is not what it should be: expected {expected}, got {got}; move it away and fetch again"
            )
        self.add(file, sha256, size)
        return True

    def add(self, file: RemoteFile, sha256: str, size: int) -> None:
        """Remember a file."""
        with self._lock:
            new = FetchedFile(path=file.path, url=file.url, size=size, sha256=sha256)
            if self._files.get(file.path) == new:
                return
            self._files[file.path] = new
            content = Fetched(dataset=self.dataset, file=self.files).model_dump(mode="json")
            with write_whole(self.out / RECORD) as tmp:
                tmp.write_text(to_toml(content), encoding="utf-8")

    def fetch(self, file: RemoteFile, token: str | None, patience: Patience, report: Callable[[int], None]) -> None:
        """Download a file and remember it; if it changed at its source since the last time, keep it aside."""
        target, known = self.out / file.path, self._files.get(file.path)
        sha256 = download(file, target, token=token, patience=patience, report=report)
        if known and known.url == file.url and known.sha256 != sha256 and not file.is_checked:
            aside = target.replace(target.with_name(f"{target.name}.changed"))
            raise FormatError(
                f"{file.path} has changed at {file.url} since it was fetched: expected sha256 {known.sha256}, got "
                f"{sha256}; the new one lies in {aside}. Take its entry out of {self.out / RECORD} to accept it"
            )
        self.add(file, sha256, target.stat().st_size)


def fetch_files(
    entry: Entry,
    files: tuple[RemoteFile, ...],
    out: Path,
    *,
    token: str | None = None,
    jobs: int = 4,
    patience: Patience = PATIENT,
) -> FetchReport:
    """Bring the planned files into a folder; those that are there and unchanged are kept.

    Parameters
    ----------
    entry
        Card of the dataset.
    files
        From ``plan_fetch``.
    out
        Folder; one that was begun is continued.
    token
        Sent to Hugging Face alone.
    jobs
        Files at once.
    patience
        How long to try each.

    Raises
    ------
    DataAccessError
        If a file cannot be fetched (the others are kept), or the disk is too small.
    FormatError
        If a file is not what its source publishes, or has changed since it was fetched.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    record = Ledger(entry.id, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataAccessError(f"{out} cannot be written: {error.strerror or error}; give another folder") from error
    todo: list[RemoteFile] = []
    kept: list[RemoteFile] = []
    for file in track(files, "checking files"):
        (kept if record.holds(file) else todo).append(file)
    need, free = sum(f.size or 0 for f in todo), shutil.disk_usage(out).free
    if need > free:
        raise DataAccessError(
            f"{entry.id} needs {need / 1e9:.1f} GB and the disk of {out} has {free / 1e9:.1f} GB left"
        )
    _fetch_all(todo, record, token, jobs, patience)
    n_bytes = sum((out / f.path).stat().st_size for f in files)
    return FetchReport(out=out, new=tuple(f.path for f in todo), kept=tuple(f.path for f in kept), n_bytes=n_bytes)


def find_fetched(entry: Entry, out: Path, *, only: str = "*") -> FetchReport:
    """Return what an earlier fetch brought, checked, without the network.

    Raises
    ------
    DataAccessError
        If nothing that fits is there, or a file is missing.
    FormatError
        If a file has changed.
    """
    record = Ledger(entry.id, out)
    files = [f for f in record.files if fnmatchcase(f.path, only)]
    if not files:
        raise DataAccessError(
            f"{out} holds no fetched file of {entry.id} and the network is switched off; fetch it on a machine that is "
            "online and copy the folder"
        )
    for file in track(files, "checking files"):
        if not record.holds(RemoteFile(url=file.url, path=file.path)):
            raise DataAccessError(f"{out / file.path} was fetched once and is gone; fetch it again online")
    return FetchReport(out=out, new=(), kept=tuple(f.path for f in files), n_bytes=sum(f.size for f in files))


def _fetch_all(files: list[RemoteFile], record: Ledger, token: str | None, jobs: int, patience: Patience) -> None:
    """Run the downloads in threads, their bytes reported from this one; raise their errors together."""
    done: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # bytes that came; None for a file that ended
    stop = threading.Event()
    failed: list[HescribeError] = []

    def report(n_bytes: int) -> None:
        if stop.is_set():
            raise CancelledError
        done.put(n_bytes)

    def work(file: RemoteFile) -> None:
        try:
            report(0)
            record.fetch(file, token, replace(patience, sleep=stop.wait) if patience is PATIENT else patience, report)
        except HescribeError as error:
            failed.append(error)
            if len(failed) >= MAX_FAILURES:
                stop.set()
        finally:
            done.put(None)

    total = sum(f.size or 0 for f in files) // MIB or None
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(work, f) for f in files]
        try:
            for _ in track(_count_mib(done, len(files)), "downloading (MiB)", total):
                pass
        finally:
            stop.set()
    if len(failed) > 1:
        raise type(failed[0])(f"{len(failed)} files failed, the others are kept; the first: {failed[0]}") from failed[0]
    if failed:
        raise failed[0]
    for future in running:
        future.result()  # a fault of ours


def _count_mib(done: "queue.SimpleQueue[int | None]", n_files: int) -> Iterator[None]:
    """Yield once for each MiB that came, until every file has ended."""
    n_bytes = 0
    while n_files:
        came = done.get()
        n_files -= came is None
        n_bytes += came or 0
        while n_bytes >= MIB:
            n_bytes -= MIB
            yield
