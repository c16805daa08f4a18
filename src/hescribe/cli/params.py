"""``--set``: the parameters of a component, as words of the command line."""

from typing import Annotated

import typer

from hescribe.errors import InputError

SetOption = Annotated[list[str] | None, typer.Option("--set", help="Parameter as name=value; may be repeated.")]


def parse_params(pairs: list[str] | None) -> dict[str, object]:
    """Return ``--set`` pairs as parameters, each value as ``parse_value`` reads it.

    Raises
    ------
    InputError
        If a pair has no equals sign.

    Examples
    --------
    >>> parse_params(["alpha=0.5", "encoder=color"])
    {'alpha': 0.5, 'encoder': 'color'}
    """
    from hescribe.params import parse_value  # noqa: PLC0415 - the command line starts fast

    out: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair!r} is not name=value")
        out[name.strip()] = parse_value(text)
    return out
