"""How a model is named on the command line and in a study: by its method, with parameters behind colons."""

import json
from typing import Any

from hescribe.errors import InputError


def split_params(name: str) -> tuple[str, dict[str, Any]]:
    """Return the method and the parameters of a name: ``"knn:k=36:spot_offset=true"``.

    A value is JSON where it parses, else text; a list becomes a tuple. What follows a colon and holds no equals sign
    belongs to the value before it: ``"spackle:encoder=hub_model:uni"``.

    Raises
    ------
    InputError
        If a parameter is no ``name=value``, or is given twice.

    Examples
    --------
    >>> split_params("sepal:size=small:epochs=5")
    ('sepal', {'size': 'small', 'epochs': 5})
    """
    method, *pairs = name.split(":")
    given: dict[str, str] = {}
    last = ""
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals and last:
            given[last] += f":{pair}"
        elif not equals or key in given:
            raise InputError(
                f"{name!r}: {pair!r} is no name=value, or is given twice; write a model with parameters as "
                "knn:k=36:metric=l2"
            )
        else:
            given[key], last = text, key
    return method, {k: _value(v) for k, v in given.items()}


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value
