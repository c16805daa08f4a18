"""Hyper-parameters are the fields of the component itself: there is no config class beside it.

A component is a ``@dataclass(kw_only=True)`` that mixes in ``Params``. What it learns goes into
attributes that end with an underscore, so that any fitted component can be saved and loaded
without code of its own.
"""

import difflib
import json
from dataclasses import fields, replace
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_origin, get_type_hints

import numpy as np

from hescribe.errors import InputError, NotFittedError

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
_PYTHON = {"True": True, "False": False, "None": None}


def parse_value(text: str) -> Any:
    """Return the value of a parameter as it is typed: JSON where it parses, ``True`` as Python has it, else text.

    A list becomes a tuple.

    Examples
    --------
    >>> [parse_value(text) for text in ("0.5", "true", "False", "[1, 2]", "pca")]
    [0.5, True, False, (1, 2), 'pca']
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = _PYTHON.get(text, text)
    return tuple(value) if isinstance(value, list) else value


class Params:
    """Parameters in, parameters out, and the state a fit leaves behind."""

    def get_params(self) -> dict[str, Any]:
        """Return the hyper-parameters, nested components included, ready for JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.init}  # type: ignore[arg-type]

    def with_params(self, **changes: object) -> Self:
        """Return an unfitted copy with some hyper-parameters changed.

        Raises
        ------
        InputError
            If a parameter does not exist; the message offers the closest. If a value is not of the
            parameter's type, or not finite.
        """
        known = [f.name for f in fields(self) if f.init]  # type: ignore[arg-type]
        for key in changes:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
                raise InputError(f"{type(self).__name__} has no parameter {key!r}; {hint}")
        if changes:
            self._check_types(changes)
        return replace(self, **changes)  # type: ignore[type-var]

    def check_between(self, name: str, low: float, high: float = float("inf")) -> None:
        """Raise ``InputError`` if a parameter is set and not between two limits, both included."""
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            limits = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise InputError(f"{name} of {type(self).__name__} must be {limits}, got {value!r}")

    def check_unchanged(self, names: tuple[str, ...], *, given: str) -> None:
        """Raise ``InputError`` if a parameter that the chosen way does not read was changed."""
        for field in fields(self):  # type: ignore[arg-type]
            if field.name in names and getattr(self, field.name) != field.default:
                raise InputError(
                    f"{field.name} of {type(self).__name__} has no effect with {given}; "
                    f"leave it at its default, {field.default!r}"
                )

    def _check_types(self, values: dict[str, object]) -> None:
        from pydantic import ConfigDict, TypeAdapter, ValidationError  # noqa: PLC0415 - 0.1 s

        wanted = get_type_hints(type(self))
        for name, value in values.items():
            kind = wanted[name]
            if isinstance(value, Params) or getattr(kind, "_is_protocol", False):  # a component, or what must be one
                fits = not isinstance(kind, type) or isinstance(value, kind)
            else:
                try:
                    TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
                    fits = True
                except ValidationError:
                    fits = False
            if not fits:
                raise InputError(f"{name} of {type(self).__name__} must be {_in_words(kind)}, got {value!r}")

    def check_fitted(self) -> None:
        """Raise ``NotFittedError`` unless ``fit`` has left something behind."""
        if not self.get_fitted():
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit(cohort) first")

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Say of what ``fit`` leaves behind that it is not there."""
            if name.endswith("_") and not name.startswith("_"):
                raise NotFittedError(
                    f"this {type(self).__name__} has no {name}: it is not fitted, or was read from a damaged folder"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_fitted(self) -> dict[str, Any]:
        """Return what ``fit`` learned, by attribute name."""
        return {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}

    def set_fitted(self, state: dict[str, Any]) -> Self:
        """Put back what ``get_fitted`` returned, and return the component."""
        for key, value in state.items():
            setattr(self, key, value)
        return self


def _in_words(kind: Any) -> str:  # a type hint has no narrower type
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) is UnionType:
        return " or ".join(map(_in_words, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a list in brackets, each item {_in_words(get_args(kind)[0])}"
    return _WORDS.get(kind, kind.__name__ if isinstance(kind, type) else str(kind))


def _plain(value: object) -> Any:
    if isinstance(value, Params):
        return {"name": getattr(value, "name", type(value).__name__), **value.get_params()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
