"""A protocol of retrieval is data: who is held out, which genes and spots, which pools are asked."""

from typing import Literal

from hescribe.bench.shipped import list_shipped, read_shipped
from hescribe.data.batch_shift import Kind
from hescribe.data.toml_file import Record, check_record
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
    strengths, shifts
        Test donors are scored within their sections once more as another batch would show them, at each strength above
        0 and with all of these shifts: see ``data.batch_shift``. Empty: they are not.
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
    strengths: tuple[float, ...] = ()
    shifts: tuple[Kind, ...] = ()


def list_retrieval_protocols() -> list[str]:
    """Return the names of the protocols of retrieval that ship with the package."""
    return list_shipped(__package__)


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
    return check_record(read_shipped(__package__, name, "protocol of retrieval"), RetrievalProtocol, f"{name}.toml")
