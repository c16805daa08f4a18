"""The suite hescape: aligners on one cohort after the other, and what came out as one line a model."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from hescribe.bench.compare import try_compare
from hescribe.bench.hescape.cells import is_control, name_entrants, plan_retrieval, score_cell
from hescribe.bench.hescape.protocol import RetrievalProtocol, read_retrieval_protocol
from hescribe.bench.hescape.task import BATCHES, Question, RetrievalTask, questions, within_section
from hescribe.bench.results import Results
from hescribe.bench.runs import Run, RunSummary, finish_runs
from hescribe.bench.shifted import Curve
from hescribe.bench.study import Study
from hescribe.data.toml_file import check_record
from hescribe.errors import InputError
from hescribe.metrics.stats import DonorMean, donor_mean

RIVAL = "ridge_retriever"  # what every aligner must beat


def run_hescape(study: Study) -> RunSummary:
    """Run a study's aligners on every cohort: see ``plan_hescape``. A run that was killed goes on where it stopped."""
    return finish_runs(plan_hescape(study), Path(study.out), study=study)


def plan_hescape(study: Study) -> list[Run]:
    """Return a run for each cohort, in a folder of its own that bears the name of the cohort's folder.

    Raises
    ------
    UnknownNameError
        If there is no protocol, aligner or encoder of a name.
    InputError
        If two cohort folders have one name.
    """
    protocol, out = read_retrieval_protocol(study.protocol), Path(study.out)
    names = name_entrants(study.models, study.encoders, study.gene_encoders)
    tasks = {folder: RetrievalTask.read(path, protocol) for folder, path in split_cohorts(study.cohort).items()}
    return [
        Run(task, plan_retrieval(task, names, study.seeds), partial(score_cell, task), out / folder)
        for folder, task in tasks.items()
    ]


def split_cohorts(cohort: str) -> dict[str, Path]:
    """Return the cohort folders of a study, by the names of the folders of their runs.

    Raises
    ------
    InputError
        If none is named, or two have one name.

    Examples
    --------
    >>> list(split_cohorts("data/breast, data/lung"))
    ['breast', 'lung']
    """
    paths = [Path(part.strip()) for part in cohort.split(",") if part.strip()]
    names = [p.resolve().name for p in paths]
    if not paths or len(set(names)) < len(names):
        what = f"{names} are not all different" if paths else "none is named"
        raise InputError(f"the suite hescape needs cohort folders of different names, separated by commas: {what}")
    return dict(zip(names, paths, strict=True))


@dataclass(frozen=True, kw_only=True)
class AlignerLine:
    """One model on one cohort.

    Parameters
    ----------
    model, control
        Name of the cells, and whether it is one that aligners are judged by.
    main, without_depth
        Main score, both directions averaged, and the same without depth; None where it was not asked.
    ahead
        Main score less that of the best ridge retriever of the run; None for it, and where they share no section.
    n_done, n_planned
        Cells.
    """

    model: str
    control: bool
    main: DonorMean
    without_depth: DonorMean | None
    ahead: DonorMean | None
    n_done: int
    n_planned: int


@dataclass(frozen=True)
class CohortResults:
    """What a run of the suite found on one cohort.

    Parameters
    ----------
    results
        The run, like any other.
    """

    results: Results

    @cached_property
    def protocol(self) -> RetrievalProtocol:
        """The protocol of the run."""
        return check_record(self.results.plan["protocol"], RetrievalProtocol, str(self.results.path / "run.json"))

    def task_of(self, question: Question) -> str:
        """Return the task of a question in rows."""
        return f"{self.results.plan['task']['name']}, {question}"

    def score(self, model: str, metric: str, *asked: Question) -> tuple[DonorMean, float]:
        """Return the score of a model and its chance, averaged over questions and seeds, sections, then donors."""
        keys = [(self.task_of(q), metric, model) for q in asked]
        parts = [self._by_section[k] for k in keys if k in self._by_section]
        if not parts:
            return donor_mean([]), float("nan")
        own = pd.concat(parts).groupby(["donor", "section"])[["value", "chance"]].mean()
        value, chance = ([(str(d), v) for (d, _), v in own[c].items()] for c in ("value", "chance"))
        return donor_mean(value), donor_mean(chance, n_resamples=1).value

    @cached_property
    def _by_section(self) -> dict[tuple[str, str, str], pd.DataFrame]:
        return {tuple(k): rows for k, rows in self.results.rows.groupby(["task", "metric", "model"])}

    @cached_property
    def main(self) -> tuple[str, tuple[Question, ...], tuple[Question, ...]]:
        """Metric that models are ordered by, what is asked for it in both directions, and the same without depth."""
        if self.protocol.n_devices:
            return "recall_at_5", tuple(q for q in questions(self.protocol) if q.pool == BATCHES), ()
        every = [q for q in questions(self.protocol) if not q.shift]
        whole = [q for q in every if q.pool == "within_section" and q.size == 0]
        return "auc", tuple(q for q in whole if not q.without_depth), tuple(q for q in whole if q.without_depth)

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """AUC within sections by the strength of the batch shift, models in the order of ``lines``; empty without."""
        if not self.protocol.strengths:
            return {}
        asked = {s: within_section(s) for s in (0.0, *self.protocol.strengths)}
        return {x.model: {s: self.score(x.model, "auc", *q)[0] for s, q in asked.items()} for x in self.lines}

    @cached_property
    def lines(self) -> list[AlignerLine]:
        """Every model with a finished cell, best main score first."""
        metric, asked, bare = self.main
        rows, tasks = self.results.rows, [self.task_of(q) for q in asked]
        rows = rows[(rows["metric"] == metric) & rows["task"].isin(tasks)].assign(task="main")
        planned = pd.Series([c["model"] for c in self.results.plan["cells"]]).value_counts()
        done = self.results.rows.groupby("model")[["fold", "seed"]].apply(lambda g: len(g.drop_duplicates()))
        models = [m for m in planned.index if m in done.index]
        main = {m: self.score(m, metric, *asked)[0] for m in models}
        rivals = [m for m in models if m.partition(":")[0] == RIVAL]
        best = max(rivals, key=lambda m: np.nan_to_num(main[m].value), default=None)
        lines = [
            AlignerLine(
                model=m, control=is_control(m), main=main[m],
                without_depth=self.score(m, metric, *bare)[0] if bare else None,
                ahead=None if best is None or m == best else try_compare(rows, m, best, metric=metric),
                n_done=int(done[m]), n_planned=int(planned[m]),
            )
            for m in models
        ]  # fmt: skip
        return sorted(lines, key=lambda x: -np.nan_to_num(x.main.value))


@dataclass(frozen=True)
class HescapeResults:
    """What a run of the suite left in its folder.

    Parameters
    ----------
    path
        Folder given to ``bench run --out``.
    """

    path: Path

    @cached_property
    def study(self) -> Study:
        """The resolved study."""
        return Results(self.path).study

    @cached_property
    def cohorts(self) -> dict[str, CohortResults]:
        """The run on every cohort, by the name of its folder.

        Raises
        ------
        DataAccessError
            If one of them has no finished cell.
        """
        found = {name: CohortResults(Results(self.path / name)) for name in split_cohorts(self.study.cohort)}
        for of in found.values():
            of.results.check_finished()
        return found
