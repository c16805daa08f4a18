"""A run: the cells of a task and the folder of their rows. Runs are worked off here, wherever their cells are run."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from hescribe import __version__, settings
from hescribe._support import remove_stale, write_whole
from hescribe.bench.ladder import is_control
from hescribe.bench.store import Ledger, Row, Store
from hescribe.bench.study import Study, write_study
from hescribe.cards import TaskCard
from hescribe.progress import track

STUDY = "study.toml"  # in the folder of every run


class Task(Protocol):
    """What is scored; it knows nothing of models."""

    suite: ClassVar[str]

    @property
    def name(self) -> str:
        """Name in rows and reports."""
        ...

    @property
    def card(self) -> TaskCard:
        """What a reader of the scores must know."""
        ...

    @property
    def rules(self) -> dict[str, Any]:
        """The protocol, field by field."""
        ...

    @property
    def data_hash(self) -> str:
        """Hash of everything the scores depend on in the data."""
        ...


@dataclass(frozen=True)
class Cell:
    """One model on one fold with one seed: the unit of work and of caching."""

    key: str
    fold: Any
    name: str
    model: Any
    seed: int


@dataclass(frozen=True)
class CellResult:
    """Rows of a cell, and by section id the predictions they were computed from, and how unlike training spots look."""

    rows: list[Row]
    predictions: dict[str, np.ndarray]
    ood: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Cells, and where their rows go.

    Parameters
    ----------
    task, cells
        What is scored, planned.
    work
        Gives the rows of a cell.
    out
        Folder of the store. ``run.json`` there says which cells belong to the run, so that a report never mixes in
        older ones.
    keeps_predictions
        Whether a cell, unless of a control, is finished only with its predictions.
    """

    task: Task
    cells: Sequence[Cell]
    work: Callable[[Cell], CellResult]
    out: Path
    keeps_predictions: bool = False

    def begin(self, study: Study | None) -> list["Unit"]:
        """Write what the run is, count its looks, and return what is missing of it."""
        store, ledger = Store(self.out), Ledger(self.out)
        if study is not None:
            write_study(study, self.out / STUDY)
        self._write_plan()
        for folder in ("cells", "predictions"):
            remove_stale(self.out / folder)
        done = store.finished()
        variants: dict[tuple[str, str], None] = {}
        for cell in self.cells:  # those that are finished too, in case a line of the ledger was lost
            if not is_control(cell.model):
                same = cell.model.with_params(**({"seed": 0} if has_seed(cell.model) else {}))  # a seed is no variant
                variants[cell.model.name, json.dumps(same.get_params())] = None
        for model, params in variants:
            ledger.add(self.task.name, self.task.card.protocol, model, params)
        return [Unit(self, cell) for cell in self.cells if cell.key not in done or self.lacks_predictions(cell)]

    def lacks_predictions(self, cell: Cell) -> bool:
        """Return whether a cell should have predictions, and they are gone or cut off."""
        return self.keeps_predictions and not is_control(cell.model) and not Store(self.out).has_predictions(cell.key)

    def _write_plan(self) -> None:
        plan = {
            "suite": self.task.suite, "task": asdict(self.task.card), "protocol": self.task.rules,
            "data_hash": self.task.data_hash, "version": __version__,
            "cells": [
                {"key": c.key, "fold": c.fold.name, "model": c.name, "method": c.model.name, "seed": c.seed}
                for c in self.cells
            ],
        }  # fmt: skip
        with write_whole(self.out / "run.json") as tmp:
            tmp.write_text(json.dumps(plan, indent=1))


@dataclass(frozen=True)
class Unit:
    """A cell of a run: what is lost when a worker is lost."""

    run: Run
    cell: Cell

    @property
    def is_finished(self) -> bool:
        """Whether its rows are there, and its predictions if it keeps any, whoever wrote them."""
        return Store(self.run.out).has(self.cell.key) and not self.run.lacks_predictions(self.cell)

    def finish(self) -> None:
        """Run the cell and write its rows."""
        result = self.run.work(self.cell)
        Store(self.run.out).write(self.cell.key, result.rows, result.predictions)

    def name_in(self, out: Path) -> str:
        """Return what tells it from all others of a study, on any machine that plans the study of folder ``out``."""
        return f"{self.run.out.relative_to(out).as_posix()}/{self.cell.key}"

    def __str__(self) -> str:
        return f"{self.cell.name} on {self.cell.fold.name}, seed {self.cell.seed}"


class Launcher(Protocol):
    """Whoever works off the units of a study, here or elsewhere; rows and files are the same."""

    def finish(self, units: Sequence[Unit], out: Path) -> Iterator[None]:
        """Finish every unit, and yield as they end. ``out`` holds the study."""
        ...


class Threads:
    """Works on one cell per core of this process, linear algebra on one core each.

    Matrices here are too small to share: on two busy cores a shared eigendecomposition was seen
    to take ten times as long.
    """

    def finish(self, units: Sequence[Unit], out: Path) -> Iterator[None]:  # noqa: ARG002 - what is needed is at hand
        """Finish every unit. If one fails, those not begun are dropped and its error is raised."""
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(settings.n_workers()) as pool:
            running = [pool.submit(copy_context().run, unit.finish) for unit in units]
            try:
                for done in as_completed(running):
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    keys: list[str]
    n_cells: int
    n_cached: int


def finish_runs(
    runs: Sequence[Run], out: Path, *, study: Study | None = None, launcher: Launcher | None = None
) -> RunSummary:
    """Run every cell that is missing.

    Parameters
    ----------
    runs
        Planned, all of them, before a cell is run.
    out
        Folder of the study; those of the runs are it, or in it. A run that was killed goes on where it stopped.
    study
        Written beside the rows.
    launcher
        By default the threads of this process.
    """
    if study is not None:
        write_study(study, out / STUDY)
    missing = [unit for run in runs for unit in run.begin(study)]
    for _ in track((launcher or Threads()).finish(missing, out), "scoring models", len(missing)):
        pass
    for run in runs:
        Store(run.out).join()
    keys = [cell.key for run in runs for cell in run.cells]
    return RunSummary(keys, len(keys), len(keys) - len(missing))


def has_seed(model: Any) -> bool:
    """Return whether a model draws random numbers."""
    return any(f.name == "seed" for f in fields(model))
