"""Fit what is worth fitting: candidates from the simplest on, scored on held-out donors, and one of them picked."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hescribe import keys
from hescribe.bench.choice import FLOOR, Candidate, Chance, Choice, Controls, choose_simplest
from hescribe.bench.fitting import check_lognorm, fit_model
from hescribe.bench.ladder import N_SHUFFLES, DepthOracle, ShuffledPairs, create_model, is_control
from hescribe.bench.model_folder import FittedModel
from hescribe.bench.protocols import Protocol
from hescribe.bench.runner import check_encoder_of
from hescribe.bench.task import PredictionTask
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import HescribeError, InputError
from hescribe.metrics.base import MetricContext, all_metrics, centre
from hescribe.predict.base import Predictor
from hescribe.prep.split import inner_folds
from hescribe.progress import track

CANDIDATES = (FLOOR, "color_ridge", "encoder_ridge", "encoder_knn", "context_ridge", "default")  # from the simplest on
VIEW_PITCHES = 6.0  # width of the image that any candidate sees of one spot: two rings, and the patches at their edge
MIN_SPOTS = 3  # of a section, for a correlation
METRICS = ("pearson", "pearson_depth_partial")

# Name of what is held out (a donor, or a block of the only one), the cohort to fit on, and the one to score.
Fold = tuple[str, Cohort, Cohort]


def fit_chosen(
    choice: Choice, cohort: Cohort, protocol: Protocol, *, genes: tuple[str, ...] | None = None
) -> FittedModel:
    """Fit what ``choose_model`` picked on all donors, and keep in its info why it was picked.

    Raises
    ------
    InputError
        If nothing was; the message says why.
    """
    if choice.picked is None:
        raise InputError(choice.reason)
    model = fit_model(create_model(choice.picked), cohort, protocol, genes=genes)
    return replace(model, info=replace(model.info, choice=choice))


def choose_model(
    cohort: Cohort, protocol: Protocol, candidates: Sequence[str] = CANDIDATES, *, genes: tuple[str, ...] | None = None
) -> Choice:
    """Score every candidate on held-out donors, and pick the simplest that is not told apart from the best.

    Donors are held out in turn; a single donor's sections are cut into four stripes, each of which is held out in turn
    with a margin around it. All are scored on one panel, chosen on the whole cohort as that of the model will be. A
    gene that varies and is predicted constant counts as 0.

    Parameters
    ----------
    cohort
        Sections without an image are left out.
    protocol
        Fixes spots and gene choice.
    candidates
        Names, from the simplest on; see ``create_model``.
    genes
        Panel in place of the protocol's.

    Raises
    ------
    InputError
        If a candidate is a control or named twice, none could be fitted, or the protocol changes the target.
    UnknownNameError
        If there is no model of a name.
    """
    check_lognorm(protocol)
    models = _create(candidates)
    task = PredictionTask(cohort, protocol)
    folds, by_block = _folds(task, genes)
    found = [_look(name, models[name], cohort, folds) for name in track(candidates, "scoring candidates")]
    if all(c.score is None for c in found):
        raise InputError(f"none of {', '.join(candidates)} could be fitted: {found[0].problem}")
    shuffled = [
        _average(_score(ShuffledPairs(seed=seed), folds)) for seed in track(range(N_SHUFFLES), "scoring shuffled pairs")
    ]
    controls = Controls(
        chance=Chance.of([s[0] for s in shuffled]),
        chance_without_depth=Chance.of([s[1] for s in shuffled]),
        depth_oracle=_average(_score(DepthOracle(), folds))[0],
    )
    return choose_simplest(found, controls, by_block=by_block)


def _create(candidates: Sequence[str]) -> dict[str, Predictor]:
    if len(set(candidates)) < len(candidates):
        raise InputError(f"a candidate is named twice: {', '.join(candidates)}")
    models = {name: create_model(name) for name in candidates}
    if control := next((name for name, model in models.items() if is_control(model)), None):
        raise InputError(f"{control} is a control, not a predictor: it is no candidate")
    if not models:
        raise InputError("there is no candidate; name at least one predictor")
    return models


def _folds(task: PredictionTask, panel: tuple[str, ...] | None) -> tuple[list[Fold], bool]:
    """Return the folds, and whether they are blocks of one donor."""
    whole = task.prepared
    genes = panel or task.choose_genes(whole)
    if len(whole.donors) > 1:
        return [(f.name, f.train, f.test) for f in task.folds(panel=genes)], False
    train = task.on_panel(whole, genes)
    view_um = VIEW_PITCHES * max(s.card.pitch_um or 0.0 for s in train)
    return [(f"block {k}", *sides) for k, sides in enumerate(inner_folds(train, view_um=view_um), start=1)], True


def _look(name: str, model: Predictor, cohort: Cohort, folds: Sequence[Fold]) -> Candidate:
    """Return the candidate's scores, or why it has none."""
    try:
        check_encoder_of(model, cohort)
        scores = _score(model, folds)
    except HescribeError as error:
        return Candidate(model=name, by_donor={}, problem=str(error))
    plain, without_depth = _average(scores)
    by_donor = {fold: float(values[0]) for fold, values in scores.items()}
    return Candidate(model=name, score=plain, by_donor=by_donor, without_depth=without_depth)


def _score(model: Predictor, folds: Sequence[Fold]) -> dict[str, np.ndarray]:
    """Return Pearson, plain and without depth, shape ``(2,)``, of every fold that has spots on both sides."""
    is_truth_seen = is_control(model) and model.uses_truth  # type: ignore[attr-defined]
    scores = {}
    for name, train, test in folds:
        scored = [s for s in test if s.kept.sum() >= MIN_SPOTS]
        if not scored or not any(s.kept.any() for s in train):
            continue
        fitted = model.with_params().fit(train)  # type: ignore[attr-defined]
        given = [s if is_truth_seen else s.blind() for s in scored]
        parts = [_score_section(s, fitted.predict(g).mean[s.kept]) for s, g in zip(scored, given, strict=True)]
        scores[name] = np.mean(parts, axis=0)
    if not scores:
        raise InputError(f"no fold has {MIN_SPOTS} spots to score and spots to fit on; the cohort is too small")
    return scores


def _score_section(section: Section, y_pred: np.ndarray) -> np.ndarray:
    """Return Pearson, plain and without depth, mean over the genes that vary; 0 where a prediction is constant."""
    y_true = section.layer(keys.TARGET)
    n_varying = max(int((~centre(y_true.astype(np.float64)).is_constant).sum()), 1)
    context = MetricContext(depth=section.depth[section.kept])
    return np.array([np.nansum(all_metrics()[m](y_true, y_pred, context)) / n_varying for m in METRICS])


def _average(scores: dict[str, np.ndarray]) -> tuple[float, float]:
    plain, without_depth = np.mean(list(scores.values()), axis=0)
    return float(plain), float(without_depth)
