"""The report of a run of completers: one self-contained HTML page, its figure as PNG and its table as CSV."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from hescribe import __version__
from hescribe.bench.completion.cells import create_completer
from hescribe.bench.completion.compare import MAIN, CompletionLine, completion_lines
from hescribe.bench.results import Results
from hescribe.errors import HescribeError
from hescribe.metrics.stats import MIN_DONORS
from hescribe.report.figure import BLUE, GREY, VERMILLION
from hescribe.report.page import Picture, to_png, write_page
from hescribe.report.table import format_number, to_frame
from hescribe.report.template import template_environment

PAGE_DPI = 170
FIGURE = "completion.png"


def write_completion_report(results: Results) -> Path:
    """Write ``report.html``, ``table.csv`` and ``figures/`` of a run of completers into its folder.

    Returns
    -------
    Path of the page. It holds its picture and needs no network.

    Raises
    ------
    DataAccessError
        If no cell is finished, or the folder cannot be written.
    """
    results.check_finished()
    lines, plan, rows = completion_lines(results), results.plan, results.rows
    picture = _picture(lines)
    html = template_environment().get_template("completion.html.j2").render(
        task=plan["task"], cohort=plan["task"]["cohort"], protocol=plan["protocol"], lines=lines, picture=picture,
        verdict=verdict(lines), summaries={x.model: _summary(x.model) for x in lines}, looks=results.looks,
        donors=sorted(rows["donor"].unique()), min_donors=MIN_DONORS, n_sections=rows["section"].nunique(),
        n_cells=len(plan["cells"]), n_missing=results.n_missing, data_hash=plan["data_hash"],
        versions=sorted(rows["version"].unique()), schema_version=int(rows["schema_version"].max()),
        version=__version__,
    )  # fmt: skip
    return write_page(results.path, html, [picture], _to_frame(results, lines))


def verdict(lines: list[CompletionLine]) -> list[str]:
    """Return what came out, in plain sentences, one for each share hidden."""
    said = []
    for share in dict.fromkeys(x.share for x in lines):
        known = [x for x in lines if x.share == share and x.mse is not None]
        if not known:
            said.append(f"With {share:.0%} hidden no completer has a score: nothing was left to hide.")
            continue
        best, *others = known
        floor = f" where counting noise alone leaves about {format_number(best.floor)}" if best.floor else ""
        sentence = f"With {share:.0%} hidden {best.model} is closest, with a squared error of {format_number(best.mse)}"
        said.append(sentence + floor + _tell_next(others) + ".")
    return said


def _tell_next(others: list[CompletionLine]) -> str:
    """Return how far behind the next best is, and whether that is more than donors differ."""
    if not others or others[0].behind is None:
        return ""
    behind = others[0].behind
    text = f"; the next, {others[0].model}, is {format_number(behind.value)} behind"
    if behind.low is None or behind.high is None:
        return f"{text} (too few donors for an interval)"
    clear = "" if behind.low > 0 else ", so that donors do not tell them apart"
    return f"{text} (95% interval over donors {format_number(behind.low)} to {format_number(behind.high)}){clear}"


def completion_figure(lines: list[CompletionLine]) -> Figure:
    """Return one panel for each share hidden: a dot for each completer's squared error, and the noise floor.

    Completers stand in the order of the first panel. From five donors on a line is the interval over donors; below
    that each donor is a small mark. The axis is logarithmic.
    """
    shares = list(dict.fromkeys(x.share for x in lines))
    models = list(dict.fromkeys(x.model for x in lines))
    names_width = 0.6 + 0.085 * max(len(m) for m in models)
    size = (names_width + max(2.1 * len(shares), 4.2), 1.5 + 0.36 * len(models))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(shares), sharex=True, sharey=True, squeeze=False)[0]
    for axes, share in zip(panels, shares, strict=True):
        axes.set_xscale("log")
        own = [x for x in lines if x.share == share]
        for line in own:
            _draw_line(axes, line, models.index(line.model))
        _draw_floor(axes, next((x.floor for x in own if x.floor), None))
        axes.set_title(f"{share:.0%} hidden", loc="left", fontsize=11, fontweight="bold", pad=20)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelsize=9)
        axes.grid(axis="x", color="#ececec", linewidth=0.8, zorder=0)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_yticks(range(len(models)), models)
    panels[0].set_ylim(len(models) - 0.4, -0.6)
    figure.supxlabel("squared error on hidden counts, log2 scale; mean over sections, donors", fontsize=9, color=GREY)
    return figure


def _draw_line(axes: Axes, line: CompletionLine, y: int) -> None:
    score = line.scores[MAIN]
    if score.value is None:
        return
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [y, y], color=BLUE, linewidth=1.8, solid_capstyle="round", zorder=3)
    else:
        donors = list(score.by_donor.values())
        axes.plot(donors, [y] * len(donors), linestyle="", marker="|", markersize=9, color=BLUE, alpha=0.75, zorder=3)
    axes.scatter(score.value, y, s=52, facecolor=BLUE, edgecolor=BLUE, zorder=4)


def _draw_floor(axes: Axes, floor: float | None) -> None:
    if floor is None:
        return
    axes.axvline(floor, color=VERMILLION, linestyle=(0, (5, 3)), linewidth=1.4, zorder=2)
    axes.text(
        floor, 1.01, f"noise {floor:.2f}", transform=axes.get_xaxis_transform(), va="bottom", fontsize=8.5,
        color=VERMILLION,
    )  # fmt: skip


def _picture(lines: list[CompletionLine]) -> Picture:
    said = "; ".join(f"{x.model} at {x.share:.0%} {format_number(x.mse)}" for x in lines)
    return Picture(
        name=FIGURE,
        alt=f"Dot plot of the completers' squared error by share hidden: {said}",
        caption="Each dot is a completer's squared error on counts that were hidden from it; left is better",
        png=to_png(completion_figure(lines), dpi=PAGE_DPI),
    )


def _to_frame(results: Results, lines: list[CompletionLine]) -> pd.DataFrame:
    """Return the table for ``table.csv``: every score, and beside a squared error what it lies above the best."""
    behind = [
        {
            "task": x.scores[MAIN].task, "model": x.model, "metric": MAIN, "above_best": x.behind.value,
            "above_best_low": x.behind.low, "above_best_high": x.behind.high,
        }
        for x in lines
        if x.behind is not None
    ]  # fmt: skip
    columns = ["task", "model", "metric", "above_best", "above_best_low", "above_best_high"]
    return to_frame(results.scores).merge(pd.DataFrame(behind, columns=columns), how="left")


def _summary(name: str) -> str:
    """Return what a completer is; blank for one that is not installed any more."""
    try:
        return create_completer(name).card.summary
    except HescribeError:
        return ""
