"""How unlike the training images the spots of a slide look, and in what: for any predictor, whatever it reads.

A predictor's own features may be standardised within the section, which hides a stain that no training slide had, and
may not see blur at all. The facts compared here are not standardised by the slide at hand. The score is calibrated on
donors left out, so that a new donor's slide of the same kind is as unusual as a training donor's was to the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hescribe.errors import InputError

N_BANK = 2000  # training spots that are compared with, evenly from all donors
N_NEIGHBOURS = 5  # the distance to the fifth: a single odd training spot excuses none
N_POINTS = 201  # quantiles kept of a calibration
N_BLOCKS = 4  # parts of a single donor's spots, each left out in turn
TAIL = 0.02  # of the training spots beyond the range of a fact, on each side
UNLIKE = 0.95  # score above which a single spot is faded on a map: one in twenty of those like the training


@dataclass(frozen=True)
class Looks:
    """What the training images looked like.

    Parameters
    ----------
    bank
        Facts of training spots in units of ``spread``, shape ``(n_bank, n_facts)``.
    spread
        Sd of each fact over the training spots, shape ``(n_facts,)``.
    low, high
        Range of each fact that holds all but 2 % of the training spots on each side, shape ``(n_facts,)``.
    far
        Distances of left-out donors' spots from the others', quantiles, shape ``(201,)``.
    own
        The predictor's own score on left-out donors, quantiles; empty if it has none, shape ``(201,)`` or ``(0,)``.
    both
        The greater rank of the two on left-out donors, quantiles, shape ``(201,)``.
    """

    bank: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    far: np.ndarray
    own: np.ndarray
    both: np.ndarray

    @classmethod
    def fit(cls, facts: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray] | None = None) -> "Looks":
        """Learn from the training spots of each donor.

        Parameters
        ----------
        facts
            By donor, shape ``(n_spots, n_facts)``, not standardised.
        own
            By donor, the score that the predictor gave its spots when it had not seen them, shape ``(n_spots,)``; None
            if it gives none.

        Raises
        ------
        InputError
            If there is no spot, or ``own`` has not one score for each.
        """
        parts = [np.asarray(f, dtype=np.float64) for f in facts.values()]
        x = np.concatenate(parts) if parts else np.zeros((0, 1))
        if not len(x) or not np.isfinite(x).all():
            raise InputError(f"looks are learned from finite facts of at least one spot, got shape {x.shape}")
        spread = np.maximum(x.std(axis=0), 1e-6)
        groups = [p / spread for p in (parts if len(parts) > 1 else np.array_split(parts[0], N_BLOCKS)) if len(p)]
        far = np.concatenate(
            [_distance(_bank([*groups[:i], *groups[i + 1 :]] or [g]), g) for i, g in enumerate(groups)]
        )
        ranks = [_rank(_points(far), far)]
        of_predictor = np.zeros(0)
        if own is not None:
            given = np.concatenate([own[donor] for donor in facts])
            if given.shape != far.shape:
                raise InputError(f"the predictor gave {len(given)} scores for {len(far)} spots")
            of_predictor = _points(given)
            ranks.append(_rank(of_predictor, given))
        low, high = np.quantile(x, [TAIL, 1 - TAIL], axis=0)
        both = _points(np.max(ranks, axis=0))
        return cls(_bank(groups), spread, low, high, _points(far), of_predictor, both)

    def score(self, facts: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """Return the share of left-out training spots that look less unusual, 0 to 1, shape ``(n_spots,)``.

        Parameters
        ----------
        facts
            Shape ``(n_spots, n_facts)``.
        own
            Score of the predictor itself, shape ``(n_spots,)``; left aside if none was learned with.
        """
        ranks = [_rank(self.far, _distance(self.bank, facts / self.spread))]
        if own is not None and len(self.own):
            ranks.append(_rank(self.own, own))
        return _rank(self.both, np.max(ranks, axis=0))

    def beyond(self, facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of spots below and above the training range of each fact, shape ``(n_facts,)`` both."""
        return (facts < self.low).mean(axis=0), (facts > self.high).mean(axis=0)


def _bank(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return up to 2,000 spots, as many of each group as it has, evenly chosen."""
    n = max(N_BANK // len(groups), 1)
    return np.concatenate([g[np.unique(np.linspace(0, len(g) - 1, n).astype(int))] for g in groups])


def _distance(bank: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the distance of each row to its fifth neighbour in the bank, or the last there is."""
    k = min(N_NEIGHBOURS, len(bank))
    return np.asarray(cKDTree(bank).query(x, k=[k])[0][:, 0])


def _points(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, N_POINTS))


def _rank(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the share of points below each value, under 1; values beyond all points share the last step in order."""
    share = np.searchsorted(points[:-1], values, side="left") / len(points)
    further = np.clip(1 - points[-1] / np.maximum(values, 1e-12), 0, 1)
    return np.asarray(share + further / len(points))
