"""A protocol of retrieval is data: who is held out, which genes and spots, which pools are asked."""

import tomllib
from importlib.resources import files
from typing import Literal

from hescribe.data.toml_file import Record, check_record
from hescribe.errors import UnknownNameError
from hescribe.metrics.pools import PoolKind


class RetrievalProtocol(Record):
    """How aligners are judged.

    Parameters
    ----------
    name, revision, summary, optimistic
        As of ``bench.protocols.Protocol``.
    split
        ``"donor"``: each donor is held out in turn. ``"published"``: the test sections of the dataset's card, once,
        epochs chosen on its validation sections; donors in turn where the card names no split.
    n_genes
        Genes of highest variance on the train donors; 0: the whole panel.
    min_counts
        Spots with fewer counts are left out.
    pools, sizes
        See ``metrics.retrieval``; a size of 0: all candidates there are.
    n_devices
        Recall is taken within mini-batches of 64 spots, dealt to so many devices; 0: it is not.
    """

    name: str
    revision: str
    summary: str
    optimistic: str = ""
    split: Literal["donor", "published"]
    n_genes: int
    min_counts: int = 100
    pools: tuple[PoolKind, ...] = ()
    sizes: tuple[int, ...] = ()
    n_devices: int = 0


def list_retrieval_protocols() -> list[str]:
    """Return the names of the protocols of retrieval that ship with the package."""
    return sorted(f.name.removesuffix(".toml") for f in files(__package__).iterdir() if f.name.endswith(".toml"))


def read_retrieval_protocol(name: str) -> RetrievalProtocol:
    """Return a protocol of retrieval by name.

    Raises
    ------
    UnknownNameError
        If there is none of that name.

    Examples
    --------
    >>> read_retrieval_protocol("hescape-2025").n_devices
    4
    """
    if name not in list_retrieval_protocols():
        known = ", ".join(list_retrieval_protocols())
        raise UnknownNameError(f"there is no protocol of retrieval {name!r}; known: {known}")
    content = tomllib.loads((files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))
    return check_record(content, RetrievalProtocol, f"{name}.toml")
