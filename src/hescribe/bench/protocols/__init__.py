"""A protocol is data: a versioned TOML that fixes every choice a score depends on."""

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files

from hescribe.errors import SchemaError, UnknownNameError


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
        What is held out in turn: ``"donor"`` or ``"section"``.
    min_counts
        Spots with fewer counts are no targets; their image still serves as context.
    min_spots
        Sections with fewer such spots are left out.
    n_genes, gene_rule
        Panel of a fold, chosen on its train donors: ``"variance"`` or ``"moran"``.
    metrics
        Names of the metrics, the main one first.
    optimistic
        Why its scores are too good; empty if they are not.
    """

    name: str
    revision: str
    summary: str
    split: str
    min_counts: int
    min_spots: int
    n_genes: int
    gene_rule: str
    metrics: tuple[str, ...]
    optimistic: str = ""


def list_protocols() -> list[str]:
    """Return the names of the protocols that ship with the package."""
    return sorted(f.name.removesuffix(".toml") for f in files(__package__).iterdir() if f.name.endswith(".toml"))


def read_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name not in list_protocols():
        raise UnknownNameError(f"there is no protocol {name!r}; known: {', '.join(list_protocols())}")
    data = tomllib.loads((files(__package__) / f"{name}.toml").read_text())
    known = {f.name for f in fields(Protocol)}
    if unknown := sorted(set(data) - known):
        raise SchemaError(f"{name}.toml", [f"unknown key {k!r}" for k in unknown])
    return Protocol(**{**data, "metrics": tuple(data["metrics"])})
