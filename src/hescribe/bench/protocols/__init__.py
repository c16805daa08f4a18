"""A protocol is data: a versioned TOML that fixes every choice a score depends on."""

import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from hescribe.bench.shipped import list_shipped, read_shipped
from hescribe.complete.base import completers
from hescribe.data.toml_file import Record, check_record
from hescribe.errors import InputError, SchemaError, UnknownNameError
from hescribe.prep.targets import Unit

JOIN = "+"  # between a protocol and the shortcuts that are switched on
MEASURED = "measured"  # train labels as they are
HONEST = {
    "split": "donor", "genes_from": "train", "target": "lognorm", "smooth_target": False, "batch_correction": "none",
    "pool": "section", "choose_on": "inner",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a task is split, prepared and scored.

    Parameters
    ----------
    name, revision
        Identify it; the revision changes whenever another field does.
    summary
        For people.
    split
        What is held out in turn; ``"published"``: the test sections of the dataset's card, once (its validation
        sections where it names no test), and donors in turn where the card names no split.
    min_counts
        Spots with fewer counts are no targets; their image still serves as context.
    min_spots
        Sections with fewer such spots are left out.
    n_genes, gene_rule
        Panel of a fold and how it is chosen: ``"variance"`` or ``"moran"``, see ``prep.genes``, or
        ``"dispersion"``, see ``prep.dispersion``.
    metrics
        Names of the metrics, the main one first.
    optimistic
        Why its scores are too good; empty if they are not.
    genes_from
        Donors that the panel is chosen on.
    target, smooth_target
        What is predicted: see ``prep.targets``.
    batch_correction
        ``"combat_on_all"`` removes each donor's own mean and spread, the test donor's too.
    pool
        Whether each test section is scored apart, or all of a fold as one.
    choose_on
        Where penalty, neighbours or epochs are chosen: the inner rule, or the test donor.
    score_on
        Counts of the test sections that the target is made of: ``"all"``, or ``"half"``, each kept by a fair coin.
    average
        Whether the mean of a model is over donors, or over sections, as if each were a donor.
    preparation
        Recipe of ``hescribe data prepare`` that spots, genes, target and batch correction come from, in place of
        the fields above; empty: none.
    labels
        What the train sections' missing values are: ``"measured"`` leaves them, else the completer, fitted on the
        train sections, that fills them. Nothing that is scored is ever filled.

    Raises
    ------
    SchemaError
        If it takes a shortcut and ``optimistic`` does not say so.
    """

    name: str
    revision: str
    summary: str
    split: Literal["donor", "section", "published"]
    min_counts: int
    min_spots: int
    n_genes: int
    gene_rule: Literal["variance", "moran", "dispersion"]
    metrics: tuple[str, ...]
    optimistic: str = ""
    genes_from: Literal["train", "all"] = "train"
    target: Unit = "lognorm"
    smooth_target: bool = False
    batch_correction: Literal["none", "combat_on_all"] = "none"
    pool: Literal["section", "fold"] = "section"
    choose_on: Literal["inner", "test"] = "inner"
    score_on: Literal["all", "half"] = "all"
    average: Literal["donor", "section"] = "donor"
    preparation: str = ""
    labels: str = MEASURED

    def __post_init__(self) -> None:
        if self.takes_shortcut and not self.optimistic:
            raise SchemaError(f"protocol {self.name}", ["optimistic: must say why its scores are too good"])

    @property
    def takes_shortcut(self) -> bool:
        """Whether anything is seen or scored that an honest protocol does not."""
        return any(getattr(self, name) != honest for name, honest in HONEST.items())

    @property
    def changes_target(self) -> bool:
        """Whether something else than the lognorm values is predicted."""
        return (self.target, self.smooth_target, self.batch_correction) != ("lognorm", False, "none")


class Shortcut(Record):
    """One shortcut of published evaluations.

    Parameters
    ----------
    title, seen_in
        For people: what is done, and by whom.
    optimistic
        Why scores are too good under it.
    change
        Fields of a protocol, and what they become.
    """

    title: str
    optimistic: str
    seen_in: str
    change: dict[str, str | bool]


@cache
def read_shortcuts() -> dict[str, Shortcut]:
    """Return every shortcut by name, in the order of the file."""
    content = tomllib.loads((files("hescribe.bench") / "shortcuts.toml").read_text(encoding="utf-8"))
    return {name: check_record(table, Shortcut, f"shortcuts.toml, {name}") for name, table in content.items()}


def list_protocols() -> list[str]:
    """Return the names of the protocols that ship with the package."""
    return list_shipped(__package__)


def read_protocol(name: str) -> Protocol:
    """Return a protocol by name, with shortcuts or a completer of train labels switched on.

    ``"donor-v1"``, ``"donor-v1+gene_axis"``, ``"donor-v1+spackle"``.

    Raises
    ------
    UnknownNameError
        If there is no protocol or no shortcut of that name.
    InputError
        If two shortcuts change the same choice.

    Examples
    --------
    >>> read_protocol("donor-v1+section_split").split
    'section'
    """
    base, *wanted = name.split(JOIN)
    data = read_shipped(__package__, base, "protocol")
    known = {f.name for f in fields(Protocol)}
    if unknown := sorted(set(data) - known):
        raise SchemaError(f"{base}.toml", [f"unknown key {k!r}" for k in unknown])
    protocol = Protocol(**{**data, "metrics": tuple(data["metrics"])})
    for change in wanted:
        protocol = with_labels(protocol, change) if change in completers else take_shortcut(protocol, change)
    return protocol


def with_labels(protocol: Protocol, completer: str) -> Protocol:
    """Return the protocol with the train sections' missing values filled by a completer, named after both.

    Raises
    ------
    UnknownNameError
        If there is no such completer.
    InputError
        If the protocol fills them already.

    Examples
    --------
    >>> with_labels(read_protocol("donor-v1"), "knn").name
    'donor-v1+knn'
    """
    completers.get(completer)
    if protocol.labels != MEASURED:
        raise InputError(f"protocol {protocol.name} fills the train labels by {protocol.labels} already")
    return replace(protocol, name=f"{protocol.name}{JOIN}{completer}", labels=completer)


def take_shortcut(protocol: Protocol, name: str) -> Protocol:
    """Return the protocol with a shortcut switched on, named after both.

    Raises
    ------
    UnknownNameError
        If there is no such shortcut.
    InputError
        If the protocol has given up the same choice already: the name would say more than is done.
    """
    shortcuts = read_shortcuts()
    if name not in shortcuts:
        raise UnknownNameError(f"there is no shortcut {name!r}; known: {', '.join(shortcuts)}")
    shortcut = shortcuts[name]
    if taken := [f"{f} = {getattr(protocol, f)!r}" for f in shortcut.change if getattr(protocol, f) != HONEST[f]]:
        raise InputError(
            f"shortcut {name!r} cannot be added to protocol {protocol.name}, which has {taken[0]} already; "
            "start from donor-v1, or leave one of the two out"
        )
    change: dict[str, Any] = {
        **shortcut.change,
        "name": f"{protocol.name}{JOIN}{name}",
        "optimistic": "; ".join(filter(None, (protocol.optimistic, shortcut.optimistic))),
    }
    return replace(protocol, **change)
