"""What ``hescribe doctor`` says of licences: of the packages that are installed, and of the weights of encoders."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hescribe.dependencies import UNKNOWN, find_dependencies

Rows = list[dict[str, Any]]


def list_packages() -> Rows:
    """Return name, version, licence and what asks for it of every package."""
    return [{k.replace("_", " "): v for k, v in asdict(d).items()} for d in find_dependencies()]


def list_encoders() -> Rows:
    """Return the licence of the weights of each encoder, of images and of expression, and whether they are gated.

    A generic encoder is listed with each model that it has a card for.
    """
    from hescribe.encode.base import encoders  # noqa: PLC0415 - the command line starts fast
    from hescribe.encode.gene.base import gene_encoders  # noqa: PLC0415

    rows = [_to_row("expression", name, gene_encoders.create(name)) for name in gene_encoders]
    for name in encoders:
        encoder: Any = encoders.create(name)
        for variant in encoder.variants() if hasattr(encoder, "variants") else [encoder]:
            model = getattr(variant, "model", "")
            rows.append(_to_row("images", f"{name}({model})" if model else name, variant))
    return sorted(rows, key=lambda row: (row["of"], row["encoder"]))


def _to_row(of: str, name: str, encoder: Any) -> dict[str, Any]:
    card = encoder.card
    return {"of": of, "encoder": name, "licence": card.licence or UNKNOWN, "gated": bool(getattr(card, "gated", False))}


def count(rows: Iterable[dict[str, Any]]) -> Rows:
    """Return how many packages are under each licence, the most common first; names of all that state none.

    Examples
    --------
    >>> count([{"name": "a", "licence": "unknown"}, {"name": "b", "licence": "MIT"}])[0]
    {'licence': 'MIT', 'packages': 1, 'such as': 'b'}
    """
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row["licence"], []).append(row["name"])
    order = sorted(names.items(), key=lambda item: (item[0] == UNKNOWN, -len(item[1]), item[0]))
    return [{"licence": k, "packages": len(v), "such as": ", ".join(v if k == UNKNOWN else v[:3])} for k, v in order]
