"""Reliability of intervals as a figure: what was promised against what was held, and donor by donor."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hescribe.bench.interval import IntervalInfo
from hescribe.errors import InputError
from hescribe.report.figure import BAND, BLACK, BLUE, GREY, VERMILLION

MARGIN = 0.03  # about the level: what is called as promised
N_NAMED = 20  # donors whose names find room


def reliability_figure(info: IntervalInfo) -> Figure:
    """Return two panels: share of values held at each level, and at the model's level for each donor left out.

    Parameters
    ----------
    info
        Of a model; with at least two donors.

    Raises
    ------
    InputError
        If there was a single donor, so that nothing was left out.
    """
    if not info.by_donor:
        raise InputError("the reliability of intervals needs two donors at least; the model has one")
    n = len(info.by_donor)
    figure = Figure(figsize=(9.2, max(3.6, 1.5 + 0.22 * min(n, N_NAMED))), layout="constrained")
    curve, donors = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_curve(curve, info)
    _draw_donors(donors, info)
    for axes in (curve, donors):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.set_axisbelow(True)
    return figure


def describe_reliability(info: IntervalInfo) -> str:
    """Return what the figure shows, for those who do not see it.

    Examples
    --------
    >>> from hescribe.bench.interval import IntervalInfo
    >>> info = IntervalInfo(level=0.9, rests_on="spots", n_donors=1, by_donor={}, curve=())
    >>> describe_reliability(info)
    '90% intervals of a single donor: nothing was left out to test them on'
    """
    by_donor = sorted(info.by_donor.items(), key=lambda item: item[1])
    if not by_donor:
        return f"{info.level:.0%} intervals of a single donor: nothing was left out to test them on"
    (low, least), (high, most) = by_donor[0], by_donor[-1]
    curve = ", ".join(f"{level:.0%} and {share:.0%}" for level, share in info.curve)
    return (
        f"{info.level:.0%} intervals held {info.coverage:.0%} of the values on average over {len(by_donor)} donors, "
        f"{least:.0%} ({low}) to {most:.0%} ({high}); promised and held: {curve}"
    )


def _draw_curve(axes: Axes, info: IntervalInfo) -> None:
    levels, shares = zip(*info.curve, strict=True)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    axes.plot(levels, shares, color=BLUE, linewidth=1.8, marker="o", markersize=6, zorder=3)
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 8.5, "color": GREY}
    axes.text(0.04, 0.96, "wider than needed", va="top", **corner)
    axes.text(0.96, 0.04, "too narrow", ha="right", **corner)
    span = (min(0.45, min(shares) - 0.03), 1.0)
    axes.set(xlim=span, ylim=span, aspect="equal")
    axes.set_title("Promised and held", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("share of values promised", fontsize=9, color=GREY)
    axes.set_ylabel("share held, donors left out", fontsize=9, color=GREY)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _draw_donors(axes: Axes, info: IntervalInfo) -> None:
    order = sorted(info.by_donor, key=lambda donor: info.by_donor[donor])
    shares = [info.by_donor[donor] for donor in order]
    axes.axvspan(info.level - MARGIN, info.level + MARGIN, color=BAND, linewidth=0, zorder=0)
    axes.axvline(info.level, color=VERMILLION, linestyle=(0, (5, 3)), linewidth=1.5, zorder=2)
    axes.scatter(shares, range(len(order)), s=52, color=BLUE, zorder=3)
    axes.axvline(sum(shares) / len(shares), color=BLACK, linewidth=1.0, zorder=1)
    named = len(order) <= N_NAMED
    axes.set_yticks(range(len(order)) if named else [], order if named else [])
    axes.set(xlim=(min(0.5, min(shares) - 0.03), 1.0), ylim=(-0.7, len(order) - 0.3))
    axes.set_title(f"{info.level:.0%} intervals, donor by donor", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("share held; dashed: promised, line: mean of the donors", fontsize=9, color=GREY)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
