"""From scores per section to one number with its spread: sections, then donors, then the mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MIN_DONORS = 5  # with fewer, resampling donors gives an interval that means nothing


@dataclass(frozen=True, slots=True)
class DonorMean:
    """A score averaged over donors.

    Parameters
    ----------
    value
        Mean over donors of the mean over a donor's sections; NaN if nothing is defined.
    low, high
        Bootstrap interval over donors; None with fewer than five donors.
    by_donor
        Mean of each donor with a defined score.
    """

    value: float
    low: float | None
    high: float | None
    by_donor: dict[str, float]


def donor_mean(
    scores: Sequence[tuple[str, float]], *, seed: int = 0, level: float = 0.95, n_resamples: int = 10_000
) -> DonorMean:
    """Average section scores within donors, then over donors, with a bootstrap over donors.

    Parameters
    ----------
    scores
        Pairs of donor and score, one for each section; a NaN score is left out.
    seed, level, n_resamples
        Of the percentile bootstrap.

    Examples
    --------
    >>> donor_mean([("A", 1.0), ("A", 3.0), ("B", 4.0)]).value
    3.0
    """
    by_donor: dict[str, list[float]] = {}
    for donor, score in scores:
        if np.isfinite(score):
            by_donor.setdefault(donor, []).append(score)
    means = {donor: float(np.mean(v)) for donor, v in sorted(by_donor.items())}
    if not means:
        return DonorMean(float("nan"), None, None, {})
    low, high = bootstrap_interval(means, seed=seed, level=level, n_resamples=n_resamples)
    return DonorMean(float(np.mean(list(means.values()))), low, high, means)


def bootstrap_interval(
    by_donor: Mapping[str, float], *, seed: int = 0, level: float = 0.95, n_resamples: int = 10_000
) -> tuple[float | None, float | None]:
    """Return the percentile interval of the mean over resampled donors; (None, None) below five.

    For a paired comparison give the differences by donor.
    """
    values = np.array([by_donor[d] for d in sorted(by_donor)])
    if len(values) < MIN_DONORS:
        return None, None
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(n_resamples, len(values)))].mean(axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
