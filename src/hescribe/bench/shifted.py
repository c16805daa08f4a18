"""Robustness of aligners as a curve: what spots of new donors find as their batch shifts away."""

from collections.abc import Iterable, Sequence
from typing import get_args

from hescribe.align.base import Aligner, to_pairs
from hescribe.bench.aligned import fit_on_fold
from hescribe.bench.task import Fold
from hescribe.data.batch_shift import BatchShift, Kind
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.metrics.retrieval import score_retrieval
from hescribe.metrics.stats import DonorMean, donor_mean
from hescribe.prep.targets import normaliser, with_target

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

# Of an aligner: the AUC within sections by the strength of the shift.
Curve = dict[float, DonorMean]


def shift_test(fold: Fold, shift: BatchShift, *, seed: int = 0) -> Cohort:
    """Return the test sections of a fold as another batch would show them, with the same spots kept.

    Parameters
    ----------
    fold
        Train sections stay as they are.
    shift, seed
        See ``BatchShift.apply``.
    """
    rule = fold.protocol

    def change(section: Section) -> Section:
        shifted = shift.apply(section, seed=seed)
        return with_target(shifted, normaliser(shifted, rule.target, smooth=rule.smooth_target))

    return fold.test.map(change)


def shift_curve(
    aligner: Aligner,
    folds: Iterable[Fold],
    *,
    strengths: Sequence[float] = STRENGTHS,
    kinds: Sequence[Kind] = get_args(Kind),
    seed: int = 0,
) -> Curve:
    """Fit an aligner on the train donors of folds, and score the AUC within sections of shifted test donors.

    Parameters
    ----------
    aligner
        Not fitted; a copy is, once a fold.
    folds
        Of one cohort or of several; donors of different cohorts are different donors.
    strengths, kinds
        See ``BatchShift.of``.
    seed
        Of the counts that are lost and gained.

    Returns
    -------
    For every strength the mean over donors; .5 is chance.

    Raises
    ------
    LeakageError
        If an encoder was trained on the test donors.
    """
    found: dict[float, list[tuple[str, float]]] = {strength: [] for strength in strengths}
    for fold in folds:
        fitted = fit_on_fold(aligner, fold)
        for strength, scores in found.items():
            test = shift_test(fold, BatchShift.of(strength, kinds), seed=seed)
            rows = score_retrieval(to_pairs(fitted, test), pools=("within_section",), sizes=(None,))
            scores += [(f"{test.card.id}/{r.donor}", r.value) for r in rows if r.metric == "auc"]
    return {strength: donor_mean(scores) for strength, scores in found.items()}
