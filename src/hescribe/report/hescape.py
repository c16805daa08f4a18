"""The report of the suite hescape: aligners beside the ridge that they must beat, pool by pool, and the published."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hescribe import __version__
from hescribe.bench.hescape.published import published_recall
from hescribe.bench.hescape.suite import RIVAL, AlignerLine, CohortResults, HescapeResults
from hescribe.bench.hescape.task import BATCHES, questions
from hescribe.metrics.pools import POOLS
from hescribe.metrics.stats import MIN_DONORS, DonorMean
from hescribe.report.figure import BLACK, BLUE, GREY, VERMILLION
from hescribe.report.page import Picture, to_png, write_page
from hescribe.report.robustness import STYLES, describe_robustness, robustness_figure
from hescribe.report.table import format_number, to_frame
from hescribe.report.template import template_environment

PAGE_DPI = 170
SHOWN_SIZE = 256  # candidates of the pools in the page; the CSV has all sizes
TITLES = {"auc": "AUC", "recall_at_5": "recall at 5"}  # of the main scores
ARROWS = ("image → expression", "expression → image")


@dataclass(frozen=True, kw_only=True)
class PoolCell:
    """Recall at 5 in one direction, its chance, and the share of top hits from another section where that is scored."""

    recall: float
    chance: float
    other: float | None


@dataclass(frozen=True, kw_only=True)
class CohortPart:
    """What the page shows of one cohort."""

    name: str
    found: CohortResults
    verdict: str
    pictures: list[Picture]
    pools: dict[str, dict[str, list[PoolCell]]]
    published: list[dict[str, object]]


def write_hescape_report(results: HescapeResults) -> Path:
    """Write ``report.html``, ``table.csv`` and one figure a cohort into the folder of a run, and return the page.

    Raises
    ------
    DataAccessError
        If a cohort has no finished cell, or the folder cannot be written.
    """
    parts = [_part(name, found) for name, found in results.cohorts.items()]
    plans = [p.found.results.plan for p in parts]
    html = template_environment().get_template("hescape.html.j2").render(
        parts=parts, protocol=plans[0]["protocol"], arrows=ARROWS, about=POOLS, shown_size=SHOWN_SIZE,
        metric=TITLES[parts[0].found.main[0]], min_donors=MIN_DONORS,
        n_cells=sum(len(p["cells"]) for p in plans), n_missing=sum(p.found.results.n_missing for p in parts),
        version=__version__,
    )  # fmt: skip
    pictures = [p for part in parts for p in part.pictures]
    return write_page(results.path, html, pictures, hescape_table(results))


def hescape_table(results: HescapeResults) -> pd.DataFrame:
    """Return all scores of all cohorts, and the published ones, marked by ``source``."""
    parts = []
    for found in results.cohorts.values():
        dataset = found.results.plan["task"]["cohort"]["id"]
        sizes = found.results.rows.groupby("task")["pool_size"].agg(["min", "max"])
        ours = to_frame(found.results.scores).assign(source="measured here", dataset=dataset)
        parts.append(ours.join(sizes.set_axis(["smallest pool", "largest pool"], axis=1), on="task"))
        theirs = published_recall(dataset).melt(
            id_vars=["dataset", "gene_encoder", "image_encoder", "doubt"], value_vars=["i2g", "g2i"], var_name="task"
        )
        model = theirs["gene_encoder"] + "-" + theirs["image_encoder"]
        more = {
            "model": model,
            "metric": "recall_at_5",
            "protocol": "hescape-2025",
            "source": "published, HESCAPE 2025",
        }
        if len(theirs):
            parts.append(theirs.assign(**more).drop(columns=["gene_encoder", "image_encoder"]))
    return pd.concat(parts, ignore_index=True)


def verdict(found: CohortResults) -> str:
    """Return what came out in plain sentences: who leads, and whether it beats a ridge used as a retriever."""
    aligners = [x for x in found.lines if not x.control]
    if not aligners:
        return "No aligner has a finished cell yet."
    best, title = aligners[0], TITLES[found.main[0]]
    first = f"Best aligner: {best.model}, {title} {format_number(best.main.value)}."
    if best.ahead is None:
        return f"{first} No ridge retriever was run beside it, so that it is not known whether aligning was of use."
    gain = format_number(abs(best.ahead.value))
    way = "ahead of" if best.ahead.value > 0 else "behind"
    if best.ahead.low is None or best.ahead.high is None:
        n = len(best.ahead.by_donor)
        return f"{first} It is {gain} {way} the best ridge used as a retriever; {n} donors are too few for an interval."
    is_told = best.ahead.low > 0 or best.ahead.high < 0
    told = "" if is_told else ", and not told apart from it"
    interval = f"[{format_number(best.ahead.low)}, {format_number(best.ahead.high)}]"
    return f"{first} It is {gain} {way} the best ridge used as a retriever{told}: paired over donors {interval}."


def retrieval_figure(found: CohortResults) -> Figure:
    """Return the main score of every model, best on top, beside the same without depth; a hollow dot is a control."""
    lines = found.lines
    views = [("", [x.main for x in lines])]
    if found.main[2]:
        views.append((" without depth", [x.without_depth or x.main for x in lines]))
    figure = Figure(figsize=(4.4 + 2.6 * len(views), 1.3 + 0.36 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(views), sharex=True, sharey=True, squeeze=False)[0]
    _, chance = found.score(lines[0].model, found.main[0], *found.main[1])
    for axes, (what, means) in zip(panels, views, strict=True):
        for y, (line, mean) in enumerate(zip(lines, means, strict=True)):
            _draw(axes, y, line, mean)
        axes.axvline(chance, color=GREY, linewidth=1.2)
        rivals = [m.value for x, m in zip(lines, means, strict=True) if x.model.partition(":")[0] == RIVAL]
        if rivals:
            axes.axvline(max(rivals), color=VERMILLION, linestyle=(0, (5, 3)), linewidth=1.5)
        axes.set_title(TITLES[found.main[0]] + what, loc="left", fontsize=11)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#ececec", linewidth=0.8)
    panels[0].set_yticks(range(len(lines)), [x.model.replace(":", "\n", 1) for x in lines], fontsize=8.5)
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    panels[0].axvline(chance, color=GREY, linewidth=1.2, label="chance")
    panels[0].plot([], [], color=VERMILLION, linestyle=(0, (5, 3)), label="best ridge as a retriever")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw(axes: Axes, y: int, line: AlignerLine, mean: DonorMean) -> None:
    colour = BLACK if line.control else BLUE
    if mean.low is not None and mean.high is not None:
        axes.plot([mean.low, mean.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="round")
    else:
        donors = list(mean.by_donor.values())
        axes.plot(donors, [y] * len(donors), linestyle="", marker="|", markersize=9, color=colour, alpha=0.75)
    face = "white" if line.control else colour
    axes.scatter(mean.value, y, s=58, zorder=3, facecolor=face, edgecolor=colour, linewidth=1.6)


def _part(name: str, found: CohortResults) -> CohortPart:
    said = "; ".join(f"{x.model} {format_number(x.main.value)}" for x in found.lines)
    title = TITLES[found.main[0]]
    picture = Picture(
        name=f"{name}.png", alt=f"{title}: {said}",
        caption=f"{title}, both directions, mean over sections and donors. Lines are intervals over donors, or marks "
        "single donors where there are too few; hollow dots are controls",
        png=to_png(retrieval_figure(found), PAGE_DPI),
    )  # fmt: skip
    published = published_recall(found.results.plan["task"]["cohort"]["id"])
    return CohortPart(
        name=name, found=found, verdict=verdict(found), pictures=[picture, *_curves(name, found)], pools=_pools(found),
        published=published.to_dict("records"),
    )  # fmt: skip


def _curves(name: str, found: CohortResults) -> list[Picture]:
    """Return the figure of what models find as the batch of the test donors shifts away, if that was asked."""
    curves = dict(list(found.curves.items())[: len(STYLES)])
    if not curves:
        return []
    shifts = ", ".join(found.protocol.shifts)
    return [
        Picture(
            name=f"{name}_shifted.png", alt=describe_robustness(curves),
            caption=f"AUC within sections as the batch of the test donors shifts away ({shifts}; 1 is the strongest), "
            f"mean over donors with intervals where there are {MIN_DONORS}",
            png=to_png(robustness_figure({name: curves}), PAGE_DPI),
        )
    ]  # fmt: skip


def _pools(found: CohortResults) -> dict[str, dict[str, list[PoolCell]]]:
    """Return recall at 5 by pool and model, one cell a direction."""
    plain = [q for q in questions(found.protocol) if not q.without_depth and not q.shift]
    asked = [q for q in plain if q.pool == BATCHES or q.size == SHOWN_SIZE]
    out: dict[str, dict[str, list[PoolCell]]] = {}
    for question in asked:
        for line in found.lines:
            recall, chance = found.score(line.model, "recall_at_5", question)
            other, _ = found.score(line.model, "other_section", question)
            cell = PoolCell(recall=recall.value, chance=chance, other=other.value if other.by_donor else None)
            out.setdefault(question.pool, {}).setdefault(line.model, []).append(cell)
    return out
