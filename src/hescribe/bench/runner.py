"""Run models on the folds of a task into flat rows; a cell that is done is not run again."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hescribe import __version__, keys
from hescribe.bench.ladder import N_SHUFFLES, ShuffledPairs, create_model, is_control
from hescribe.bench.leakage import check_encoder, check_gene_encoder
from hescribe.bench.model_names import encoder_card, encoder_name
from hescribe.bench.runs import Cell, CellResult, Run, RunSummary, finish_runs, has_seed
from hescribe.bench.store import SCHEMA_VERSION, Row, cell_key, model_code_hash
from hescribe.bench.study import Study
from hescribe.bench.task import Fold, PredictionTask
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.gene.base import GeneEncoder
from hescribe.errors import InputError
from hescribe.memory import peak_mb
from hescribe.metrics.base import Metric, MetricContext, all_metrics, summarise
from hescribe.metrics.ceiling import Ceiling
from hescribe.predict.base import Prediction

PER_GENE = ("pearson", "pearson_depth_partial", "pearson_measured")  # metrics whose every gene gets a row


def plan_cells(task: PredictionTask, models: Sequence[str], seeds: Sequence[int] = (0,)) -> list[Cell]:
    """Return every cell of a study: folds by models by seeds.

    A model without a seed runs once; shuffled pairs run ten times, for their spread is the point.

    Raises
    ------
    LeakageError
        If a model's encoder was trained on the cohort.
    """
    created = [(name, create_model(name)) for name in models]
    return spread_cells(task, created, seeds, cohort=task.cohort, rules=asdict(task.protocol))


def spread_cells(
    task: Any, models: Sequence[tuple[str, Any]], seeds: Sequence[int], *, cohort: Cohort, rules: object
) -> list[Cell]:
    """Return every cell of a study of anything that is fitted: folds by named models by seeds.

    Parameters
    ----------
    task
        With ``name``, ``data_hash`` and ``folds()``.
    models
        Name and model; one without a seed runs once.
    seeds
        Of the others.
    cohort
        Which no encoder of theirs may have been trained on.
    rules
        Protocol, ready for JSON: cells of other rules are other cells.

    Raises
    ------
    LeakageError
        If a model's encoder was trained on the cohort.
    """
    for _, model in models:
        check_encoder_of(model, cohort)
    cells = []
    for fold in task.folds():
        for name, model in models:
            for seed in _seeds(model, seeds):
                seeded = model.with_params(seed=seed) if has_seed(model) else model.with_params()
                key = cell_key(
                    task=task.name, protocol=rules, fold=fold.name, model=name, method=seeded.name,
                    params=seeded.get_params(), data=task.data_hash, code=model_code_hash(seeded),
                    schema=SCHEMA_VERSION, encoder=encoder_card(seeded),
                )  # fmt: skip
                cells.append(Cell(key, fold, name, seeded, seed))
    return cells


def run_cell(task: PredictionTask, fold: Fold, model: Any, seed: int, *, name: str | None = None) -> CellResult:
    """Fit a model on the fold's train cohort and score it on every test section.

    The model gets blind sections; only this package's own controls may see the truth.

    Raises
    ------
    InputError
        If a model predicts other genes, another shape or a value that is not finite.
    LeakageError
        If its encoder was trained on the cohort.
    """
    check_encoder_of(model, task.cohort)
    start = time.perf_counter()
    model = model.with_params().fit(fold.train, val=fold.val)
    given = (lambda s: s) if is_control(model) and model.uses_truth else Section.blind
    predicted = {s.id: _checked(model.predict(given(s)), s, model.name) for s in fold.test}
    seconds = time.perf_counter() - start
    scale_free = bool(getattr(model, "scale_free", False))
    control = ("uses_truth" if model.uses_truth else "control") if is_control(model) else ""
    rows = []
    for scored, sections in fold.scored.items():
        context = {
            "task": task.name, "protocol": task.protocol.name, "revision": task.protocol.revision, "fold": fold.name,
            "section": scored, "donor": sections[0].donor, "model": name or model.name, "method": model.name,
            "params": json.dumps(model.get_params(), sort_keys=True), "control": control, "seed": seed, "pool_size": 0,
            "version": __version__, "data_hash": task.data_hash, "schema_version": SCHEMA_VERSION,
            "device": device_name(), "seconds": seconds, "peak_mb": peak_mb(),
        }  # fmt: skip
        for metric in (all_metrics()[m] for m in task.protocol.metrics):
            rows += _score(metric, fold.ceilings[scored], sections, predicted, context, scale_free=scale_free)
        rows += _remark("neighbour_recall", min, [predicted[s.id].recall for s in sections], context)
        rows += _remark("share_filled", max, [predicted[s.id].filled for s in sections], context)
    kept = {} if control else {s: p.mean.astype(np.float32) for s, p in predicted.items()}
    return CellResult(rows, kept, {s: p.ood for s, p in predicted.items() if p.ood is not None})


def run_study(
    task: PredictionTask, models: Sequence[str], out: Path, *, seeds: Sequence[int] = (0,), study: Study | None = None
) -> RunSummary:
    """Run every missing cell of a study into the store at ``out``.

    Parameters
    ----------
    task, models, seeds
        The study: see ``plan_cells``.
    out
        Folder of the store; a run that was killed goes on where it stopped. Nothing is written
        to it before every cell is planned.
    study
        Written to ``study.toml`` beside the rows.
    """
    return finish_runs([plan_run(task, models, out, seeds)], out, study=study)


def plan_run(task: PredictionTask, models: Sequence[str], out: Path, seeds: Sequence[int] = (0,)) -> Run:
    """Return the run of predictors on a task: see ``plan_cells``."""
    cells = plan_cells(task, models, seeds)

    def work(cell: Cell) -> CellResult:
        return run_cell(task, cell.fold, cell.model, cell.seed, name=cell.name)

    return Run(task, cells, work, out, keeps_predictions=True)


def _score(
    metric: Metric,
    ceiling: Ceiling,
    sections: Cohort,
    predicted: dict[str, Prediction],
    context: dict[str, Any],
    *,
    scale_free: bool,
) -> list[Row]:
    """Return the row of the mean, and one for each gene where the metric is kept per gene."""
    y_true = sections.stack(keys.TARGET)
    y_pred = np.concatenate([predicted[s.id].mean[s.kept] for s in sections])
    depth = np.concatenate([s.depth[s.kept] for s in sections])
    values = metric(y_true, y_pred, MetricContext(depth=depth, counts=sections.stack(keys.COUNTS)))
    if scale_free and not metric.scale_free:
        values = np.full_like(values, np.nan)  # the unit of the prediction means nothing
    ceilings = getattr(ceiling, metric.name, np.full(values.shape, np.nan))
    total = summarise(values)
    chance = float("nan") if metric.chance is None else metric.chance
    common = {**context, "metric": metric.name, "chance": chance}
    rows = [
        Row(**common, gene="", value=total.value, n_defined=total.n_defined, n_undefined=total.n_undefined,
            ceiling=summarise(ceilings).value)
    ]  # fmt: skip
    if metric.name in PER_GENE and metric.axis == "gene":
        rows += [
            Row(**common, gene=g, value=float(v), n_defined=int(np.isfinite(v)), n_undefined=int(not np.isfinite(v)),
                ceiling=float(c))
            for g, v, c in zip(sections.genes, values, ceilings, strict=True)
        ]  # fmt: skip
    return rows


def _remark(
    name: str, worst: Callable[[list[float]], float], values: Sequence[float | None], context: dict[str, Any]
) -> list[Row]:
    """Return the row that says what a prediction lacks, of the section where it lacks most; none where nothing can.

    ``neighbour_recall``: what an approximate search found of the true neighbours. ``share_filled``: values that another
    tool did not predict.
    """
    said = [v for v in values if v is not None]
    if not said:
        return []
    nan = float("nan")
    return [
        Row(**context, metric=name, gene="", value=worst(said), n_defined=len(said), n_undefined=0, chance=nan,
            ceiling=nan)
    ]  # fmt: skip


def _checked(prediction: Prediction, section: Section, method: str) -> Prediction:
    if prediction.genes != section.genes:
        raise InputError(f"{method} predicts another panel than section {section.id} of the task")
    if prediction.mean.shape != (section.n_spots, len(section.genes)):
        raise InputError(
            f"{method} predicts shape {prediction.mean.shape} for section {section.id}, "
            f"expected {(section.n_spots, len(section.genes))} (n_spots, n_genes)"
        )
    if not np.isfinite(prediction.mean).all():
        raise InputError(f"{method} predicts values that are not finite for section {section.id}")
    return prediction


def check_encoder_of(model: Any, cohort: Cohort) -> None:
    """Raise ``LeakageError`` if an encoder that a model reads, of images or expression, was trained on the cohort."""
    if (name := encoder_name(model)) is not None:
        check_encoder(create_encoder(name).card, cohort.card.id, [s.id for s in cohort])
    of_genes = getattr(getattr(model, "aligner", model), "gene_encoder", None)
    if isinstance(of_genes, GeneEncoder):
        check_gene_encoder(of_genes, cohort)


def _seeds(model: Any, seeds: Sequence[int]) -> Sequence[int]:
    if isinstance(model, ShuffledPairs):
        return range(N_SHUFFLES)
    return seeds if has_seed(model) else seeds[:1]


def device_name() -> str:
    """Return where networks run, with a remark if the same cell need not give the same digits there.

    Sums on a GPU are taken in no fixed order; on processors they are, so that a cell repeats to the last digit.
    """
    if "torch" not in sys.modules:  # a cell that has not loaded it ran on a processor
        return "cpu"
    import torch  # noqa: PLC0415 - waits for the thread of another cell that is still loading it

    if not torch.cuda.is_available():
        return "cpu"
    return f"{torch.cuda.get_device_name()}, repeats but for rounding"
