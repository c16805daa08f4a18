"""Run slide models: one model on one fold with one seed is a cell, which keeps what was told of each test slide."""

import importlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hescribe import __version__
from hescribe.bench.model_names import split_params
from hescribe.bench.runner import device_name
from hescribe.bench.runs import Cell, CellResult, Run, RunSummary, finish_runs, has_seed
from hescribe.bench.slides.cards import METRICS, find_tasks
from hescribe.bench.slides.protocol import read_slide_protocol
from hescribe.bench.slides.task import SlideTask
from hescribe.bench.store import SCHEMA_VERSION, Row, cell_key, model_code_hash
from hescribe.bench.study import Study
from hescribe.bench.task import POOLED
from hescribe.errors import InputError, LeakageError
from hescribe.memory import peak_mb
from hescribe.metrics.slides import balanced_accuracy, concordance, macro_auc, quadratic_kappa
from hescribe.slide.bag_files import read_bags
from hescribe.slide.base import slide_models
from hescribe.slide.labels import read_labels
from hescribe.slide.targets import Classes, Target

TOLD, SLIDES, ATTENTION = "told", "slides", "attention/"  # arrays of a cell; attention by slide
N_ATTENTION = 4  # test slides whose attention is kept, of the first fold and seed 0, where tiles have places


def read_slide_tasks(study: Study) -> list[SlideTask]:
    """Return the tasks that the labels of a study hold.

    Raises
    ------
    InputError
        If labels and features do not match, or no column is of a task.
    UnknownNameError
        If there is no such protocol.
    LeakageError
        If features are of an encoder, or an aligner, that was trained on a slide.
    """
    bags, table = read_bags(Path(study.features)), read_labels(Path(study.labels))
    protocol = read_slide_protocol(study.protocol)
    for name, bag in bags.items():
        if seen := bag.read_seen():
            raise LeakageError(
                f"features of slide {name} are of an encoder that was trained on {seen}: scores would be too good; "
                "embed with one that was fitted on another cohort"
            )
    return [SlideTask.of(card, table, bags, protocol) for card in find_tasks(table)]


def run_slides(study: Study) -> RunSummary:
    """Run the slide models of a study: see ``plan_slide_runs``. A run that was killed goes on where it stopped."""
    return finish_runs(plan_slide_runs(study), Path(study.out), study=study)


def plan_slide_runs(study: Study) -> list[Run]:
    """Return a run for each of a study's tasks, in a folder of its own.

    Raises
    ------
    UnknownNameError
        If there is no such protocol or slide model.
    InputError
        If labels and features do not match, or there are too few donors.
    """
    tasks = read_slide_tasks(study)
    importlib.import_module("torch")  # before there are threads: scipy stumbles over a torch that is half imported
    return [
        Run(
            task,
            plan_slides(task, study.models, study.seeds),
            partial(tell_slides, task),
            Path(study.out) / task.name,
            keeps_predictions=True,
        )
        for task in tasks
    ]


