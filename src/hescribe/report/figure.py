"""The ladder as a figure: one dot for each model, beside chance, ceiling and controls."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from hescribe.bench.scores import Score
from hescribe.report.table import MAIN, WITHOUT_DEPTH, ModelLine, Null

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, VERMILLION, BLACK = "#0072B2", "#D55E00", "#1a1a1a"
GREY, BAND = "#6b6b6b", "#dcdcdc"
TITLES = {MAIN: "Pearson", WITHOUT_DEPTH: "Pearson without depth"}


def ladder_figure(lines: list[ModelLine]) -> Figure:
    """Return the ladder: Pearson, and beside it Pearson without depth.

    A filled dot is a predictor, a hollow one a control. From five donors on a line is the interval
    over donors; below that each donor is a small mark.
    """
    n = len(lines)
    figure = Figure(figsize=(9.2, 1.35 + 0.36 * n), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    places = _places(lines)
    for axes, metric in zip(panels, TITLES, strict=True):
        for line, y in zip(lines, places, strict=True):
            _draw_line(axes, line, line.scores.get(metric), y)
        _draw_references(axes, [s for x in lines if (s := x.scores.get(metric))])
        axes.set_title(TITLES[metric], loc="left", fontsize=11, fontweight="bold", pad=22)
        axes.set_xlabel("correlation, mean over genes, sections, donors", fontsize=9, color=GREY)
        axes.axvline(0, color=BLACK, linewidth=0.8, zorder=1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelsize=9.5)
        axes.grid(axis="x", color="#ececec", linewidth=0.8, zorder=0)
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
    panels[0].set_yticks(places, [_label(x) for x in lines])
    panels[0].set_ylim(max(places) + 0.7, -0.7)
    return figure


def _places(lines: list[ModelLine]) -> list[float]:
    """Return the height of every line, with a gap before the controls."""
    has_both = len({x.kind == "predictor" for x in lines}) == 2
    return [i + (0.6 if has_both and x.kind != "predictor" else 0.0) for i, x in enumerate(lines)]


def _label(line: ModelLine) -> str:
    mark = {"predictor": "", "control": "\ncontrol", "uses_truth": "\ncontrol, sees the truth"}[line.kind]
    return line.model + mark


def _draw_line(axes: Axes, line: ModelLine, score: Score | None, y: float) -> None:
    if score is None or score.value is None:
        why = "undefined: one value everywhere" if score else "not run yet"
        if score and line.model == "depth_oracle":
            why = "undefined: it is depth"
        axes.annotate(why, (0, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8.5, color=GREY)
        return
    colour = BLUE if line.kind == "predictor" else BLACK
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="round", zorder=3)
    else:
        donors = list(score.by_donor.values())
        axes.plot(donors, [y] * len(donors), linestyle="", marker="|", markersize=9, color=colour, alpha=0.75, zorder=3)
    face = colour if line.kind == "predictor" else "white"
    axes.scatter(score.value, y, s=64, facecolor=face, edgecolor=colour, linewidth=1.6, zorder=4)


def _draw_references(axes: Axes, scores: list[Score]) -> None:
    """Draw the band of chance and the line of the ceiling, each named above the axes."""
    above: dict[str, Any] = {
        "transform": blended_transform_factory(axes.transData, axes.transAxes),
        "va": "bottom",
        "fontsize": 8.5,
    }
    null = next((n for s in scores if (n := Null.of(s))), None)
    if null:
        low, high = null.mean - 2 * null.sd, null.mean + 2 * null.sd
        axes.axvspan(low, high, color=BAND, linewidth=0, zorder=0.5)
        axes.text((low + high) / 2, 1.015, "chance", ha="center", color=GREY, **above)
    ceilings = [s.ceiling for s in scores if s.ceiling is not None]
    if ceilings:
        axes.axvline(ceilings[0], color=VERMILLION, linestyle=(0, (5, 3)), linewidth=1.5, zorder=2)
        axes.text(ceilings[0], 1.015, f"ceiling {ceilings[0]:.2f}", ha="right", color=VERMILLION, **above)
