"""``--set``: the parameters of a component, as words of the command line."""

import json
from typing import Annotated

import typer

from hescribe.errors import InputError

SetOption = Annotated[list[str] | None, typer.Option("--set", help="Parameter as name=value; may be repeated.")]


def parse_params(pairs: list[str] | None) -> dict[str, object]:
    """Return ``--set`` pairs as parameters: JSON where it parses, text where it does not.

    Raises
    ------
    InputError
        If a pair has no equals sign.

    Examples
    --------
    >>> parse_params(["alpha=0.5", "encoder=color"])
    {'alpha': 0.5, 'encoder': 'color'}
    """
    out: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair!r} is not name=value")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        out[name.strip()] = tuple(value) if isinstance(value, list) else value
    return out
