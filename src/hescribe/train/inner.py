"""The one rule by which alpha, k, epochs and the like are chosen: inner folds of the train cohort."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.metrics.base import centre
from hescribe.metrics.gene import correlate_centred
from hescribe.prep.split import inner_folds

T = TypeVar("T")

# Predicts a section with every candidate in turn: arrays of shape (n_spots, n_genes).
PredictEach = Callable[[Section], Iterator[np.ndarray]]
# Fits every candidate on a cohort.
FitPath = Callable[[Cohort], PredictEach]


def inner_scores(train: Cohort, fit_path: FitPath, *, view_um: float = 0.0, val: Cohort | None = None) -> np.ndarray:
    """Return the score of every candidate on the inner folds, shape ``(n_candidates,)``.

    The score is the Pearson correlation per gene and section, averaged over genes, sections and
    donors. A gene that varies but is predicted constant scores 0: were it left out, a candidate
    would gain by giving up on its worst genes.

    Parameters
    ----------
    train
        The fold's train cohort.
    fit_path
        Fits every candidate.
    view_um
        Width of the image that a prediction sees.
    val
        Score here what was fitted on all of ``train``, in place of the inner folds.

    Raises
    ------
    InputError
        If no inner fold has spots on both sides.
    """
    by_candidate: dict[int, dict[str, list[float]]] = {}
    for inner, outer in [(train, val)] if val is not None else inner_folds(train, view_um=view_um):
        if not any(s.kept.any() for s in inner):
            continue
        predict = fit_path(inner)
        for section in outer:
            if section.kept.sum() < 2:
                continue
            kept, y_true = section.kept, centre(section.layer(keys.TARGET).astype(np.float64))
            n_varying = max(int((~y_true.is_constant).sum()), 1)
            for i, y_pred in enumerate(predict(section)):
                r = correlate_centred(y_true, centre(y_pred[kept].astype(np.float64)))
                by_candidate.setdefault(i, {}).setdefault(section.donor, []).append(np.nansum(r) / n_varying)
    if not by_candidate:
        raise InputError("the train cohort is too small to choose parameters on: no inner fold has spots on both sides")
    return np.array([np.mean([np.mean(v) for v in by_candidate[i].values()]) for i in sorted(by_candidate)])


def choose(
    train: Cohort, candidates: Sequence[T], fit_path: FitPath, *, view_um: float = 0.0, val: Cohort | None = None
) -> T:
    """Return the candidate with the best inner score; the first one of equals.

    Put the simplest candidate first.
    """
    return candidates[int(np.argmax(inner_scores(train, fit_path, view_um=view_um, val=val)))]
