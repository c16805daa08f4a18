"""Fetch a dataset of the catalogue: terms first, then files, several at once, each whole and remembered."""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from hescribe import settings
from hescribe.data.archive import TARS, extract
from hescribe.data.catalogue import find_entry
from hescribe.data.dataset_card import Entry
from hescribe.data.download import RemoteFile
from hescribe.data.fetched import RECORD, FetchReport, fetch_files, find_fetched
from hescribe.data.safe_path import check_relative, same_name
from hescribe.data.sources import HOSTS, Hosts, list_files
from hescribe.data.web import PATIENT, Patience
from hescribe.errors import DataAccessError, FormatError, InputError

RESERVED = (RECORD, ".part", ".part.toml", ".changed")  # ends of names that are ours


def describe_terms(entry: Entry) -> list[str]:
    """Return what a user must know before the first byte: licence, gate and citation.

    Examples
    --------
    >>> from hescribe.data.catalogue import find_entry
    >>> print(describe_terms(find_entry("stutility_mob"))[0])
    stutility_mob: licence MIT (open)
    """
    said = {
        "open": f"licence {entry.licence} (open)",
        "restricted": f"licence {entry.licence} (restricted: read it before use)",
        "unknown": "the licence is not known: read the page of each source before use",
    }
    lines = [f"{entry.id}: {said[entry.terms]}"]
    lines += [
        f"{s.page}{' (gated: accept its terms there, and send a token)' if s.gated else ''}" for s in entry.source
    ]
    return [*lines, f"cite: {entry.citation}{entry.doi and f', doi:{entry.doi}'}"]


def check_terms(entry: Entry, *, accept_licence: bool, token: str | None) -> None:
    """Refuse a fetch that the user has not agreed to.

    Raises
    ------
    InputError
        If the dataset has no source.
    DataAccessError
        If its licence is not open and was not accepted, or it is gated and there is no token.
    """
    if not entry.source:
        raise InputError(f"{entry.id} is not published for download; hescribe data show {entry.id} says what is known")
    if entry.terms != "open" and not accept_licence:
        pages = " and ".join(dict.fromkeys(s.page for s in entry.source))
        what = "has no known licence" if entry.terms == "unknown" else f"is under {entry.licence}"
        raise DataAccessError(f"{entry.id} {what}: read {pages}, then give --accept-licence (accept_licence=True)")
    gate = next((s.page for s in entry.source if s.gated), None)
    if gate and not token:
        raise DataAccessError(
            f"{entry.id} is gated: accept its terms at {gate}, then run `hf auth login` or set HF_TOKEN"
        )


def find_token() -> str | None:
    """Return the user's Hugging Face token, from ``HF_TOKEN`` or where its own program keeps it."""
    from huggingface_hub import get_token  # noqa: PLC0415 - heavy

    return get_token()


def plan_fetch(
    entry: Entry,
    *,
    only: str = "*",
    token: str | None = None,
    hosts: Hosts = HOSTS,
    patience: Patience = PATIENT,
) -> tuple[RemoteFile, ...]:
    """Ask the hosts for a dataset's files and return those wanted, each with a path that is safe.

    The files of a dataset with several sources lie in a folder for each.

    Parameters
    ----------
    entry
        Card of the dataset.
    only
        Pattern of the paths wanted.
    token, hosts, patience
        As in ``list_files``.

    Raises
    ------
    FormatError
        If a wanted path leaves the folder, or two are one.
    InputError
        If no path fits the pattern.
    """
    found: list[RemoteFile] = []
    for source in entry.source:
        files = list_files(source, token=token, hosts=hosts, patience=patience)
        folder = f"{source.record.replace('/', '_')}/" if len(entry.source) > 1 else ""
        found += [replace(f, path=f"{folder}{f.path}") for f in files]
    wanted = tuple(f for f in found if fnmatchcase(f.path, only))
    taken: set[str] = set()
    for file in wanted:
        name = same_name(check_relative(file.path, f"the list of files of {entry.id}"))
        if name in taken or name.endswith(RESERVED):
            raise FormatError(f"the list of files of {entry.id} holds {file.path!r}, whose name is taken")
        taken.add(name)
    if not wanted:
        some = ", ".join(f.path for f in found[:3])
        raise InputError(f"{entry.id} has {len(found)} files, none of which fits {only!r}; the first are {some}")
    return wanted


def fetch_dataset(
    dataset_id: str,
    out: Path,
    *,
    only: str = "*",
    accept_licence: bool = False,
    offline: bool = False,
    jobs: int = 4,
    hosts: Hosts = HOSTS,
    patience: Patience = PATIENT,
    tell: Callable[[str], None] = lambda _: None,
) -> FetchReport:
    """Tell the terms, then fetch a dataset of the catalogue; offline, return what is there.

    Parameters
    ----------
    dataset_id
        Id in the catalogue.
    out
        Folder; one that was begun is continued.
    only
        Pattern of the paths wanted, ``*`` matching ``/`` too.
    accept_licence
        Whether the terms were read, where the licence is not open.
    offline
        Use what is there; so do ``HESCRIBE_OFFLINE`` and ``HF_HUB_OFFLINE``.
    jobs
        Files at once.
    hosts, patience
        Where to ask, and how long to try.
    tell
        Called with each sentence for the user, before the first byte.

    Raises
    ------
    UnknownNameError
        If the catalogue has no such dataset.
    DataAccessError
        If terms are not accepted, a host refuses or keeps failing, or the disk is too small.
    FormatError
        If a file is not what its source publishes, or has changed since it was fetched.
    """
    entry = find_entry(dataset_id)
    for line in describe_terms(entry):
        tell(line)
    if offline or settings.is_offline():
        return find_fetched(entry, out, only=only)
    token = find_token() if any(s.kind == "huggingface" for s in entry.source) else None
    check_terms(entry, accept_licence=accept_licence, token=token)
    files = plan_fetch(entry, only=only, token=token, hosts=hosts, patience=patience)
    known = [f.size for f in files if f.size is not None]
    unknown = (
        f", and {len(files) - len(known)} files whose size the host does not state" if len(known) < len(files) else ""
    )
    tell(f"{len(files)} files: {sum(known) / 1e6:.1f} MB{unknown}")
    return fetch_files(entry, files, out, token=token, jobs=jobs, patience=patience)


def extract_fetched(report: FetchReport) -> tuple[Path, ...]:
    """Unpack each fetched zip and tar into a folder beside it, unless that is there; return the new folders.

    A single compressed file (``.tsv.gz``) stays: readers take it as it is.

    Raises
    ------
    FormatError
        If an archive is damaged or holds what may not be unpacked.
    """
    made = []
    for path in (report.out / p for p in (*report.kept, *report.new)):
        suffix = next((s for s in (".zip", *TARS) if path.name.lower().endswith(s)), None)
        folder = path.with_name(path.name[: -len(suffix)]) if suffix else path
        if not folder.exists():
            extract(path, folder)
            made.append(folder)
    return tuple(made)
