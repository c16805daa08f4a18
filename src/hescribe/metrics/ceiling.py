"""Noise ceiling: the correlation a perfect predictor could reach, from the counts themselves.

Every count is split into two halves by a fair coin (binomial thinning), so that the halves are
independent measurements of one mean. Their correlation, stepped up to full depth by Spearman and
Brown's formula, is the reliability; its square root bounds the correlation of any prediction.
Both halves share the spot's depth, so depth counts as signal, as it does in the plain score.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hescribe.metrics.gene import correlate, remove_linear

# Counts (n_spots, n_genes) and depth (n_spots,) to the values that are predicted.
Normalise = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Highest reachable correlation of each gene, shape ``(n_genes,)``; NaN where undefined."""

    pearson: np.ndarray
    pearson_depth_partial: np.ndarray


def noise_ceiling(
    counts: np.ndarray,
    depth: np.ndarray,
    normalise: Normalise,
    *,
    seed: int = 0,
    n_splits: int = 10,
) -> Ceiling:
    """Return the noise ceiling of what a model is asked to predict.

    Parameters
    ----------
    counts
        Integer counts, shape ``(n_spots, n_genes)``.
    depth
        Counts of each spot over all measured genes, shape ``(n_spots,)``.
    normalise
        From counts and depth, shaped as above, to the values that are predicted.
    seed
        Of the thinning.
    n_splits
        Halvings whose correlations are averaged.

    Notes
    -----
    On simulated counts with known truth the estimate is too high by .006 to .058, most where
    spots are shallow.
    """
    log_depth = np.log(np.maximum(depth, 1.0))
    plain, partial = [], []
    for a, b in split_halves(counts, depth, normalise, seed=seed, n_splits=n_splits):
        plain.append(correlate(a, b))
        partial.append(correlate(remove_linear(a, log_depth), remove_linear(b, log_depth)))
    return Ceiling(step_up(np.array(plain)), step_up(np.array(partial)))


def split_halves(
    counts: np.ndarray, depth: np.ndarray, normalise: Normalise, *, seed: int = 0, n_splits: int = 10
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of independent measurements of one mean: each count split by a fair coin, each half normalised.

    Parameters
    ----------
    counts, depth, normalise, seed, n_splits
        As for ``noise_ceiling``.
    """
    rng = np.random.default_rng(seed)
    counts = counts.astype(np.int64)
    others = np.maximum(depth.astype(np.int64) - counts.sum(axis=1), 0)
    for _ in range(n_splits):
        half, half_others = rng.binomial(counts, 0.5), rng.binomial(others, 0.5)
        first, second = (
            normalise(part.astype(np.float64), np.maximum(part.sum(axis=1) + rest, 1))
            for part, rest in ((half, half_others), (counts - half, others - half_others))
        )
        yield first, second


def step_up(r: np.ndarray) -> np.ndarray:
    """Return sqrt(2 r / (1 + r)) of the mean over splits; negative reliability is 0."""
    counted = np.isfinite(r).sum(axis=0)
    mean = np.nansum(r, axis=0) / np.maximum(counted, 1)
    mean = np.maximum(mean, 0.0)
    return np.where(counted > 0, np.sqrt(2 * mean / (1 + mean)), np.nan)
