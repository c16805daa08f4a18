"""Genes beyond the panel: a fitted model is given all measured genes, in blocks, each with its own trust class.

Parameters are chosen on the protocol's panel, where the signal is; the other genes follow from the same decomposition
or bank. A block of genes at a time is held densely for all spots, and all genes for one section, so that memory grows
with the spots and not with spots times genes. The trust class of a gene comes from donors that the fit had not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.bench.fitting import BLOCK_MARGIN, to_scores
from hescribe.bench.interval import Interval, RestsOn, fit_interval, to_points
from hescribe.bench.ladder import N_SHUFFLES, ShuffledPairs
from hescribe.bench.model_folder import FittedModel
from hescribe.bench.protocols import MEASURED, Protocol
from hescribe.bench.task import PredictionTask
from hescribe.bench.trust import trust_table
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.metrics.base import MetricContext, all_metrics
from hescribe.metrics.ceiling import Ceiling, noise_ceiling
from hescribe.predict.base import GeneWise, Predictor
from hescribe.prep.split import inner_folds
from hescribe.prep.targets import normaliser
from hescribe.progress import track

BLOCK = 1000  # genes
N_SPLITS = 3  # of the counts, for the ceiling: of thousands of genes each is rougher than on a panel
METRICS = ("pearson", "pearson_depth_partial")


def check_gene_wise(predictor: Predictor) -> None:
    """Raise ``InputError`` if a predictor learns its genes together, so that none can be added to a fit."""
    if not isinstance(predictor, GeneWise):
        raise InputError(
            f"{predictor.name} learns its genes together, so that none can be added to the panel; give --genes a file "
            "with those you need, or take a method that treats each alone, such as context_ridge"
        )


def add_genes(model: FittedModel, cohort: Cohort, protocol: Protocol) -> FittedModel:
    """Return the model for every gene of the cohort, with trust classes and intervals from held-out donors.

    Parameters
    ----------
    model
        Fitted on ``cohort`` under ``protocol``, on its panel.
    cohort, protocol
        Those of ``fit_model``.

    Raises
    ------
    InputError
        If the method learns its genes together, or the protocol takes a shortcut.
    """
    check_gene_wise(model.predictor)
    if protocol.takes_shortcut or protocol.labels != MEASURED or protocol.score_on != "all":
        raise InputError(f"genes cannot be added under protocol {protocol.name}; fit under donor-v1, or on its panel")
    task = PredictionTask(cohort, protocol)
    genes, panel = task.prepared.genes, model.info.genes
    wide = _fit_wide(task, model.predictor, task.prepared)
    folds = [] if model.interval is None else _folds(task, panel)
    found = [_test_fold(task, model, *sides) for sides in track(folds, "testing all genes")]
    info = replace(model.info, genes=genes, chosen_on=panel, scores=to_scores(_trust(found, genes)))
    interval = None if model.interval is None else _interval(found, rests_on=model.interval.info.rests_on)
    info = replace(info, interval=None if interval is None else interval.info)
    return replace(model, predictor=wide, info=info, interval=interval)


@dataclass(frozen=True)
class _Tested:
    """What came of a fold: scores of model and shuffled pairs, and the donor's residuals as points."""

    scores: list[pd.DataFrame]
    donor: str
    residuals: np.ndarray


def _folds(task: PredictionTask, panel: tuple[str, ...]) -> list[tuple[Cohort, Cohort]]:
    """Return train and test sides with all genes: donors held out, or blocks of a single one, which give intervals."""
    whole = task.prepared
    if len(whole.donors) < 2:
        return inner_folds(whole, view_um=BLOCK_MARGIN * max(s.card.pitch_um or 0.0 for s in whole))
    return [(_same_sections(whole, f.train), _same_sections(whole, f.test)) for f in task.folds(panel=panel)]


def _fit_wide(task: PredictionTask, fitted: Predictor, train: Cohort) -> Predictor:
    assert isinstance(fitted, GeneWise)  # the caller has checked it
    blocks = list(_blocks(train.genes))
    wide: Predictor = fitted.fit_blocks(task.on_panel(train, b) for b in track(blocks, "adding genes"))
    return wide


def _blocks(genes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(genes), BLOCK):
        yield tuple(genes[start : start + BLOCK])


