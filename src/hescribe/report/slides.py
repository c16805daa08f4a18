"""The report of slide-level tasks: scores with intervals, few-shot curves, and where attention lies on a slide."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from hescribe import __version__
from hescribe.bench.scores import Score
from hescribe.bench.slides.cards import METRICS
from hescribe.bench.slides.cells import ATTENTION
from hescribe.bench.slides.results import SlideResults, TaskScores, describe
from hescribe.bench.store import Store
from hescribe.errors import InputError
from hescribe.metrics.gene import rank
from hescribe.metrics.stats import MIN_DONORS
from hescribe.report.figure import BLACK, BLUE, GREY, VERMILLION
from hescribe.report.page import Picture, to_png, write_page
from hescribe.report.table import format_number, to_frame
from hescribe.report.template import template_environment
from hescribe.slide.bags import Places

DPI = 150
LOOKS = ((BLUE, "o"), (VERMILLION, "s"), ("#009E73", "D"), ("#E69F00", "^"), ("#CC79A7", "v"))  # Okabe and Ito's
TITLES = {
    "auc": "AUC", "balanced_accuracy": "balanced accuracy", "quadratic_kappa": "quadratic kappa", "c_index": "c-index",
}  # fmt: skip
ATTENTIVE = ("abmil", "transmil")  # models whose attention is learned


def write_slide_report(results: SlideResults) -> Path:
    """Write ``report.html``, ``table.csv`` and ``figures/`` into the folder of a run, and return the page.

    Raises
    ------
    DataAccessError
        If a task has no finished cell, or the folder cannot be written.
    """
    tasks: list[dict[str, Any]] = [
        {"facts": t.task.facts, "said": describe(t.task), "gains": _gains(t), "pictures": _pictures(t)}
        for t in results.tasks.values()
    ]
    first = next(iter(results.tasks.values())).task.protocol
    html = template_environment().get_template("slides.html.j2").render(
        tasks=tasks, scores=results.scores, titles=TITLES, protocol=first, study=results.study, min_donors=MIN_DONORS,
        n_missing=sum(t.results.n_missing for t in results.tasks.values()), version=__version__,
    )  # fmt: skip
    pictures = [p for task in tasks for p in task["pictures"]]
    return write_page(results.path, html, pictures, to_frame(results.scores))


def score_figure(scores: list[Score], metric: str) -> Figure:
    """Return few-shot curves, or a dot for each model where all train donors are used; lines are intervals."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    models = list(dict.fromkeys(s.model for s in scores))
    for i, (model, (colour, marker)) in enumerate(zip(models, cycle(LOOKS), strict=False)):
        own = [s for s in scores if s.model == model]
        shots = [int(s.task.partition("k=")[2] or 0) for s in own]
        places = np.array([np.log2(k) if k else i for k in shots]) + (i - (len(models) - 1) / 2) * 0.06
        values, low, high = (np.array([getattr(s, x) for s in own], dtype=float) for x in ("value", "low", "high"))
        axes.plot(places, values, color=colour, marker=marker, markersize=6.5, linewidth=1.6, label=model, zorder=3)
        axes.vlines(places, low, high, color=colour, linewidth=1.3, alpha=0.6, zorder=2)
    _finish(figure, axes, scores, metric)
    return figure


