"""The catalogue: facts about known datasets, one TOML each, with the manifest their import needs."""

import difflib
import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

from hescribe.data.dataset_card import Caution, Corpora, Corpus, Entry
from hescribe.data.toml_file import check_record
from hescribe.errors import UnknownNameError

__all__ = ["Entry", "find_corpus", "find_entry", "find_same_tissue", "load_catalogue", "load_corpora", "recognise"]


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
        near = difflib.get_close_matches(dataset_id, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see hescribe list datasets"
        raise UnknownNameError(f"the catalogue has no dataset {dataset_id!r}; {hint}")
    return known[dataset_id]


@cache
def load_corpora() -> dict[str, Corpus]:
    """Return the image collections without expression that encoders were trained on, by id."""
    text = (files("hescribe.data") / "corpora.toml").read_text(encoding="utf-8")
    return {corpus.id: corpus for corpus in check_record(tomllib.loads(text), Corpora, "corpora.toml").corpus}


def find_corpus(name: str) -> Entry | Corpus:
    """Return what an id in a model's ``trained_on`` stands for: a dataset of the catalogue or an image corpus.

    Raises
    ------
    UnknownNameError
        If it is neither, so that nobody could tell whether the model has seen a donor.

    Examples
    --------
    >>> find_corpus("imagenet-1k").kind
    'photographs'
    >>> find_corpus("her2st").organ
    'breast'
    """
    return load_corpora().get(name) or find_entry(name)


def find_same_tissue() -> tuple[frozenset[str], ...]:
    """Return what the cards know to be the same data or the same tissue, as groups of ``dataset/section``.

    A pair that follows from two others is in their group. Donors are not in it: see ``Entry.section``.

    Examples
    --------
    >>> group = next(g for g in find_same_tissue() if "hest_1k/TENX128" in g)
    >>> "hescape_human_colon_panel/TENX148" in group  # the Xenium section of the tumour of TENX155
    True
    """
    groups: list[set[str]] = []
    for entry in load_catalogue().values():
        for warning in entry.warning:
            if warning.code in {"duplicate_of", "same_tissue"}:
                for new in _groups_of(entry, warning):
                    touching = [g for g in groups if g & new]
                    groups = [g for g in groups if not g & new] + [new.union(*touching)]
    return tuple(sorted(map(frozenset, groups), key=min))


def _groups_of(entry: Entry, warning: Caution) -> list[set[str]]:
    own = {f"{entry.id}/{s}" for s in entry.concerned(warning)}
    if not warning.of:
        return [own]
    one_to_one = [d for d in warning.of if "/" not in d]
    pairs = [{f"{entry.id}/{s}", f"{d}/{s}"} for d in one_to_one for s in entry.concerned(warning)]
    named = {x for x in warning.of if "/" in x and not x.endswith("/*")}
    return [*pairs, own | named] if named else pairs


def recognise(source: Path) -> Entry | None:
    """Return the entry whose landmark file lies in ``source``, None if it is no known dataset."""
    for entry in load_catalogue().values():
        mark = entry.landmark
        file = source / mark.path if mark else source
        if mark and file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == mark.sha256:
            return entry
    return None
