"""The catalogue: facts about known datasets, one TOML each, with the manifest their import needs."""

import difflib
import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

from hescribe.cards import DatasetCard
from hescribe.data.manifest import Manifest
from hescribe.data.toml_file import Record, check_record
from hescribe.errors import UnknownNameError


class Landmark(Record):
    """A file that only this dataset has: path in its folder, and sha256."""

    path: str
    sha256: str


class Entry(Record):
    """One dataset: its card, what its folder is recognised by, its manifest.

    ``title`` to ``warnings`` are those of ``DatasetCard``; ``note`` is said after each import.
    """

    id: str
    title: str
    organism: str
    organ: str
    technology: str
    licence: str
    citation: str
    warnings: tuple[str, ...] = ()
    note: str = ""
    landmark: Landmark | None = None
    manifest: Manifest = Manifest()

    @property
    def card(self) -> DatasetCard:
        """The facts that travel with a cohort."""
        return DatasetCard(**{f: getattr(self, f) for f in DatasetCard.__dataclass_fields__ if f != "synthetic"})


@cache
def load_catalogue() -> dict[str, Entry]:
    """Return every entry by id, sorted."""
    folder = files("hescribe.data") / "catalogue"
    named = sorted((f.name, f.read_text(encoding="utf-8")) for f in folder.iterdir() if f.name.endswith(".toml"))
    entries = [check_record(tomllib.loads(text), Entry, f"catalogue/{name}") for name, text in named]
    return {entry.id: entry for entry in entries}


def find_entry(dataset_id: str) -> Entry:
    """Return the entry of a dataset.

    Raises
    ------
    UnknownNameError
        If the catalogue has none of that id.

    Examples
    --------
    >>> find_entry("her2st").organ
    'breast'
    """
    known = load_catalogue()
    if dataset_id not in known:
        near = difflib.get_close_matches(dataset_id, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UnknownNameError(f"the catalogue has no dataset {dataset_id!r}; {hint}")
    return known[dataset_id]


def recognise(source: Path) -> Entry | None:
    """Return the entry whose landmark file lies in ``source``, None if it is no known dataset."""
    for entry in load_catalogue().values():
        mark = entry.landmark
        file = source / mark.path if mark else source
        if mark and file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == mark.sha256:
            return entry
    return None
