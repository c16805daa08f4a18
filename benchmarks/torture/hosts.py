"""A host on this machine to fetch from: one that answers, and one that is too busy for a while."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fetch.conftest import Host, Reply

from hescribe.data.dataset_card import Entry, Source, SourceFile
from hescribe.data.fetch import fetch_files, plan_fetch
from hescribe.data.sources import Hosts
from hescribe.data.web import Patience

FILES = {f"counts/{name}.tsv": name.encode() * 400_000 for name in ("A1", "B1", "C1")}


def entry() -> Entry:
    """Return the card of a dataset of three files whose checksums are known."""
    stated = tuple(SourceFile(path=p, size=len(c), sha256=hashlib.sha256(c).hexdigest()) for p, c in FILES.items())
    source = Source(kind="github", record="o/r", version="v", page="https://page.example", file=stated)
    return Entry(
        id="ours", title="t", organism="Homo sapiens", organ="skin", technology="visium", licence="CC0-1.0",
        terms="open", citation="Somebody", donors_known=True, source=(source,),
    )  # fmt: skip


def serve(host: Host, faults: tuple[Reply, ...] = ()) -> None:
    """Let a host answer, after faults that it uses up."""
    for path, content in FILES.items():
        host.serve(f"/o/r/v/{path}", content, faults=list(faults))


def fetch(host: Host, out: Path, patience: Patience | None = None) -> None:
    """Fetch the dataset from a host."""
    own, patience = entry(), patience or Patience(attempts=3, first_s=0.01, longest_s=0.1, timeout_s=5.0)
    files = plan_fetch(own, hosts=Hosts(github=host.url), patience=patience)
    fetch_files(own, files, out, patience=patience)


@contextlib.contextmanager
def fetch_from(folder: Path) -> Iterator[Callable[[Path], Callable[[], None]]]:
    """Yield the job that fetches from a host which is up as long as the block."""
    del folder
    host = Host()
    serve(host)
    try:
        yield lambda out: lambda: fetch(host, out)
    finally:
        host.close()
