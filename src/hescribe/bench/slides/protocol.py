"""A protocol of slide-level tasks is data: who is held out, from how many is learned, how slides are joined."""

from typing import Literal

from hescribe.bench.protocols import JOIN
from hescribe.bench.shipped import list_shipped, read_shipped
from hescribe.data.toml_file import Record, check_record
from hescribe.errors import InputError, UnknownNameError

FUSIONS = ("early", "late")


class SlideProtocol(Record):
    """How slide models are judged.

    Parameters
    ----------
    name, revision, summary
        As of ``bench.protocols.Protocol``.
    keep
        What is never on both sides: a donor, or a site with all of its donors.
    n_folds
        Parts that donors (or sites) are dealt to, balanced by class; anew for each seed.
    shots
        Train donors of each class; empty: all. With shots the first part is the test set, the same for all seeds, and
        each seed draws its train donors from the others.
    fusion
        ``"early"``: the slides of a donor are one bag; ``"late"``: what is told of them is averaged.
    """

    name: str
    revision: str
    summary: str
    keep: Literal["donor", "site"] = "donor"
    n_folds: int = 5
    shots: tuple[int, ...] = ()
    fusion: Literal["none", "early", "late"] = "none"


def list_slide_protocols() -> list[str]:
    """Return the names of the protocols of slide-level tasks that ship with the package."""
    return list_shipped(__package__)


def read_slide_protocol(name: str) -> SlideProtocol:
    """Return a protocol by name, with a fusion switched on: ``"slides-v1"``, ``"slides-v1+late"``.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    InputError
        If two fusions are asked for.

    Examples
    --------
    >>> read_slide_protocol("few-shot-v1").shots
    (1, 2, 4, 8, 16)
    """
    base, *fusions = name.split(JOIN)
    content = read_shipped(__package__, base, "protocol of slides")
    if odd := [f for f in fusions if f not in FUSIONS]:
        raise UnknownNameError(f"there is no fusion {odd[0]!r}; known: {', '.join(FUSIONS)}")
    if len(fusions) > 1:
        raise InputError(f"protocol {name} asks for two fusions; take one")
    change = {"fusion": fusions[0], "name": name} if fusions else {}
    return check_record(content | change, SlideProtocol, f"{base}.toml")
