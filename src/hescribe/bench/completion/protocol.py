"""A protocol of completion is data: what is hidden, who is held out, which genes, which depth is shown."""

from typing import Literal

from hescribe.bench.shipped import list_shipped, read_shipped
from hescribe.complete.hiding import DepthSeen, Missing
from hescribe.data.toml_file import Record, check_record


class CompletionProtocol(Record):
    """How completers are judged.

    Parameters
    ----------
    name, revision, summary, optimistic
        As of ``bench.protocols.Protocol``.
    held_out
        ``"donor"``: a completer is fitted on other donors. ``"none"``: on the visible counts of the section
        that it completes.
    n_folds
        Donors are dealt to this many folds in the order of their names; 0: each is a fold.
    n_genes
        Genes of highest Moran's I, at most, chosen as SpaRED does.
    genes_from
        Donors that genes are chosen on.
    missing, shares
        What is hidden: see ``complete.hiding.draw_lesson``.
    rule
        ``"uniform"``, or SpaRED's ``"per_gene"``: so much that the share is hidden of all entries of each gene.
    depth_seen
        Whether the depth shown counts what is hidden.
    mask_seed
        With the section's place in the order of names it seeds what is hidden.
    """

    name: str
    revision: str
    summary: str
    optimistic: str = ""
    held_out: Literal["donor", "none"] = "donor"
    n_folds: int = 0
    n_genes: int = 128
    genes_from: Literal["train", "all"] = "train"
    missing: Missing = "measured"
    shares: tuple[float, ...]
    rule: Literal["uniform", "per_gene"] = "uniform"
    depth_seen: DepthSeen = "visible"
    mask_seed: int = 2024


def list_completion_protocols() -> list[str]:
    """Return the names of the protocols of completion that ship with the package."""
    return list_shipped(__package__)


def read_completion_protocol(name: str) -> CompletionProtocol:
    """Return a protocol of completion by name.

    Raises
    ------
    UnknownNameError
        If there is none of that name.

    Examples
    --------
    >>> read_completion_protocol("complete-v1").depth_seen
    'visible'
    """
    return check_record(read_shipped(__package__, name, "protocol of completion"), CompletionProtocol, f"{name}.toml")
