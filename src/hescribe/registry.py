"""One registry class for every kind of component.

A component is found by the name of the file that holds it: adding a file is the whole
registration, and listing names imports nothing. Third parties register through entry points
of a group named like the package, for example ``hescribe.predict``.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from hescribe.errors import HescribeError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of component, resolved on demand.

    Parameters
    ----------
    kind
        Word for messages, for example ``"predictor"``.
    package
        Package whose modules are the components. Modules named ``base`` or with a leading
        underscore are not, and neither are sub-packages.
    besides
        Modules of that package that serve the components and are none themselves.
    """

    def __init__(self, kind: str, package: str, *, besides: tuple[str, ...] = ()) -> None:
        self.kind, self.package, self._no_components = kind, package, {"base", *besides}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._targets))

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def get(self, name: str) -> type[T]:
        """Return the class registered under ``name``.

        Raises
        ------
        UnknownNameError
            If there is none; the message offers the closest names.
        """
        targets = self._targets
        if name not in targets:
            near = difflib.get_close_matches(name, targets, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(self)}"
            raise UnknownNameError(f"there is no {self.kind} {name!r}; {hint}")
        module = importlib.import_module(targets[name].partition(":")[0])
        found = [v for v in vars(module).values() if isinstance(v, type) and getattr(v, "name", None) == name]
        if len(found) != 1:
            raise HescribeError(f"{targets[name]} must define exactly one class with name = {name!r}")
        return found[0]

    def create(self, name: str, /, **params: object) -> T:
        """Return a new component; unknown parameters are refused with a suggestion."""
        return self.get(name)().with_params(**params)  # type: ignore[attr-defined]

    @cached_property
    def _targets(self) -> dict[str, str]:
        """Module of each name, looked up once: asking every installed package takes 20 ms."""
        root = importlib.import_module(self.package)
        own = {
            m.name: f"{self.package}.{m.name}"
            for m in pkgutil.iter_modules(root.__path__)
            if not (m.name.startswith("_") or m.name in self._no_components or m.ispkg)
        }
        third = {e.name: e.value for e in entry_points(group=self.package)}
        if clash := own.keys() & third.keys():
            raise HescribeError(f"{self.kind} names given twice: {', '.join(sorted(clash))}")
        return own | third
