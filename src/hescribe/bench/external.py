"""Score a fitted model on a cohort that it has not seen: no training, and no score on what it was trained on."""

import time

import numpy as np

from hescribe import keys
from hescribe.bench.leakage import check_model
from hescribe.bench.model_folder import FittedModel
from hescribe.bench.protocols import Protocol
from hescribe.bench.scores import Score
from hescribe.bench.task import PredictionTask
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import take_print
from hescribe.errors import InputError
from hescribe.metrics.base import Metric, MetricContext, all_metrics, summarise
from hescribe.metrics.ceiling import Ceiling, noise_ceiling
from hescribe.metrics.stats import donor_mean
from hescribe.prep.targets import normaliser
from hescribe.progress import track

NO_CEILING = np.array([np.nan])  # of a metric that has none


def score_fitted(model: FittedModel, cohort: Cohort, protocol: Protocol) -> list[Score]:
    """Return the scores of a fitted model on every section of another cohort, averaged as in a benchmark.

    Parameters
    ----------
    model
        Scored on its panel, which the cohort must hold; not on genes that were added to it.
    cohort
        Sections without an image are left out.
    protocol
        Fixes spots and metrics; its choice of genes is not used.

    Raises
    ------
    LeakageError
        If the model, or its encoder, was trained on any of the donors.
    PanelError
        If the cohort lacks a gene of the panel.
    InputError
        If the protocol predicts something else than the model.
    """
    if protocol.changes_target:
        raise InputError(
            f"protocol {protocol.name} scores something else than the model predicts; take one such as donor-v1"
        )
    task = PredictionTask(cohort, protocol)
    panel, column = model.info.panel, {g: i for i, g in enumerate(model.info.genes)}
    prints = [
        take_print(s, cohort.card.id, frozenset(panel)) for s in track(task.prepared, "looking for training tissue")
    ]
    check_model(model.info, cohort.card.id, prints)
    test = task.on_panel(task.prepared, panel)
    start = time.perf_counter()
    own = np.array([column[g] for g in panel])
    predicted = [model.predictor.predict(s.blind()).mean[s.kept][:, own] for s in track(test, "predicting")]
    seconds = time.perf_counter() - start
    ceilings = {
        s.id: noise_ceiling(s.layer(keys.COUNTS), s.depth[s.kept], normaliser(s, protocol.target), seed=i)
        for i, s in enumerate(test)
    }
    return [_score(task, model, all_metrics()[m], test, predicted, ceilings, seconds) for m in protocol.metrics]


def _score(  # noqa: PLR0917 - everything that a line of the table is made of
    task: PredictionTask,
    model: FittedModel,
    metric: Metric,
    test: Cohort,
    predicted: list[np.ndarray],
    ceilings: dict[str, Ceiling],
    seconds: float,
) -> Score:
    """Return one metric: of each section, then its donor, then all donors."""
    values = []
    for section, y_pred in zip(test, predicted, strict=True):
        context = MetricContext(depth=section.depth[section.kept], counts=section.layer(keys.COUNTS))
        values.append(summarise(metric(section.layer(keys.TARGET), y_pred, context)))
    mean = donor_mean([(s.donor, v.value) for s, v in zip(test, values, strict=True)])
    highest = [(s.donor, getattr(ceilings[s.id], metric.name, NO_CEILING)) for s in test]
    ceiling = donor_mean([(donor, summarise(of_genes).value) for donor, of_genes in highest]).value
    return Score(
        task=task.name, protocol=task.protocol.name, model=f"{model.info.method} fitted on {model.info.cohort}",
        metric=metric.name, value=mean.value if mean.by_donor else None, low=mean.low, high=mean.high,
        n_donors=len(mean.by_donor), n_defined=sum(v.n_defined for v in values),
        n_undefined=sum(v.n_undefined for v in values), chance=metric.chance, chance_sd=None,
        ceiling=ceiling if np.isfinite(ceiling) else None, by_donor=mean.by_donor, control="", seconds=seconds,
    )  # fmt: skip
