"""The report of the suite spared: ranks of predictors on measured and on filled labels, and what was published."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hescribe import __version__
from hescribe.bench.protocols import MEASURED
from hescribe.bench.spared_suite import Entrant, SparedResults, published_scores
from hescribe.metrics.base import all_metrics
from hescribe.metrics.stats import MIN_DONORS
from hescribe.report.figure import BLACK, BLUE, GREY, VERMILLION
from hescribe.report.page import Picture, to_png, write_page
from hescribe.report.table import format_number, to_frame
from hescribe.report.template import template_environment

PAGE_DPI = 170
FIGURE = "ranks.png"
LOOKS = ((BLUE, "o"), ("#E69F00", "s"), (VERMILLION, "D"), ("#009E73", "^"), ("#CC79A7", "v"))  # Okabe and Ito's


def write_spared_report(results: SparedResults) -> Path:
    """Write ``report.html``, ``table.csv`` and ``figures/ranks.png`` into the folder of a run, and return the page.

    Raises
    ------
    DataAccessError
        If no cell is finished, or the folder cannot be written.
    """
    plan = results.runs[MEASURED].plan
    picture = _picture(results)
    published = published_scores(plan["task"]["cohort"]["id"])
    html = template_environment().get_template("spared.html.j2").render(
        task=plan["task"], cohort=plan["task"]["cohort"], protocol=plan["protocol"], entrants=results.entrants,
        labels=list(results.runs), picture=picture, verdict=verdict(results),
        metrics=[all_metrics()[m] for m in plan["protocol"]["metrics"]], by_labels=results.by_labels,
        published=published.to_dict("records"), donors=sorted(results.runs[MEASURED].rows["donor"].unique()),
        min_donors=MIN_DONORS, controls=[s for s in results.scores if s.control and s.metric == results.main],
        n_cells=sum(len(r.plan["cells"]) for r in results.runs.values()),
        n_missing=sum(r.n_missing for r in results.runs.values()), version=__version__,
    )  # fmt: skip
    return write_page(results.path, html, [picture], spared_table(results))


def spared_table(results: SparedResults) -> pd.DataFrame:
    """Return all scores of all runs, and the published ones for this dataset, marked by ``source``."""
    ours = pd.concat(
        [to_frame(r.scores).assign(source="measured here", labels=labels) for labels, r in results.runs.items()]
    )
    dataset = results.runs[MEASURED].plan["task"]["cohort"]["id"]
    theirs = published_scores(dataset).melt(
        id_vars=["title", "model", "doubt"], value_vars=["pearson_measured", "mse_entries"], var_name="metric"
    )
    theirs = theirs.assign(source="published, SpaRED 2024", protocol="spared-2024", labels="not said")
    return pd.concat([ours, theirs.dropna(subset="value")], ignore_index=True) if len(theirs) else ours


def verdict(results: SparedResults) -> list[str]:
    """Return what came out, in plain sentences: who leads, who ties with it, and what filled labels changed."""
    entrants = results.entrants
    best = entrants[0]
    ties = [_name(entrants[i]) for i in sorted(best.tied - {0})]
    tied = f", not told apart from {_list(ties)}" if ties else ", and is told apart from all others"
    n_donors = results.runs[MEASURED].rows["donor"].nunique()
    rests = (
        "Ties rest on donors."
        if results.rests_on == "donors"
        else f"Ties rest on genes and sections, for there are {n_donors} donor{'s' if n_donors > 1 else ''} only: "
        "they say nothing about new donors."
    )
    first = f"Best mean rank: {_name(best)} ({format_number(best.mean_rank, 1)} of {len(entrants)}){tied}. {rests}"
    return [first, *(_on_completion(results, completer) for completer in results.study.completers)]


def _on_completion(results: SparedResults, completer: str) -> str:
    if not results.by_labels:
        return f"No predictor has a score on every kind of labels yet, those filled by {completer} included."
    gains = np.array([v[completer] - v[MEASURED] for v in results.by_labels.values()])
    n_better, title = int((gains > 0).sum()), all_metrics()[results.main].title
    return (
        f"Trained on labels filled by {completer}, {n_better} of {len(gains)} predictors score higher; the change of "
        f"{title} is {format_number(float(gains.mean()))} on average, from {format_number(float(gains.min()))} to "
        f"{format_number(float(gains.max()))}."
    )


def rank_figure(results: SparedResults) -> Figure:
    """Return the mean rank of every entrant, best on top; bars join those that are not told apart."""
    entrants = results.entrants
    groups = _tie_groups(entrants)
    looks = dict(zip(results.runs, cycle(LOOKS), strict=False))
    figure = Figure(figsize=(8.6, 1.6 + 0.34 * len(entrants)), layout="constrained")
    axes = figure.add_subplot()
    for y, entrant in enumerate(entrants):
        colour, marker = looks[entrant.labels]
        axes.plot([1, entrant.mean_rank], [y, y], color="#dcdcdc", linewidth=1.2, zorder=1)
        axes.scatter(
            entrant.mean_rank, y, s=58, zorder=3, edgecolor=colour, linewidth=1.6, marker=marker,
            facecolor=colour if entrant.labels == MEASURED else "white",
        )  # fmt: skip
    _draw_ties(axes, groups, len(entrants))
    axes.set_yticks(range(len(entrants)), [_name(x) for x in entrants], fontsize=9.5)
    axes.set_ylim(len(entrants) - 0.4, -0.7)
    axes.set_xlabel("mean rank over genes, sections and donors (1 is best)", fontsize=9, color=GREY)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for labels, (colour, marker) in looks.items():
        axes.scatter(
            [], [], marker=marker, edgecolor=colour, linewidth=1.6,
            facecolor=colour if labels == MEASURED else "white",
            label="measured labels" if labels == MEASURED else f"filled by {labels}",
        )  # fmt: skip
    axes.plot([], [], color=BLACK, linewidth=3, label="not told apart")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    return figure


def _tie_groups(entrants: list[Entrant]) -> list[tuple[int, int]]:
    """Return the longest runs of places in which nobody is told apart from the first."""
    groups: list[tuple[int, int]] = []
    for first, entrant in enumerate(entrants):
        last = first
        while last + 1 in entrant.tied:
            last += 1
        if last > first and not (groups and groups[-1][1] >= last):
            groups.append((first, last))
    return groups


def _draw_ties(axes: Axes, groups: list[tuple[int, int]], n: int) -> None:
    """Draw a bar at the right for each group, side by side."""
    for column, (first, last) in enumerate(groups):
        x = 1.02 + 0.016 * column
        axes.plot(
            [x, x], [first - 0.3, last + 0.3], transform=axes.get_yaxis_transform(), color=BLACK, linewidth=2.6,
            clip_on=False, solid_capstyle="butt",
        )  # fmt: skip
    axes.set_xlim(0.6, n + 0.4)


def _picture(results: SparedResults) -> Picture:
    said = "; ".join(f"{_name(x)} {x.mean_rank:.1f}" for x in results.entrants)
    return Picture(
        name=FIGURE,
        alt=f"Mean ranks: {said}",
        caption=f"Mean rank by {all_metrics()[results.main].title}. A black bar joins those that are not told apart",
        png=to_png(rank_figure(results), PAGE_DPI),
    )


def _name(entrant: Entrant) -> str:
    return entrant.model if entrant.labels == MEASURED else f"{entrant.model}, {entrant.labels}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
