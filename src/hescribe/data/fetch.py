"""Fetch a dataset of the catalogue: terms first, then files, several at once, each whole and remembered."""

import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from hescribe import settings
from hescribe.data.archive import TARS, extract
from hescribe.data.catalogue import find_entry
from hescribe.data.dataset_card import Entry
from hescribe.data.download import RemoteFile
from hescribe.data.fetched import RECORD, Ledger
from hescribe.data.safe_path import check_relative, same_name
from hescribe.data.sources import HOSTS, Hosts, list_files
from hescribe.data.web import PATIENT, Patience
from hescribe.errors import DataAccessError, FormatError, HescribeError, InputError
from hescribe.progress import track

RESERVED = (RECORD, ".part", ".part.toml", ".changed")  # ends of names that are ours
MIB = 1 << 20
MAX_FAILURES = 3  # files that may fail before the rest is not begun


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
        If a host names a path that leaves the folder, or two that are one.
    InputError
        If no path fits the pattern.
    """
    found: list[RemoteFile] = []
    for source in entry.source:
        files = list_files(source, token=token, hosts=hosts, patience=patience)
        folder = f"{source.record.replace('/', '_')}/" if len(entry.source) > 1 else ""
        found += [replace(f, path=f"{folder}{f.path}") for f in files]
    taken: set[str] = set()
    for file in found:
        name = same_name(check_relative(file.path, f"the list of files of {entry.id}"))
        if name in taken or name.endswith(RESERVED):
            raise FormatError(f"the list of files of {entry.id} holds {file.path!r}, whose name is taken")
        taken.add(name)
    wanted = tuple(f for f in found if fnmatchcase(f.path, only))
    if not wanted:
        some = ", ".join(f.path for f in found[:3])
        raise InputError(f"{entry.id} has {len(found)} files, none of which fits {only!r}; the first are {some}")
    return wanted


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
    out.mkdir(parents=True, exist_ok=True)
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
