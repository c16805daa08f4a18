"""Figures of an analysis: domains beside the pathologist's labels, and co-expression measured beside predicted."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

from hescribe.analysis.coexpression import Coexpression
from hescribe.analysis.domains import DomainScore, read_labels, section_domains
from hescribe.data.section import Section
from hescribe.report.figure import BLACK, BLUE, GREY
from hescribe.report.maps import CELL_IN, FOOT_IN, GAP_IN, HEAD_IN, MARGIN_IN, MapView, Sheet, draw_left

# Okabe and Ito's colours, told apart by colour-blind readers; a ninth region and later ones begin again.
REGIONS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#4d4d4d")
DRAWN = ("predicted", "measured", "image features", "colour")  # inputs whose domains are mapped
N_GENES = 40  # of a co-expression figure: more names cannot be read
CORRELATION = "PuOr_r"
N_KEYS = 5  # regions named in a line


def domain_figure(section: Section, inputs: Mapping[str, np.ndarray], scores: Sequence[DomainScore]) -> Figure:
    """Return H&E, the pathologist's regions, and the domains of each input in the colours of the regions they cover.

    Parameters
    ----------
    section
        With labels on at least two regions.
    inputs
        By name, shape ``(n_spots, n_columns)``.
    scores
        Of this section; the plain ones are written above the maps.
    """
    labels = read_labels(section)
    assert labels is not None  # the caller draws labelled sections only
    names = sorted(set(labels) - {""})
    truth = np.array([names.index(v) if v else -1 for v in labels])
    view, drawn = MapView.of(section), [n for n in DRAWN if n in inputs]
    left_width, step = CELL_IN, CELL_IN + 0.15
    first = MARGIN_IN + left_width + GAP_IN
    key_height = 0.2 * -(-len(names) // N_KEYS)
    height = HEAD_IN + view.height_in() + key_height + FOOT_IN
    sheet = Sheet(section, view, first + step * (1 + len(drawn)), height)
    draw_left(sheet, left_width, None)
    colours, norm = ListedColormap([REGIONS[i % len(REGIONS)] for i in range(len(names))]), Normalize(0, len(names) - 1)
    sheet.write(first, 0.24, "pathologist", fontsize=11, fontweight="bold", color=BLACK)
    sheet.draw_spots((first, HEAD_IN), f"{len(names)} regions", np.where(truth < 0, np.nan, truth), norm, colours)
    ari = {s.source: s.ari for s in scores if not s.smooth}
    for i, name in enumerate(drawn, start=1):
        found = match_domains(truth, section_domains(section, name, inputs[name]))
        left = first + i * step
        sheet.write(left, 0.24, name, fontsize=11, fontweight="bold", color=BLACK)
        values = np.where(found < 0, np.nan, found)
        sheet.draw_spots((left, HEAD_IN), f"adjusted Rand index {ari[name]:.2f}", values, norm, colours)
    for i, name in enumerate(names):
        at = (first + 1.75 * (i % N_KEYS), height - FOOT_IN - key_height + 0.25 + 0.2 * (i // N_KEYS))
        sheet.axes.plot([at[0]], [at[1] - 0.04], marker="o", markersize=7, color=REGIONS[i % len(REGIONS)])
        sheet.write(at[0] + 0.1, at[1], name, fontsize=8.5, color=BLACK)
    sheet.write(first, height - 0.08, "grey: no label, left out", fontsize=7.5, color=GREY)
    return sheet.figure


def match_domains(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the domains renumbered so that as many spots as can be have the number of their region.

    Parameters
    ----------
    truth, found
        Shape ``(n_spots,)``; -1 where there is none.

    Examples
    --------
    >>> match_domains(np.array([0, 0, 1, -1]), np.array([1, 1, 0, -1])).tolist()
    [0, 0, 1, -1]
    """
    there = found >= 0
    n = int(max(truth.max(), found.max())) + 1
    shared = np.zeros((n, n))
    np.add.at(shared, (found[there], truth[there]), 1)
    rows, columns = linear_sum_assignment(-shared)
    number = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return np.array([number[f] if f >= 0 else -1 for f in found.tolist()])


def coexpression_figure(found: Coexpression) -> Figure:
    """Return the correlation of every two genes, measured beside predicted, in one order and on one scale.

    The 40 genes that go most with others are drawn, like ones side by side.
    """
    measured = np.nan_to_num(found.measured)
    strongest = np.sort(np.argsort(-np.abs(measured).mean(axis=1), kind="stable")[:N_GENES])
    part = measured[np.ix_(strongest, strongest)]
    apart = np.clip(1 - (part + part.T) / 2, 0, 2)
    np.fill_diagonal(apart, 0)
    order = strongest[leaves_list(linkage(squareform(apart, checks=False), "average"))] if len(part) > 2 else strongest
    names = [found.genes[i].replace("$", r"\$") for i in order]
    label_in = 0.065 * max((len(n) for n in names), default=0)
    figure = Figure(figsize=(11.4 + label_in, 5.6 + label_in), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, values in zip(panels, ("measured", "predicted"), (found.measured, found.predicted), strict=True):
        image = axes.imshow(values[np.ix_(order, order)], cmap=CORRELATION, vmin=-1, vmax=1)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panels, shrink=0.6, pad=0.01)
    bar.set_label("correlation over spots", fontsize=9, color=GREY)
    bar.outline.set_visible(False)
    return figure


def agreement_figure(scores: Sequence[DomainScore]) -> Figure:
    """Return a dot for each input's mean adjusted Rand index over sections: filled plain, hollow smoothed."""
    sources = list(dict.fromkeys(s.source for s in scores))
    mean = {
        (name, smooth): float(np.mean([s.ari for s in scores if (s.source, s.smooth) == (name, smooth)]))
        for name in sources
        for smooth in (False, True)
    }
    sources.sort(key=lambda name: -mean[name, False])
    figure = Figure(figsize=(8.6, 1.1 + 0.34 * len(sources)), layout="constrained")
    axes: Axes = figure.subplots()
    for y, name in enumerate(sources):
        colour = BLUE if name == "predicted" else BLACK
        for smooth, face in ((False, colour), (True, "white")):
            label = ("smoothed over touching spots" if smooth else "spot by spot") if y == 0 else None
            axes.scatter(
                mean[name, smooth], y, s=58, facecolor=face, edgecolor=colour, linewidth=1.5, zorder=3, label=label
            )
    axes.set_yticks(range(len(sources)), sources)
    axes.set_ylim(len(sources) - 0.5, -0.5)
    axes.axvline(0, color=BLACK, linewidth=0.8, zorder=1)
    axes.set_xlabel("adjusted Rand index against the pathologist; 0 is chance, 1 is perfect", fontsize=9, color=GREY)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#ececec", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    return figure
