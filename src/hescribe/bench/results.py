"""What a finished (or killed) run left behind, for reports."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from hescribe.bench.protocols import Protocol
from hescribe.bench.scores import Score, score_table
from hescribe.bench.store import Ledger, Store
from hescribe.bench.study import Study, read_study
from hescribe.cards import TaskCard
from hescribe.errors import DataAccessError, FormatError


def suite_of(path: Path) -> str:
    """Return the suite of the study in a folder, empty if it holds none of its own."""
    if (path / "run.json").exists() or not (path / "study.toml").exists():
        return ""
    return read_study(path / "study.toml").suite


class PlannedCell(BaseModel):
    """A cell in ``run.json``."""

    key: str
    fold: str
    model: str
    method: str
    seed: int


class Plan(BaseModel):
    """What ``run.json`` holds."""

    suite: str
    task: TaskCard
    protocol: dict[str, Any]
    data_hash: str
    version: str
    cells: list[PlannedCell]


@dataclass(frozen=True)
class Results:
    """The latest run in a folder.

    Parameters
    ----------
    path
        Folder given to ``bench run --out``.
    """

    path: Path

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Task card, protocol and cells of the run.

        Raises
        ------
        DataAccessError
            If the folder holds no run, or it cannot be read.
        FormatError
            If ``run.json`` is damaged, or lacks what a report needs.
        """
        try:
            return Plan.model_validate_json(self._file.read_bytes()).model_dump()
        except FileNotFoundError as error:
            raise DataAccessError(f"{self.path} holds no benchmark run; make one with hescribe bench run") from error
        except OSError as error:
            raise DataAccessError(f"{self._file} cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            raise self._damage from error

    def check_finished(self) -> None:
        """Raise ``DataAccessError`` if no cell is finished yet."""
        if self.rows.empty:
            raise DataAccessError(f"{self.path} holds no finished cell yet; run the same hescribe bench run again")

    @property
    def suite(self) -> str:
        """What was scored: ``"prediction"`` or ``"completion"``."""
        return self.plan["suite"]

    @property
    def protocol(self) -> Protocol:
        """Protocol of a run of predictors."""
        fields = self.plan["protocol"]
        try:
            return Protocol(**{**fields, "metrics": tuple(fields["metrics"])})
        except (KeyError, TypeError) as error:
            raise self._damage from error

    @cached_property
    def study(self) -> Study:
        """The resolved study."""
        return read_study(self.path / "study.toml")

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Rows of the finished cells."""
        return Store(self.path).read(c["key"] for c in self.finished)

    @property
    def n_missing(self) -> int:
        """Cells of the plan that are not finished."""
        return len(self.plan["cells"]) - len(self.finished)

    @property
    def finished(self) -> list[dict[str, Any]]:
        """Cells of the plan that are finished."""
        done = Store(self.path).finished()
        return [c for c in self.plan["cells"] if c["key"] in done]

    @cached_property
    def scores(self) -> list[Score]:
        """The table."""
        return score_table(self.rows, average=self.plan["protocol"].get("average", "donor"))

    @property
    def looks(self) -> int:
        """Method variants scored on this task's test folds, ever, in this folder."""
        return Ledger(self.path).looks(self.plan["task"]["name"], self.plan["protocol"]["name"])

    def predictions(self, model: str) -> dict[str, np.ndarray]:
        """Return predicted expression by section id for one model (its first seed)."""
        store = Store(self.path)
        out: dict[str, np.ndarray] = {}
        for cell in reversed(self.plan["cells"]):
            if cell["model"] == model:
                out |= store.read_predictions(cell["key"])
        return out

    @property
    def _file(self) -> Path:
        return self.path / "run.json"

    @property
    def _damage(self) -> FormatError:
        return FormatError(f"{self._file} is damaged or of another version; run the same hescribe bench run again")
