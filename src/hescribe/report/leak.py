"""The leak meter as a figure and a table: one bar for each shortcut, beside depth, chance and ceiling."""

import json
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hescribe._support import write_whole
from hescribe.bench.leak import LeakLine
from hescribe.report.figure import BAND, BLACK, BLUE, GREY, VERMILLION
from hescribe.report.table import format_number

SKY = "#56B4E9"
DPI = 170
COLUMNS = {1.09: "score", 1.2: "change"}  # place of the right end, in widths of the axes


def leak_figure(lines: list[LeakLine], model: str) -> Figure:
    """Return one horizontal bar for each protocol: the model's Pearson, the honest protocol on top.

    A diamond is what log total counts alone reach, the grey band what shuffled pairs do (mean and twice
    their spread), the dashed mark the noise ceiling. A change within the noise is written in grey.

    Parameters
    ----------
    lines
        From ``bench.leak.measure_leaks``.
    model
        Whose score the bars are.
    """
    figure = Figure(figsize=(10.2, 1.6 + 0.52 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for y, line in enumerate(lines):
        _draw_line(axes, line, y)
        _write_numbers(axes, line, y)
    _write_heads(axes, -0.75)
    axes.set_yticks(range(len(lines)), [x.title for x in lines], fontsize=10)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_title(f"What each published shortcut does to the score of {model}", loc="left", fontsize=12, pad=20)
    axes.set_xlabel("Pearson correlation, mean over genes, sections, donors", fontsize=9, color=GREY)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    _draw_key(axes, model)
    return figure


def _draw_line(axes: Axes, line: LeakLine, y: int) -> None:
    if line.null is not None and line.null_sd is not None:
        low, high = line.null - 2 * line.null_sd, line.null + 2 * line.null_sd
        axes.barh(y, high - low, left=low, height=0.84, color=BAND, zorder=1.5)
    if line.pearson is not None:
        axes.barh(y, line.pearson, height=0.5, color=SKY if line.shortcut else BLUE, zorder=2)
    if line.depth_oracle is not None:
        axes.plot(line.depth_oracle, y, marker="D", markersize=6.5, color=BLACK, markerfacecolor="white", zorder=4)
    if line.ceiling is not None:
        axes.plot([line.ceiling] * 2, [y - 0.4, y + 0.4], color=VERMILLION, linestyle=(0, (3, 2)), zorder=3)


def _write_heads(axes: Axes, y: float) -> None:
    for x, text in COLUMNS.items():
        axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha="right", fontsize=9, color=GREY)


def _write_numbers(axes: Axes, line: LeakLine, y: int) -> None:
    """Write score and change at the right; a change within the noise is grey."""
    is_clear = line.gain is not None and line.noise is not None and abs(line.gain) > line.noise
    sign = "+" if line.gain is not None and line.gain >= 0 else ""
    texts = (format_number(line.pearson), "" if line.gain is None else sign + format_number(line.gain))
    for x, text, colour in zip(COLUMNS, texts, (BLACK, BLACK if is_clear else GREY), strict=True):
        axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=10, color=colour)


def _draw_key(axes: Axes, model: str) -> None:
    diamond, ceiling = (
        axes.plot([], [], marker="D", linestyle="", color=BLACK, markerfacecolor="white")[0],
        axes.plot([], [], color=VERMILLION, linestyle=(0, (3, 2)))[0],
    )
    axes.legend(
        [Patch(color=BLUE), Patch(color=SKY), diamond, Patch(color=BAND), ceiling],
        [f"{model}, honest", "with the shortcut", "log total counts alone", "shuffled pairs", "noise ceiling"],
        loc="upper center", bbox_to_anchor=(0.42, -0.11), ncols=5, frameon=False, fontsize=9, handletextpad=0.5,
    )  # fmt: skip


def write_leaks(lines: list[LeakLine], model: str, out: Path) -> tuple[Path, Path]:
    """Write ``leak.csv`` and ``leak.png`` into ``out`` and return their paths.

    Raises
    ------
    DataAccessError
        If the folder cannot be written.
    """
    table, picture = out / "leak.csv", out / "leak.png"
    flat = [{**x.as_json(), "by_donor": json.dumps(x.by_donor)} for x in lines]
    with write_whole(table) as tmp:
        pd.DataFrame(flat).to_csv(tmp, index=False)
    with write_whole(picture) as tmp:
        leak_figure(lines, model).savefig(tmp, dpi=DPI, format="png", bbox_inches="tight", pad_inches=0.15)
    return table, picture
