"""Read TOML against a strict model, and write it: the two directions of every file of facts."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from hescribe.cards import TECHNOLOGIES
from hescribe.errors import DataAccessError, FormatError, SchemaError

M = TypeVar("M", bound="Record")


class Record(BaseModel):
    """A table of facts: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _is_technology(name: str) -> str:
    if name not in TECHNOLOGIES:
        raise ValueError(f"is not one of {', '.join(TECHNOLOGIES)}")
    return name


TechnologyName = Annotated[str, AfterValidator(_is_technology)]


def read_toml(path: Path, model: type[M]) -> M:
    """Read a TOML file and check it.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is not TOML.
    SchemaError
        If a key is unknown or missing or a value is wrong: all problems, each with its place.
    """
    return check_record(load_toml(path), model, str(path))


def load_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds, unchecked.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # of no TOML, no text, a number without end, a list too deep
        raise FormatError(f"{path} is not TOML: {error}") from error


def check_record(content: dict[str, Any], model: type[M], where: str) -> M:
    """Return the checked record of a parsed TOML table; raise ``SchemaError`` with every problem."""
    try:
        return model.model_validate_json(json.dumps(content, default=str))  # JSON mode: lists become tuples
    except ValidationError as error:
        problems = [f"{_place(e['loc'])}: {_what(e)}" for e in error.errors(include_url=False)]
        raise SchemaError(where, problems) from error


def to_toml(content: dict[str, Any]) -> str:
    """Return a dict as TOML: scalars and lists first, then tables, then lists of tables.

    Keys that are None are left out, since TOML has no null.

    Examples
    --------
    >>> print(to_toml({"id": "a", "section": [{"id": "s1", "image": {"path": "x.png"}}]}), end="")
    id = "a"
    <BLANKLINE>
    [[section]]
    id = "s1"
    <BLANKLINE>
    [section.image]
    path = "x.png"
    """
    return "".join(_lines(content, ""))


def _lines(content: dict[str, Any], prefix: str) -> list[str]:
    flat, tables, lists = [], [], []
    for key, value in content.items():
        full = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict):
            tables += [f"\n[{full}]\n", *_lines(value, full)]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for item in value:
                lists += [f"\n[[{full}]]\n", *_lines(item, full)]
        elif value is not None:
            flat.append(f"{key} = {_value(value)}\n")
    return flat + tables + lists


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def _place(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".") or "file"


def _what(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "is no key of this file"
    if error["type"] == "missing":
        return "is missing"
    return f"{error['msg'].removeprefix('Value error, ')} (got {error['input']!r})"
