"""What is installed because of this package, and under which licences: read from the packages' own metadata."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

ROOT = "hescribe"
UNKNOWN = "unknown"
LONGEST = 60  # letters of a licence's name; beyond it, the field holds its text
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CLASSIFIER = "License :: "


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """One installed package.

    Parameters
    ----------
    name, version
        As installed.
    licence
        As the package itself states it: an SPDX expression, a classifier or a short text; ``"unknown"`` if none.
    needed_by
            The first package that asks for it.
    """

    name: str
    version: str
    licence: str
    needed_by: str


def find_dependencies() -> tuple[Dependency, ...]:
    """Return every installed package that this one needs, directly or not, extras included, by name.

    Examples
    --------
    >>> [d.licence for d in find_dependencies() if d.name == "numpy"] != []
    True
    """
    found: dict[str, Dependency] = {}
    todo = [(ROOT, need) for need in _needs(ROOT, with_extras=True)]
    while todo:
        by, name = todo.pop(0)
        package = _find(name)
        if package is None or _key(name) in found or _key(name) == ROOT:
            continue
        own = package.metadata["Name"]
        found[_key(name)] = Dependency(name=own, version=package.version, licence=licence_of(package), needed_by=by)
        todo += [(own, need) for need in _needs(name, with_extras=False)]
    return tuple(sorted(found.values(), key=lambda d: d.name.lower()))


def licence_of(package: Distribution) -> str:
    """Return the licence that a package states of itself, ``"unknown"`` where it states none."""
    facts = package.metadata
    if expression := facts.get_all("License-Expression"):
        return str(expression[0])
    classified = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or () if c.startswith(CLASSIFIER)]
    if named := [c for c in classified if c != "OSI Approved"]:
        return ", ".join(named)
    said = "".join(facts.get_all("License") or ()).strip().splitlines()
    is_name = len(said) == 1 and 0 < len(said[0]) <= LONGEST and said[0].upper() != UNKNOWN.upper()
    return said[0] if is_name else UNKNOWN


def _needs(name: str, *, with_extras: bool) -> Iterator[str]:
    """Yield the names of what a package asks for; what its marker leaves out is not installed, and so not found."""
    package = _find(name)
    for line in (package.requires if package else None) or ():
        named = NAME.match(line)
        if named and (with_extras or "extra ==" not in line):
            yield named[0]


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
