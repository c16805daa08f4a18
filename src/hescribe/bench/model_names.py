"""How a model is named on the command line and in a study, and which encoder it reads."""

import json
from dataclasses import asdict
from typing import Any

from hescribe.encode.base import create_encoder
from hescribe.errors import InputError
from hescribe.params import parse_value


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
            what = f"gives {key!r} twice" if equals else f"holds {pair!r}, which is no name=value"
            raise InputError(f"{name!r} {what}; parameters stand behind colons, as in knn:k=36:metric=l2")
        else:
            given[key], last = text, key
    return method, {k: parse_value(v) for k, v in given.items()}


def encoder_name(model: Any) -> str | None:
    """Return the encoder that a model reads: its parameter, or what it says itself; None if it reads no image."""
    name = model.encoder_name() if hasattr(model, "encoder_name") else getattr(model, "encoder", None)
    return name if isinstance(name, str) else None


def encoder_card(model: Any) -> dict[str, object] | None:
    """Return the card of the encoder a model reads, as JSON gives it back; None if it reads no image."""
    name = encoder_name(model)
    return None if name is None else json.loads(json.dumps(asdict(create_encoder(name).card)))