def plan_slides(task: SlideTask, names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Return every cell of a task: seeds by folds by models. Folds are dealt anew for each seed."""
    created: list[tuple[str, Any]] = []
    for name in names:
        method, params = split_params(name)
        created.append((name, slide_models.create(method, **params)))
    cells = []
    for seed in seeds:
        for fold in task.folds(seed):
            for name, model in created:
                seeded = model.with_params(seed=seed) if has_seed(model) else model.with_params()
                key = cell_key(
                    task=task.facts.model_dump(), protocol=task.rules, fold=fold.name, seed=seed, model=name,
                    method=seeded.name, params=seeded.get_params(), data=task.data_hash, code=model_code_hash(seeded),
                    schema=SCHEMA_VERSION,
                )  # fmt: skip
                cells.append(Cell(key, fold, name, seeded, seed))
    return cells


def tell_slides(task: SlideTask, cell: Cell) -> CellResult:
    """Fit a slide model on the train slides of a fold and score what it tells of the test slides.

    Raises
    ------
    InputError
        If it tells another shape, or a value that is not finite.
    """
    fold, start = cell.fold, time.perf_counter()
    fitted = cell.model.with_params().fit([task.bags[i] for i in fold.train], task.target.take(fold.train))
    test = [task.bags[i] for i in fold.test]
    told = np.asarray(fitted.predict(test), dtype=np.float64)
    known, donors = task.target.take(fold.test), task.table.donors[fold.test]
    wanted = (len(test), len(known.names) if isinstance(known, Classes) else 1)
    if told.shape != wanted or not np.isfinite(told).all():
        raise InputError(f"{cell.name} tells shape {told.shape}, or values that are not finite; expected {wanted}")
    seconds = time.perf_counter() - start
    arrays = {SLIDES: np.array([b.id for b in test]), TOLD: told}
    if fold.name in {"fold0", f"k={max(task.protocol.shots, default=0)}"} and cell.seed == 0:
        with_places = [b for b in test if b.read_places() is not None]
        arrays |= {f"{ATTENTION}{b.id}": fitted.attention(b) for b in with_places[:N_ATTENTION]}
    rows = [
        Row(
            task=task_at(task.name, fold.name), protocol=task.protocol.name, revision=task.protocol.revision,
            fold=fold.name, section=POOLED, donor=POOLED, model=cell.name, method=cell.model.name,
            params=json.dumps(cell.model.get_params(), sort_keys=True), control="", seed=cell.seed, metric=metric,
            gene="", value=value, n_defined=len(test), n_undefined=0, chance=chance, ceiling=float("nan"), pool_size=0,
            version=__version__, data_hash=task.data_hash, schema_version=SCHEMA_VERSION, device=device_name(),
            seconds=seconds, peak_mb=peak_mb(),
        )
        for metric, (value, chance) in _score(task, known, told, donors).items()
    ]  # fmt: skip
    return CellResult(rows, arrays)


def task_at(name: str, fold: str) -> str:
    """Return the name of a task at a number of shots; that of folds is the task's own.

    Examples
    --------
    >>> task_at("camelyon16", "k=4"), task_at("camelyon16", "fold0")
    ('camelyon16, k=4', 'camelyon16')
    """
    return f"{name}, {fold}" if fold.startswith("k=") else name


def scored(metric: str, known: Target, told: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return a score of what was told under many weightings of the slides, shape ``(n_draws,)``.

    Parameters
    ----------
    metric
        Of ``METRICS``.
    known, told
        What the slides are, and what a model said.
    weights
        Shape ``(n_draws, n_slides)``; each slide once by default.
    """
    if not isinstance(known, Classes):
        return concordance(known.time, known.event, told[:, 0], weights)
    found = {"auc": macro_auc, "balanced_accuracy": balanced_accuracy, "quadratic_kappa": quadratic_kappa}[metric]
    return found(known.codes, told, weights)


def join_told(
    task: SlideTask, known: Target, told: np.ndarray, donors: np.ndarray
) -> tuple[Target, np.ndarray, np.ndarray]:
    """Return target, what was told, and donor of what is scored: slides, or with late fusion donors, averaged."""
    if task.protocol.fusion != "late":
        return known, told, donors
    names, first, place = np.unique(donors, return_index=True, return_inverse=True)
    total = np.zeros((len(names), told.shape[1]))
    np.add.at(total, place, told)
    return known.take(first), total / np.bincount(place)[:, None], names


def _score(task: SlideTask, known: Target, told: np.ndarray, donors: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return value and chance of each metric of the task."""
    known, told, _ = join_told(task, known, told, donors)
    return {
        metric: (float(scored(metric, known, told)[0]), 1 / told.shape[1] if chance is None else chance)
        for metric, chance in METRICS[task.facts.kind].items()
    }
