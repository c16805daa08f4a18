"""Robustness as a figure: what aligners find as the batch of new donors shifts away."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hescribe.bench.shifted import Curve
from hescribe.errors import InputError
from hescribe.report.figure import BLACK, BLUE, GREY, VERMILLION

# Okabe and Ito's colours; shapes and dashes tell lines apart without them.
STYLES = (
    (BLUE, "o", "-"),
    (VERMILLION, "s", (0, (5, 2))),
    (BLACK, "^", (0, (1, 1.5))),
    ("#009E73", "D", (0, (5, 2, 1, 2))),
    ("#CC79A7", "v", (0, (3, 1))),
)
APART = 0.07  # of the height: names at the right end closer than that are moved


def robustness_figure(panels: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Return one panel a cohort: AUC within sections by strength of the shift, one line an aligner.

    From five donors on a bar is the interval over donors. Chance is the grey line.

    Parameters
    ----------
    panels
        Title of a panel, and its curves by the name of the aligner, with or without parameters behind colons.

    Raises
    ------
    InputError
        If there is no curve, or more than can be told apart.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not 1 <= len(names) <= len(STYLES):
        raise InputError(f"a figure of robustness tells 1 to {len(STYLES)} aligners apart, got {len(names)}")
    figure = Figure(figsize=(1.2 + 4.4 * len(panels), 3.9), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, curves) in zip(every, panels.items(), strict=True):
        for i, (name, curve) in enumerate(curves.items()):
            _draw_curve(axes, name, curve, names.index(name), shift=0.008 * (i - (len(curves) - 1) / 2))
        axes.axhline(0.5, color=GREY, linewidth=1.0, zorder=1)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("strength of the shift", fontsize=9, color=GREY)
        axes.set_xticks(sorted({strength for curve in curves.values() for strength in curve}))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.margins(x=0.3)
        axes.set_xlim(left=-0.06)
    if len({_method(name) for name in names}) == len(names):
        for axes, curves in zip(every, panels.values(), strict=True):
            _name_ends(axes, curves, names)
    else:  # parameters tell them apart, which are too long for the end of a line
        figure.set_figheight(4.1 + 0.2 * len(names))
        lines = {line.get_label(): line for axes in every for line in axes.get_legend_handles_labels()[0]}
        figure.legend([lines[n] for n in names], names, loc="outside lower left", frameon=False, fontsize=8.5)
    every[0].set_ylabel("AUC within a section", fontsize=9, color=GREY)
    every[0].text(-0.05, 0.5, "chance", va="bottom", fontsize=8.5, color=GREY)
    return figure


def describe_robustness(curves: Mapping[str, Curve]) -> str:
    """Return what a panel shows, for those who do not see it.

    Examples
    --------
    >>> from hescribe.metrics.stats import donor_mean
    >>> curve = {0.0: donor_mean([("A", 0.8)]), 1.0: donor_mean([("A", 0.7)])}
    >>> describe_robustness({"robust": curve})
    'AUC within sections, at no shift and at the strongest (1): robust .800 and .700'
    """
    strongest = max(max(curve) for curve in curves.values())
    parts = [f"{name} {_short(c[min(c)].value)} and {_short(c[max(c)].value)}" for name, c in curves.items()]
    return f"AUC within sections, at no shift and at the strongest ({strongest:g}): {', '.join(parts)}"


def _method(name: str) -> str:
    return name.partition(":")[0]


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _draw_curve(axes: Axes, name: str, curve: Curve, which: int, *, shift: float) -> None:
    """Draw one line, its points a little apart from those of the others."""
    colour, marker, dashes = STYLES[which]
    x = [strength + shift * max(curve) for strength in curve]
    y = [mean.value for mean in curve.values()]
    (line,) = axes.plot(x, y, color=colour, marker=marker, linestyle=dashes, linewidth=1.7, markersize=5.5, zorder=3)
    line.set_label(name)
    for at, mean in zip(x, curve.values(), strict=True):
        if mean.low is not None and mean.high is not None:
            axes.plot([at, at], [mean.low, mean.high], color=colour, linewidth=1.0, alpha=0.6, zorder=2)


def _name_ends(axes: Axes, curves: Mapping[str, Curve], names: list[str]) -> None:
    """Write the name of every line at its right end, from the top down and none over another."""
    low, high = axes.get_ylim()
    ends = sorted(((c[max(c)].value, max(c), name) for name, c in curves.items()), reverse=True)
    last = float("inf")
    for value, strength, name in ends:
        last = min(value, last - APART * (high - low))
        colour = STYLES[names.index(name)][0]
        at = (strength, last)
        axes.annotate(_method(name), at, xytext=(9, 0), textcoords="offset points", va="center", color=colour)
