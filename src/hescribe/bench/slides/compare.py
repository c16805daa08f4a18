"""The same slides told from two kinds of features: what those of an aligner add to those of the frozen encoder."""

from dataclasses import dataclass
from pathlib import Path

from hescribe.bench.slides.cards import METRICS
from hescribe.bench.slides.results import SlideResults, TaskScores
from hescribe.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FeatureGain:
    """What one slide model tells from one kind of features above the other, by one metric.

    Parameters
    ----------
    task, model, metric
        What was compared, by name; the task with its number of shots.
    value, base
        Mean over folds and seeds with the features of either run.
    gain
        ``value`` less ``base``, cell by cell.
    low, high
        95 % interval of the gain: donors are drawn alike for both. None with fewer than five donors.
    n_donors
        That are told of.
    """

    task: str
    model: str
    metric: str
    value: float | None
    base: float | None
    gain: float | None
    low: float | None
    high: float | None
    n_donors: int


def compare_features(run: Path, base: Path) -> list[FeatureGain]:
    """Return what the features of one run add to those of another, task by task and model by model.

    Parameters
    ----------
    run, base
        Folders given to ``bench run --suite spade --out``: the same labels, protocol, models and seeds, other features.

    Raises
    ------
    DataAccessError
        If a run has no finished cell, or its labels or features have changed since.
    InputError
        If the runs differ in anything but the features, or one is not finished.
    """
    ours, theirs = SlideResults(run).tasks, SlideResults(base).tasks
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise InputError(f"task {odd} is in one of {run} and {base} only; run both on the same labels")
    found = []
    for name, one in ours.items():
        other = theirs[name]
        _check_alike(one, other)
        found += [
            _gain(one, other, model, at, metric)
            for at in one.folds
            for model in one.models
            for metric in METRICS[one.task.facts.kind]
        ]
    return found


def _check_alike(one: TaskScores, other: TaskScores) -> None:
    """Raise ``InputError`` unless two runs tell the same slides by the same models in the same folds."""
    for what, ours, theirs in (
        ("labels", one.task.table.table.to_csv(), other.task.table.table.to_csv()),
        ("protocols", one.task.rules, other.task.rules),
        ("models, folds or seeds", _cells(one), _cells(other)),
    ):
        if ours != theirs:
            raise InputError(
                f"the runs {one.path} and {other.path} differ in their {what}; run both alike but for --features"
            )
    for scores in (one, other):
        if scores.results.n_missing:
            raise InputError(
                f"{scores.path} lacks {scores.results.n_missing} cells; give its command again to finish it"
            )


def _cells(scores: TaskScores) -> list[tuple[str, str, int]]:
    return [(c["model"], c["fold"], c["seed"]) for c in scores.results.plan["cells"]]


def _gain(one: TaskScores, other: TaskScores, model: str, at: str, metric: str) -> FeatureGain:
    ours, theirs = (s.score(model, at, metric) for s in (one, other))
    value, low, high = one.gain(model, model, at, metric, of=other) or (None, None, None)
    return FeatureGain(
        task=at, model=model, metric=metric, value=ours.value, base=theirs.value, gain=value, low=low, high=high,
        n_donors=ours.n_donors,
    )  # fmt: skip
