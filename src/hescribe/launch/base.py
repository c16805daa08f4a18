"""What a launcher is, and where they are registered."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from hescribe.bench.model_names import split_params
from hescribe.errors import DataAccessError, HescribeError
from hescribe.registry import Registry


class Work(Protocol):
    """A unit of work: a cell of a study, or a slide. What is lost when a worker is lost."""

    @property
    def is_finished(self) -> bool:
        """Whether what it leaves is there, whoever wrote it."""
        ...

    def finish(self) -> None:
        """Do it, and write what it leaves, whole."""
        ...

    def name_in(self, out: Path) -> str:
        """Return what tells it from all others, on any machine that plans the work of folder ``out``."""
        ...


class Launcher(Protocol):
    """Works off units somewhere; its fields say where, and are never part of a result."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def finish(self, units: Sequence[Work], out: Path) -> Iterator[None]:
        """Finish every unit of the work planned in folder ``out``, and yield as they end.

        Raises
        ------
        HescribeError
            If a unit fails, or its worker was lost each time it was tried. What is finished stays.
        """
        ...


launchers: Registry[Launcher] = Registry(
    "launcher", "hescribe.launch", besides=("costs", "embedding", "plan", "worker")
)


def create_launcher(name: str) -> Launcher:
    """Return a launcher by name, with parameters behind colons: ``"local:n_workers=4"``.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    InputError
        If it has no such parameter.

    Examples
    --------
    >>> create_launcher("local:n_workers=4").n_workers
    4
    """
    method, params = split_params(name)
    return launchers.create(method, **params)


def check_written(unit: Work, out: Path) -> None:
    """Raise ``DataAccessError`` if a unit that a worker has finished is not to be seen from here."""
    if not unit.is_finished:
        raise DataAccessError(
            f"{unit} was finished by a worker that does not write to {out.resolve()} as seen from here; "
            "give --out on a disk that all machines share"
        )


def lost(unit: Work, n_tries: int, last: str) -> HescribeError:
    """Return the error of a unit whose worker was lost each time."""
    return HescribeError(
        f"the process of {unit} ended {n_tries} times without an answer ({last}); "
        "if memory ran out, use fewer workers or a larger machine. What is finished stays: run the same command again"
    )
