"""What a run of slide-level tasks left behind: scores with intervals over donors, and what a model adds to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hescribe.bench.results import Results
from hescribe.bench.scores import Score
from hescribe.bench.slides.cards import METRICS
from hescribe.bench.slides.cells import SLIDES, TOLD, join_told, read_slide_tasks, scored, task_at
from hescribe.bench.slides.task import SlideTask
from hescribe.bench.store import Store
from hescribe.bench.study import Study, read_study
from hescribe.errors import DataAccessError
from hescribe.metrics.stats import MIN_DONORS
from hescribe.slide.labels import doubt_events, event_is_one
from hescribe.slide.targets import Classes

N_RESAMPLES = 1000


@dataclass(frozen=True)
class TaskScores:
    """The cells of one task.

    Parameters
    ----------
    task
        With labels and bags as they are now.
    path
        Its folder.
    """

    task: SlideTask
    path: Path

    @cached_property
    def results(self) -> Results:
        """Plan and rows."""
        return Results(self.path)

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the study."""
        return list(dict.fromkeys(c["model"] for c in self.results.plan["cells"]))

    @property
    def folds(self) -> list[str]:
        """Numbers of shots, or the one name under which all folds are scored."""
        return list(dict.fromkeys(task_at(self.task.name, c["fold"]) for c in self.results.plan["cells"]))

    def draws(self, model: str, at: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a model's score, each donor once, in each cell, and under resamples of the donors.

        Parameters
        ----------
        model
            Name as in the study.
        at
            One of ``folds``.
        metric
            Of the task.

        Returns
        -------
        Shapes ``(n_cells,)`` and ``(n_resamples,)``, the second averaged over cells. The resamples are the same for
        every model, so that two can be compared draw by draw.
        """
        rows = {s: i for i, s in enumerate(self.task.table.slides)}
        values, drawn = [], []
        for cell in self.results.finished:
            if cell["model"] != model or task_at(self.task.name, cell["fold"]) != at:
                continue
            told = self._told(cell["key"])
            test = np.array([rows[s] for s in told[SLIDES]])
            known, said, donors = join_told(
                self.task, self.task.target.take(test), told[TOLD], self.task.table.donors[test]
            )
            values.append(scored(metric, known, said)[0])
            drawn.append(scored(metric, known, said, self._weights[:, np.searchsorted(self._donors, donors)]))
        if not values:
            return np.zeros(0), np.zeros(0)
        resampled = np.stack(drawn)
        defined = np.isfinite(resampled)
        mean = np.where(defined, resampled, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
        return np.array(values), mean[defined.any(axis=0)]

    def score(self, model: str, at: str, metric: str) -> Score:
        """Return the mean over cells, with the 95 % interval of a bootstrap over donors; none with fewer than five."""
        values, drawn = self.draws(model, at, metric)
        defined = values[np.isfinite(values)]
        n_donors = len(self._donors)
        low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) and n_donors >= MIN_DONORS else (None, None)
        chance = METRICS[self.task.facts.kind][metric]
        own = self.results.rows
        own = own[(own["model"] == model) & (own["task"] == at) & (own["metric"] == metric)]
        return Score(
            task=at, protocol=self.task.protocol.name, model=model, metric=metric,
            value=float(defined.mean()) if len(defined) else None, low=None if low is None else float(low),
            high=None if high is None else float(high), n_donors=n_donors, n_defined=len(defined),
            n_undefined=len(values) - len(defined),
            chance=float(own["chance"].iloc[0]) if chance is None and len(own) else chance,
            chance_sd=None, ceiling=None, by_donor={}, control="", seconds=float(own["seconds"].sum()),
        )  # fmt: skip

    def gain(
        self, model: str, other: str, at: str, metric: str, *, of: "TaskScores | None" = None
    ) -> tuple[float, float, float] | None:
        """Return what a model scores above another, with the 95 % interval over donors.

        None where the run is not finished, nothing can be compared, or there are fewer than five donors.

        Parameters
        ----------
        model, other, at, metric
            As of ``draws``.
        of
            Run of the other: the same slides in the same folds. This one by default.
        """
        if self.results.n_missing or len(self._donors) < MIN_DONORS:
            return None
        (one, ours), (two, theirs) = self.draws(model, at, metric), (of or self).draws(other, at, metric)
        if not len(ours) or not np.isfinite(one - two).any():
            return None
        low, high = np.percentile(ours - theirs, [2.5, 97.5])
        return float(np.nanmean(one - two)), float(low), float(high)

    def _told(self, key: str) -> dict[str, np.ndarray]:
        """Return what a cell told of its slides; raise ``DataAccessError`` if somebody deleted it."""
        if not (found := Store(self.path).read_predictions(key)):
            raise DataAccessError(f"{self.path} lacks predictions of cell {key}; run the same hescribe bench run again")
        return found

    @cached_property
    def _donors(self) -> np.ndarray:
        """Donors that are told of in any cell, shape ``(n_donors,)``: with few shots not those that are drawn from."""
        slides = [self._told(c["key"])[SLIDES] for c in self.results.finished]
        told = np.isin(self.task.table.slides, np.unique(np.concatenate(slides)) if slides else [])
        return np.unique(self.task.table.donors[told])

    @cached_property
    def _weights(self) -> np.ndarray:
        """How often each donor is drawn, shape ``(n_resamples, n_donors)``."""
        n = len(self._donors)
        drawn = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
        return np.stack([np.bincount(d, minlength=n) for d in drawn])


def describe(task: SlideTask) -> str:
    """Return what a task rests on, in a sentence or two: slides, donors, classes or events and their convention."""
    n_donors, target = len(np.unique(task.table.donors)), task.target
    if isinstance(target, Classes):
        counts = np.bincount(target.codes, minlength=len(target.names))
        what = ", ".join(f"{n} {name}" for name, n in zip(target.names, counts, strict=True))
    else:
        column = task.facts.columns(task.table)[1]
        one = "1 is an event" if event_is_one(column) else "1 is censored"
        what = f"{int(target.event.sum())} events (column {column}: {one})"
    notes = [f"{task.name}: {len(task.bags)} bags of {n_donors} donors, {what}"]
    if task.n_unknown:
        notes.append(f"{task.n_unknown} slides without this label are left out")
    if not task.table.has_donors:
        notes.append(
            f"{task.table.source} names no donors: each slide is taken for one, which flatters if some share theirs"
        )
    if not isinstance(target, Classes) and (doubt := doubt_events(target)):
        notes.append(doubt)
    return "; ".join(notes)


@dataclass(frozen=True)
class SlideResults:
    """A run of the suite.

    Parameters
    ----------
    path
        Folder given to ``bench run --out``.
    """

    path: Path

    @cached_property
    def study(self) -> Study:
        """The resolved study."""
        return read_study(self.path / "study.toml")

    @cached_property
    def tasks(self) -> Mapping[str, TaskScores]:
        """The tasks by name; labels and features are read again.

        Raises
        ------
        DataAccessError
            If a task has no finished cell, or its labels or features are not those that were run.
        """
        found = {t.name: TaskScores(t, self.path / t.name) for t in read_slide_tasks(self.study)}
        for name, task in found.items():
            task.results.check_finished()
            if task.task.data_hash != task.results.plan["data_hash"]:
                raise DataAccessError(
                    f"labels or features of {name} have changed since the run in {self.path}; run them again"
                )
        return found

    @cached_property
    def scores(self) -> list[Score]:
        """Every score of every task."""
        return [
            t.score(model, at, metric)
            for t in self.tasks.values()
            for at in t.folds
            for model in t.models
            for metric in METRICS[t.task.facts.kind]
        ]
