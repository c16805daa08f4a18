"""Score completers: one completer on one fold with one seed is a cell, at every share of hidden counts."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from hescribe import __version__
from hescribe.bench.completion.task import CompletionTask
from hescribe.bench.model_names import split_params
from hescribe.bench.runner import device_name, spread_cells
from hescribe.bench.runs import Cell, CellResult, Run, RunSummary, finish_runs
from hescribe.bench.store import SCHEMA_VERSION, Row
from hescribe.bench.study import Study
from hescribe.complete.base import Completion, View, completers
from hescribe.complete.hiding import Lesson
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.memory import peak_mb
from hescribe.metrics.masked import coverage, masked_correlation

Z90 = 1.645  # standard deviations on either side of 90 % of a normal distribution
FLOOR_NEIGHBOURS = 18  # spots whose pooled counts stand for a spot's true rate in the noise floor


def plan_completion(task: CompletionTask, names: Sequence[str], seeds: Sequence[int] = (0,)) -> list[Cell]:
    """Return every cell of a study: folds by completers by seeds; one without a seed runs once.

    Raises
    ------
    LeakageError
        If a completer's encoder was trained on the cohort.
    """
    created = [(name, _adapt(create_completer(name), task)) for name in names]
    return spread_cells(task, created, seeds, cohort=task.cohort, rules=task.rules)


def run_completion(
    task: CompletionTask, names: Sequence[str], out: Path, *, seeds: Sequence[int] = (0,), study: Study | None = None
) -> RunSummary:
    """Run every missing cell of a study of completers into the store at ``out``; see ``bench.runner.run_study``."""
    return finish_runs([plan_completion_run(task, names, out, seeds)], out, study=study)


def plan_completion_run(task: CompletionTask, names: Sequence[str], out: Path, seeds: Sequence[int] = (0,)) -> Run:
    """Return the run of completers on a task: see ``plan_completion``."""
    return Run(task, plan_completion(task, names, seeds), partial(score_completer, task), out)


def create_completer(name: str) -> Any:
    """Return a completer by name, with parameters behind colons: see ``split_params``.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    InputError
        If a parameter is no ``name=value``, is given twice, or is none of the completer's own.

    Examples
    --------
    >>> create_completer("knn:k=36").k
    36
    """
    method, params = split_params(name)
    return completers.create(method, **params)


def score_completer(task: CompletionTask, cell: Cell) -> CellResult:
    """Fit a completer on the fold's train donors and score it on what is hidden of every test section.

    Raises
    ------
    InputError
        If a completer returns another shape or a value that is not finite.
    """
    fold, model = cell.fold, cell.model
    start = time.perf_counter()
    fitted = None if fold.train is None else model.with_params().fit(fold.train)
    rows: list[Row] = []
    for share in task.protocol.shares:
        for section, lesson in fold.lessons(share):
            own = fitted or model.with_params().fit(replace(fold.test, sections=(lesson.section,)))
            found = _checked(own.estimate(lesson.section), lesson.section, model.name)
            context = {
                "task": task.name_at(share), "protocol": task.protocol.name,
                "revision": task.protocol.revision, "fold": fold.name, "section": section.id, "donor": section.donor,
                "model": cell.name, "method": model.name, "params": json.dumps(model.get_params(), sort_keys=True),
                "control": "", "seed": cell.seed, "gene": "", "pool_size": 0, "version": __version__,
                "data_hash": task.data_hash, "schema_version": SCHEMA_VERSION, "device": device_name(),
                "peak_mb": peak_mb(), "chance": float("nan"), "seconds": time.perf_counter() - start,
            }  # fmt: skip
            floor = noise_floor(section, lesson) if task.protocol.missing == "measured" else float("nan")
            rows += _score(lesson, found, context, floor)
    return CellResult(rows, {})


def noise_floor(section: Section, lesson: Lesson) -> float:
    """Return the mean squared error that counting noise alone leaves on the entries asked for.

    The variance of log2 of a Poisson count that is not 0, at the rate of its 18 nearest spots pooled: a
    plug-in, which takes real differences between neighbouring spots for noise. NaN where nothing is asked for.
    """
    if not lesson.where.any():
        return float("nan")
    view = View.of(section)
    near = view.neighbours(FLOOR_NEIGHBOURS)
    # Without the spot itself: its count is never 0 here, which would lift the rate of rare genes.
    pooled, depth = near @ view.counts, near @ view.depth
    expected = (pooled / np.maximum(depth, 1)[:, None] * view.depth[:, None])[lesson.where]
    return float(np.interp(np.log(np.maximum(expected, RATES[0])), np.log(RATES), _VARIANCE).mean())


RATES = np.geomspace(1e-3, 1e4, 200)


def _log_variance(rate: np.ndarray) -> np.ndarray:
    """Return the variance of log2(count) for Poisson counts that are not 0, shape of ``rate``."""
    count = np.arange(1, 60)[:, None]
    small = np.exp(count * np.log(rate) - rate - special.gammaln(count + 1))
    weight = small / np.maximum(small.sum(axis=0), 1e-300)
    mean = (weight * np.log2(count)).sum(axis=0)
    exact = (weight * (np.log2(count) - mean) ** 2).sum(axis=0)
    return np.where(rate < 25, exact, 1 / (rate * np.log(2) ** 2))  # the delta method is within 3 % from there on


_VARIANCE = _log_variance(RATES)


def _score(lesson: Lesson, found: Completion, context: dict[str, Any], floor: float) -> Iterator[Row]:
    """Yield the rows of one section."""
    where = lesson.where
    n = int(where.sum())
    error = (found.mean - lesson.answer)[where].astype(np.float64)
    r = masked_correlation(lesson.answer, found.mean, where)
    defined = np.isfinite(r)
    values = {
        "mse": (float((error**2).mean()) if n else np.nan, n, floor),
        "mae": (float(np.abs(error).mean()) if n else np.nan, n, np.nan),
        "pearson_hidden": (float(r[defined].mean()) if defined.any() else np.nan, int(defined.sum()), np.nan),
    }
    if found.sd is not None and n:
        values["coverage_90"] = (coverage(error, found.sd[where], Z90), n, np.nan)
    for metric, (value, n_defined, ceiling) in values.items():
        n_undefined = len(r) - n_defined if metric == "pearson_hidden" else 0
        yield Row(**context, metric=metric, value=value, n_defined=n_defined, n_undefined=n_undefined, ceiling=ceiling)


def _adapt(model: Any, task: CompletionTask) -> Any:
    """Return the completer set to learn what the protocol asks for, where it has a choice."""
    asked = {"missing": task.protocol.missing, "depth_seen": task.protocol.depth_seen}
    return model.with_params(**{k: v for k, v in asked.items() if k in model.get_params()})


def _checked(found: Completion, section: Section, method: str) -> Completion:
    shape = (section.n_spots, len(section.genes))
    for values in (found.mean, *(() if found.sd is None else (found.sd,))):
        if values.shape != shape or not np.isfinite(values).all():
            raise InputError(
                f"{method} returns shape {values.shape} for section {section.id}, or values that are not finite; "
                f"expected {shape} (n_spots, n_genes)"
            )
    return found
