"""A predictor in a file of the user's own, named by its path: ``--models my_model.py``. Its code is run."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hescribe.errors import DataAccessError, InputError
from hescribe.params import Params
from hescribe.predict.base import Predictor, predictors

SUFFIX = ".py"


def load_predictor(path: Path) -> Predictor:
    """Return the one predictor that a file defines, with its default parameters.

    Raises
    ------
    DataAccessError
        If there is no such file.
    InputError
        If it cannot be run, or does not define exactly one predictor, or one under a name that is taken.
    """
    if not path.is_file():
        raise DataAccessError(f"{path} does not exist; a model that ends with {SUFFIX} is a file with one predictor")
    return _load_class(path.resolve(), path.stat().st_mtime_ns)()


@cache
def _load_class(path: Path, changed: int) -> type[Predictor]:
    module = _run(path, f"hescribe_own_{path.stem}_{changed}")
    found = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    own: list[Any] = [v for v in found if issubclass(v, Params) and hasattr(v, "fit") and hasattr(v, "predict")]
    if len(own) != 1:
        raise InputError(
            f"{path} defines {len(own)} predictors, expected one: a dataclass with Params, name, card, fit and predict"
        )
    missing = [n for n in ("name", "card") if not hasattr(own[0], n)]
    if missing:
        raise InputError(f"{own[0].__name__} in {path} has no {' and no '.join(missing)}")
    if own[0].name in predictors:
        raise InputError(f"{own[0].__name__} in {path} is called {own[0].name!r}, as a predictor of HEscribe is")
    predictor: type[Predictor] = own[0]
    return predictor


def _run(path: Path, name: str) -> ModuleType:
    """Return the file as a module, under a name by which its annotations are found."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever its author's code raises
        del sys.modules[name]
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module
