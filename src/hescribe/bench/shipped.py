"""TOML files that ship with a package, by name: protocols of every suite."""

import tomllib
from importlib.resources import files
from typing import Any

from hescribe.errors import UnknownNameError


def list_shipped(package: str) -> list[str]:
    """Return the names of the TOML files of a package."""
    return sorted(f.name.removesuffix(".toml") for f in files(package).iterdir() if f.name.endswith(".toml"))


def read_shipped(package: str, name: str, kind: str) -> dict[str, Any]:
    """Return what one of them holds.

    Parameters
    ----------
    package
        Dotted name.
    name
        Of the file, without its ending.
    kind
        What it is, for the message.

    Raises
    ------
    UnknownNameError
        If there is none of that name: those there are.
    """
    if name not in (known := list_shipped(package)):
        raise UnknownNameError(f"there is no {kind} {name!r}; known: {', '.join(known)}")
    return tomllib.loads((files(package) / f"{name}.toml").read_text(encoding="utf-8"))
