"""Intervals of a prediction, for any predictor: from the residuals of donors that a fit has not seen.

Cross-conformal: each donor is predicted by a fit without it, and the residuals of all donors set the ends; the model
that is kept is then fitted on all donors. Every donor weighs the same whatever its number of spots, as in the pooled
distributions of Dunn, Wasserman and Ramdas, Distribution-free prediction sets for two-layer hierarchical models, J. Am.
Stat. Assoc. 2022, doi:10.1080/01621459.2022.2060112.

What is promised holds on average over donors, spots and genes, not for each of them, if the new donor is drawn like the
training donors. It approaches the level as donors grow in number: n donors, and a fit that one hardly changes, give
level * n / (n + 1). The interval of Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023,
arXiv:2306.06342, gives the full level at any n by counting the donor to come as infinitely far away, and is infinite
under level / (1 - level) donors, nine at 90 %. It was not taken: with ten donors it held 99 % of the values in
synthetic cohorts, where the pooled distributions held 91 % (benchmarks/uncertainty.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.calibration import check_level
from hescribe.metrics.stats import MIN_DONORS

LEVEL = 0.9
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the reliability curve
N_POINTS = 200  # of a donor's residuals that are kept: what is beyond 0.25 % on a side is one point

RestsOn = Literal["donors", "spots"]


@dataclass(frozen=True, kw_only=True)
class IntervalInfo:
    """What stands behind the intervals of a model.

    Parameters
    ----------
    level
        Share of the measured values that the intervals are to hold.
    rests_on
        ``"donors"``: on five or more that the fit had not seen. ``"spots"``: on fewer, whose spots are many but say
        little about how far a new donor may differ.
    n_donors
        Number of donors whose residuals were taken.
    by_donor
        For each donor, share of its values in the intervals that the other donors give; empty with one donor. Too low
        rather than too high: the fits that gave the others' residuals had seen the donor, which moves them off it.
    curve
        Mean of the same over donors for each of several levels: ``(level, share)``, lowest level first.
    """

    level: float
    rests_on: RestsOn
    n_donors: int
    by_donor: dict[str, float]
    curve: tuple[tuple[float, float], ...]

    @property
    def coverage(self) -> float | None:
        """Mean over donors of the share of values held, each donor apart from the rest; None with one donor."""
        return float(np.mean(list(self.by_donor.values()))) if self.by_donor else None

    @property
    def guaranteed(self) -> float:
        """Least coverage to expect on average if a new donor is drawn like the others; 0 where it rests on spots."""
        return self.level * self.n_donors / (self.n_donors + 1) if self.rests_on == "donors" else 0.0

    @property
    def sentence(self) -> str:
        """What a reader of the ends must know."""
        if self.rests_on == "donors":
            return (
                f"{self.level:.0%} of the measured values of a new donor are expected between lower and upper, "
                f"counting noise included; this rests on {self.n_donors} held-out donors"
            )
        donors = f"{self.n_donors} donors" if self.n_donors > 1 else "one donor"
        return (
            f"the intervals rest on the spots of {donors}, not on donors: how far a new donor differs is not known, "
            f"and fewer than {self.level:.0%} of its values may lie within; fit on at least {MIN_DONORS} donors to know"
        )


@dataclass(frozen=True)
class Interval:
    """How far measured values lie from the predicted one, for each gene.

    Parameters
    ----------
    info
        What stands behind it.
    below, above
        Added to a prediction, they give its ends; at most and at least 0, shape ``(n_genes,)``.
    """

    info: IntervalInfo
    below: np.ndarray
    above: np.ndarray

    def ends(self, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper ends for predictions, all of shape ``(n_spots, n_genes)``; they are not under 0."""
        return np.maximum(mean + self.below, 0.0), np.maximum(mean + self.above, 0.0)


def fit_interval(
    residuals: Mapping[str, np.ndarray], *, level: float = LEVEL, rests_on: RestsOn | None = None
) -> Interval:
    """Return intervals from the residuals of donors that were predicted without being seen.

    The ends are quantiles of the residuals, half of what is left out on each side.

    Parameters
    ----------
    residuals
        By donor: measured less predicted, or as many quantiles of it for every donor as ``to_points`` keeps; shape
        ``(n, n_genes)``.
    level
        Share of the values to hold.
    rests_on
        What the residuals say something about; by their number if None: ``"donors"`` from five on.

    Raises
    ------
    InputError
        If there are no residuals, one is not finite, or ``level`` is no share.

    Examples
    --------
    >>> found = fit_interval({"A": np.zeros((9, 1)), "B": np.full((900, 1), 2.0)}, level=0.8)
    >>> found.below.tolist(), found.above.tolist(), found.info.rests_on
    ([0.0], [2.0], 'spots')
    """
    check_level(level)
    if not residuals:
        raise InputError("an interval needs the residuals of at least one donor")
    points = {donor: to_points(values, donor) for donor, values in residuals.items()}
    below, above = _ends(list(points.values()), level)
    by_donor = _left_out(points, level)
    curve = tuple((at, float(np.mean(list(_left_out(points, at).values())))) for at in LEVELS) if by_donor else ()
    info = IntervalInfo(
        level=level, rests_on=rests_on or ("donors" if len(points) >= MIN_DONORS else "spots"), n_donors=len(points),
        by_donor=by_donor, curve=curve,
    )  # fmt: skip
    return Interval(info, below, above)


def to_points(residuals: np.ndarray, donor: str = "") -> np.ndarray:
    """Return the quantiles that stand for a donor's residuals: as many for each, so that donors weigh the same.

    Parameters
    ----------
    residuals
        Shape ``(n_spots, n_genes)``; 200 of them stand for themselves, as do the points of an earlier call.
    donor
        Named in errors.

    Returns
    -------
    Shape ``(200, n_genes)`` float32.

    Raises
    ------
    InputError
        If there is no spot, or a value is not finite.
    """
    if residuals.ndim != 2 or not len(residuals) or not np.isfinite(residuals).all():
        raise InputError(
            f"residuals of donor {donor!r} have shape {residuals.shape} and must be finite, of shape "
            "(n_spots, n_genes) with at least one spot"
        )
    if len(residuals) == N_POINTS:
        return np.asarray(residuals, dtype=np.float32)
    at = (np.arange(N_POINTS) + 0.5) / N_POINTS
    return np.quantile(residuals, at, axis=0).astype(np.float32)


def _ends(points: Sequence[np.ndarray], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper quantiles of all donors' points, on the outer side of 0."""
    pooled = np.concatenate(points)
    tail = (1 - level) / 2
    below = np.quantile(pooled, tail, axis=0, method="lower")
    above = np.quantile(pooled, 1 - tail, axis=0, method="higher")
    return np.minimum(below, 0.0), np.maximum(above, 0.0)


def _left_out(points: Mapping[str, np.ndarray], level: float) -> dict[str, float]:
    """Return for each donor what share of its residuals the other donors' ends hold; empty with one donor."""
    covered = {}
    for donor, own in points.items():
        others = [p for other, p in points.items() if other != donor]
        if others:
            below, above = _ends(others, level)
            covered[donor] = float(((own >= below) & (own <= above)).mean())
    return covered
