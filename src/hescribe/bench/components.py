"""Make a component whose parameters hold other components, from the names a study or a model folder gives."""

from typing import Any, get_type_hints

from hescribe.align.base import Aligner, aligners
from hescribe.encode.gene.base import GeneEncoder, gene_encoders
from hescribe.errors import InputError
from hescribe.predict.base import Predictor, predictors
from hescribe.registry import Registry

# By the type of a field.
PARTS: dict[Any, Registry[Any]] = {Aligner: aligners, GeneEncoder: gene_encoders, Predictor: predictors}


def create_component(registry: Registry[Any], name: str, params: dict[str, Any]) -> Any:
    """Return a component of a registry, unfitted.

    Parameters
    ----------
    registry, name
        Where it is, and under which name.
    params
        Its parameters. One that holds a component is given as its name, or as ``get_params`` describes it; what it
        holds in turn by a dotted name: ``{"gene_encoder": "pca", "gene_encoder.n_dims": 4}``. A list becomes a tuple.

    Raises
    ------
    UnknownNameError
        If there is no component of a name.
    InputError
        If a parameter does not exist or is of another type.

    Examples
    --------
    >>> create_component(aligners, "infonce", {"gene_encoder": "pca", "gene_encoder.n_dims": 4}).gene_encoder.n_dims
    4
    """
    hints = get_type_hints(registry.get(name))
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for key, value in params.items():
        field, dot, rest = key.partition(".")
        if dot:
            inner.setdefault(field, {})[rest] = value
        else:
            own[key] = tuple(value) if isinstance(value, list) else value
    for field in [f for f in (*own, *inner) if hints.get(f) in PARTS]:
        given = own.get(field, getattr(registry.get(name)(), field).name)
        own[field] = _create_part(PARTS[hints[field]], given, inner.pop(field, {}))
    if inner:
        raise InputError(f"{name} has no parameter {min(inner)!r} that holds parameters of its own")
    return registry.create(name, **own)


def _create_part(registry: Registry[Any], given: Any, more: dict[str, Any]) -> Any:
    """Return the component that a parameter holds, from a name, a description or the component itself."""
    described = {"name": given} if isinstance(given, str) else given
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        if more:
            raise InputError(f"{registry.kind} {given!r} is no name; its parameters cannot be changed")
        return given
    params = {k: v for k, v in described.items() if k != "name"}
    return create_component(registry, described["name"], {**params, **more})