def _test_fold(task: PredictionTask, model: FittedModel, train: Cohort, test: Cohort) -> _Tested:
    """Fit on one side as on the whole cohort, panel first, and score every gene of the other."""
    fresh = model.predictor.with_params()  # type: ignore[attr-defined]
    wide = _fit_wide(task, fresh.fit(task.on_panel(train, model.info.genes)), train)
    scores: list[pd.DataFrame] = []
    points = []
    for section in test:
        y_pred = wide.predict(section.blind()).mean[section.kept]
        points.append(np.hstack([_score_block(scores, task, section, *b) for b in _split(section.genes, y_pred)]))
    scores += _score_null(task, model.info.genes, train, test)
    return _Tested(scores, test[0].donor, to_points(np.concatenate(points), test[0].donor))


def _score_null(task: PredictionTask, panel: tuple[str, ...], train: Cohort, test: Cohort) -> list[pd.DataFrame]:
    """Return what shuffled pairs reach on the panel, so that its genes keep their class whatever is added.

    Rare genes, of which most of all genes are, follow the image's main direction less: by what they reach, more of
    the panel would count as better than chance.
    """
    scores: list[pd.DataFrame] = []
    panel_train, panel_test = task.on_panel(train, panel), task.on_panel(test, panel)
    for seed in range(N_SHUFFLES):
        shuffled = ShuffledPairs(seed=seed).fit(panel_train)
        for section in panel_test:
            y_pred = shuffled.predict(section.blind()).mean[section.kept]
            scores.extend(_score(section, y_pred, model=ShuffledPairs.name, seed=seed))
    return scores


def _split(genes: tuple[str, ...], y_pred: np.ndarray) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Yield blocks of genes, each with its columns of a prediction."""
    start = 0
    for block in _blocks(genes):
        yield block, y_pred[:, start : start + len(block)]
        start += len(block)


def _score_block(
    scores: list[pd.DataFrame], task: PredictionTask, section: Section, block: tuple[str, ...], y_pred: np.ndarray
) -> np.ndarray:
    """Add the scores of a block of genes of a section, and return its residuals as points."""
    on_block = task.on_panel(replace(task.prepared, sections=(section,)), block)[0]
    unit, depth = normaliser(section, task.protocol.target), section.depth[section.kept]
    ceiling = noise_ceiling(on_block.layer(keys.COUNTS), depth, unit, n_splits=N_SPLITS)
    scores.extend(_score(on_block, y_pred, model="model", seed=0, ceiling=ceiling))
    return to_points(on_block.layer(keys.TARGET) - y_pred, section.donor)


def _trust(found: Sequence[_Tested], genes: tuple[str, ...]) -> pd.DataFrame:
    """Return the trust table of all genes; every one is untested with a single donor."""
    if len({tested.donor for tested in found}) < 2:
        return pd.DataFrame({keys.TRUST: "untested"}, index=list(genes))
    rows = pd.concat([scores for tested in found for scores in tested.scores])
    return trust_table(rows, "model").reindex(list(genes))


def _interval(found: Sequence[_Tested], *, rests_on: RestsOn) -> Interval:
    by_donor: dict[str, list[np.ndarray]] = {}
    for tested in found:  # the blocks of a single donor are several folds
        by_donor.setdefault(tested.donor, []).append(tested.residuals)
    return fit_interval({donor: np.concatenate(p) for donor, p in by_donor.items()}, rests_on=rests_on)


def _score(
    section: Section, y_pred: np.ndarray, *, model: str, seed: int, ceiling: Ceiling | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the value of every gene, for each metric that a trust class is made of."""
    y_true, context = section.layer(keys.TARGET), MetricContext(depth=section.depth[section.kept])
    for metric in METRICS:
        facts = {"model": model, "seed": seed, "metric": metric, "gene": section.genes, "donor": section.donor}
        values = all_metrics()[metric](y_true, y_pred, context)
        yield pd.DataFrame({**facts, "value": values, "ceiling": getattr(ceiling, metric, np.nan)})


def _same_sections(whole: Cohort, side: Cohort) -> Cohort:
    """Return the sections of one side of a fold with all their genes."""
    ids = {s.id for s in side}
    return whole.where(lambda s: s.id in ids)
