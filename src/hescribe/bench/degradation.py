"""What alignment costs a frozen encoder: expression predicted from its features, and from their aligned embedding.

HESCAPE (Gindra et al., 2025, arXiv:2508.01490) reports that contrastive training makes image encoders predict
expression worse. Here both sides have the same folds, the same head and the same rule for its parameter, and a head
as it is drawn (``infonce:epochs=0``) shows how much of the loss is that of fewer dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd

from hescribe.bench.compare import compare
from hescribe.bench.results import Results
from hescribe.bench.runner import run_study
from hescribe.bench.task import PredictionTask
from hescribe.errors import InputError
from hescribe.metrics.stats import DonorMean, donor_mean

HEADS = ("ridge", "knn")
METRICS = ("pearson", "pearson_depth_partial")


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """What one aligner makes of one encoder under one head, by one metric.

    Parameters
    ----------
    encoder, aligner, head, metric
        What was compared, by name.
    frozen, aligned
        Mean over donors with the encoder's features, and with their aligned embedding.
    change
        ``aligned`` less ``frozen``, paired by donor; below 0 alignment has cost something. With fewer than five donors
        it has no interval.
    """

    encoder: str
    aligner: str
    head: str
    metric: str
    frozen: DonorMean
    aligned: DonorMean
    change: DonorMean


def name_models(encoder: str, aligner: str, head: str) -> tuple[str, str]:
    """Return the names of the two models that are compared: on frozen features, and on aligned ones.

    Parameters
    ----------
    encoder
        Image encoder.
    aligner
        Name of an aligner, with parameters behind colons.
    head
        ``"ridge"`` or ``"knn"``.

    Raises
    ------
    InputError
        If there is no such head.

    Examples
    --------
    >>> name_models("color", "infonce:epochs=0", "ridge")
    ('ridge:encoder=color', 'aligned:head=ridge:aligner=infonce:aligner.encoder=color:aligner.epochs=0')
    """
    if head not in HEADS:
        raise InputError(f"there is no head {head!r}; known: {', '.join(HEADS)}")
    name, *params = aligner.split(":")
    inner = "".join(f":aligner.{p}" if "=" in p else f":{p}" for p in (f"encoder={encoder}", *params))
    return f"{head}:encoder={encoder}", f"aligned:head={head}:aligner={name}{inner}"


def measure_degradation(
    tasks: Sequence[PredictionTask],
    out: Path,
    *,
    encoders: Sequence[str],
    aligners: Sequence[str],
    heads: Sequence[str] = HEADS,
    seeds: Sequence[int] = (0,),
) -> list[Degradation]:
    """Run every missing cell and compare: encoders by aligners by heads, over the donors of all tasks.

    Parameters
    ----------
    tasks
        Cohorts under a protocol; donors of two cohorts are different donors.
    out
        Folder of the runs, one for each cohort; a killed run goes on there.
    encoders, aligners, heads, seeds
        What is crossed: see ``name_models``.

    Raises
    ------
    UnknownNameError
        If there is no encoder or aligner of a name.
    LeakageError
        If an encoder was trained on a cohort.
    """
    named = {x: name_models(*x) for x in product(encoders, aligners, heads)}
    models = tuple(dict.fromkeys(m for pair in named.values() for m in pair))
    parts = []
    for task in tasks:
        folder = out / task.cohort.card.id
        run_study(task, models, folder, seeds=seeds)
        parts.append(Results(folder).rows)
    rows = pd.concat(parts)
    rows = rows.assign(donor=rows["task"] + "/" + rows["donor"], task="all")
    return [_compare(rows, x, named[x], metric) for metric in METRICS for x in named]


def _compare(rows: pd.DataFrame, x: tuple[str, str, str], models: tuple[str, str], metric: str) -> Degradation:
    frozen, aligned = (_mean(rows, m, metric) for m in models)
    change = compare(rows, models[1], models[0], metric=metric)
    return Degradation(
        encoder=x[0], aligner=x[1], head=x[2], metric=metric, frozen=frozen, aligned=aligned, change=change
    )


def _mean(rows: pd.DataFrame, model: str, metric: str) -> DonorMean:
    own = rows[(rows["model"] == model) & (rows["metric"] == metric) & (rows["gene"] == "")]
    by_section = own.groupby(["donor", "section"])["value"].mean()
    return donor_mean([(str(donor), value) for (donor, _), value in by_section.items()])
