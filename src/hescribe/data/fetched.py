"""What a folder of fetched files holds: a record beside them, so that a later fetch can tell a change."""

import threading
from collections.abc import Callable
from pathlib import Path

from hescribe._support import write_whole
from hescribe.data.dataset_card import Sha256
from hescribe.data.download import RemoteFile, download, hash_whole
from hescribe.data.toml_file import Record, read_toml, to_toml
from hescribe.data.web import Patience
from hescribe.errors import FormatError, InputError

RECORD = "fetched.toml"


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
        expected = file.sha256 or file.md5 or (known.sha256 if known else None)
        fits = expected in {sha256, md5} if expected else file.size == size
        if not fits:
            raise FormatError(
                f"{target} is not what it should be: expected {expected or f'{file.size} bytes'}, "
                f"got {(md5 if file.md5 and not file.sha256 else sha256) if expected else f'{size} bytes'}; "
                "move it away and fetch again"
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