def _finish(figure: Figure, axes: Axes, scores: list[Score], metric: str) -> None:
    """Name the axes, draw chance, tidy up."""
    shots = sorted({int(k) for s in scores if (k := s.task.partition("k=")[2])})
    if shots:
        axes.set_xticks(np.log2(shots), [str(k) for k in shots])
        axes.set_xlabel("train donors of each class", fontsize=9.5, color=GREY)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    else:
        models = list(dict.fromkeys(s.model for s in scores))
        axes.set_xticks(range(len(models)), models)
        axes.set_xlim(-0.6, len(models) - 0.4)
    if scores[0].chance is not None:
        axes.axhline(scores[0].chance, color=BLACK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate("chance", (1, scores[0].chance), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                      textcoords="offset points", ha="right", fontsize=8.5, color=GREY)  # fmt: skip
    axes.set_ylabel(TITLES[metric], fontsize=9.5, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)


def attention_figure(weights: np.ndarray, places: Places, *, image: np.ndarray | None = None) -> Figure:
    """Return the tiles of a slide, coloured by the rank of their attention.

    Parameters
    ----------
    weights
        Attention, shape ``(n_tiles,)``. Ranks are shown, 0 the least: a few tiles often hold nearly all of the weight.
    places
        Where the tiles lie.
    image
        The slide as a picture to lie beside, shape ``(h, w, 3)`` uint8.

    Raises
    ------
    InputError
        If there is not one place for each weight.
    """
    if len(weights) != len(places.xy):
        raise InputError(f"there are {len(weights)} weights and {len(places.xy)} places of tiles; give one for each")
    share = (rank(np.asarray(weights, dtype=np.float64)[:, None])[:, 0] - 0.5) / len(weights)
    side = places.side or _spacing(places.xy)
    corner = places.xy[:, None, :] + side / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    figure = Figure(figsize=(5.6 if image is None else 10.0, 4.6), layout="constrained")
    panels = figure.subplots(1, 1 if image is None else 2, squeeze=False)[0]
    if image is not None:
        panels[0].imshow(image)
        panels[0].set_axis_off()
    tiles = PolyCollection(list(corner), array=share, cmap="cividis", clim=(0, 1), edgecolor="face", linewidth=0.2)
    axes = panels[-1]
    axes.add_collection(tiles)
    axes.set_xlim(corner[..., 0].min(), corner[..., 0].max())
    axes.set_ylim(corner[..., 1].max(), corner[..., 1].min())  # as in the image, down
    axes.set_aspect("equal")
    axes.set_axis_off()
    bar = figure.colorbar(tiles, ax=axes, shrink=0.7)
    bar.set_label("attention, rank among the tiles", fontsize=9, color=GREY)
    bar.outline.set_visible(False)
    return figure


def _spacing(xy: np.ndarray) -> float:
    """Return the distance of neighbouring tiles: the smallest step along either axis."""
    steps = np.concatenate([np.diff(np.unique(xy[:, axis].round(3))) for axis in (0, 1)])
    return float(steps.min()) if steps.size else 1.0


def _gains(scores: TaskScores) -> list[dict[str, object]]:
    """Return what each model scores above the first one of the study, with the interval over donors."""
    metric, (base, *others) = next(iter(METRICS[scores.task.facts.kind])), scores.models
    return [
        {"at": at, "model": model, "base": base, "value": gain[0], "low": gain[1], "high": gain[2]}
        for at in scores.folds
        for model in others
        if (gain := scores.gain(model, base, at, metric)) is not None
    ]


def _pictures(scores: TaskScores) -> list[Picture]:
    """Return the figure of the scores of a task, and a map of attention where tiles have places."""
    task, metric = scores.task, next(iter(METRICS[scores.task.facts.kind]))
    shown = [scores.score(m, at, metric) for m in scores.models for at in scores.folds]
    said = "; ".join(f"{s.model} ({s.task}) {format_number(s.value)}" for s in shown)
    pictures = [
        Picture(
            name=f"{task.name}.png",
            alt=f"{TITLES[metric]} of {task.name}: {said}",
            caption=f"{TITLES[metric]}, mean over folds and seeds; vertical lines are 95 % intervals over donors",
            png=to_png(score_figure(shown, metric), DPI),
        )
    ]
    return pictures + _attention_pictures(scores)


def _attention_pictures(scores: TaskScores) -> list[Picture]:
    """Return one map of the attention of each model that learned one."""
    store, bags = Store(scores.path), {b.id: b for b in scores.task.bags}
    found: dict[str, Picture] = {}
    for cell in scores.results.finished:
        if cell["method"] in ATTENTIVE and cell["model"] not in found:
            for name, weights in store.read_predictions(cell["key"]).items():
                slide = name.removeprefix(ATTENTION)
                places = bags[slide].read_places() if slide != name else None
                if places is not None:
                    found[cell["model"]] = Picture(
                        name=f"{scores.task.name}_attention_{len(found)}.png",
                        alt=f"Tiles of slide {slide}, coloured by the rank of the attention of {cell['model']}",
                        caption=f"Attention of {cell['model']} on slide {slide}, which it was not trained on",
                        png=to_png(attention_figure(weights, places), DPI),
                    )
                    break
    return list(found.values())
