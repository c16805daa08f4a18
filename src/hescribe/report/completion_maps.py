"""Maps of a completed section: what was measured beside what a completer made of it, and how sure it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hescribe import keys
from hescribe._support import write_whole
from hescribe.data.section import Section
from hescribe.report.figure import BLACK, GREY
from hescribe.report.maps import (
    BAR_IN,
    CELL_IN,
    DPI,
    EXPRESSION,
    FOOT_IN,
    GAP_IN,
    HEAD_IN,
    LOGNORM_UNIT,
    MARGIN_IN,
    MapView,
    Sheet,
    draw_left,
    shared_norm,
)  # fmt: skip

SPREAD = "magma"
STEP_IN = CELL_IN + 0.04
TITLE_IN, LINE_IN = 1.2, 0.16


def write_completion_map(path: Path, section: Section, genes: Sequence[str]) -> None:
    """Write the map of one completed section as PNG; see ``completion_figure``."""
    figure = completion_figure(section, genes)
    with write_whole(path) as tmp:
        figure.savefig(tmp, dpi=DPI, format="png")


def completion_figure(section: Section, genes: Sequence[str]) -> Figure:
    """Return H&E, and for each gene measured | completed on one scale, and the spread of what was filled in.

    Parameters
    ----------
    section
        From ``complete``; with its image if it has one.
    genes
        Of its panel, one to three.
    """
    view, has_sd = MapView.of(section), keys.COMPLETED_SD in section.table.layers
    left_width = TITLE_IN if section.image is None else 1.8 * CELL_IN if len(genes) > 1 else CELL_IN
    block = HEAD_IN + view.height_in()
    first = MARGIN_IN + left_width + GAP_IN
    width = first + 2 * STEP_IN + BAR_IN + (CELL_IN + BAR_IN if has_sd else 0)
    height = max(HEAD_IN + view.height_in(left_width), len(genes) * block) + FOOT_IN + LINE_IN
    sheet = Sheet(section, view, width, height)
    draw_left(sheet, left_width, None)
    for i, gene in enumerate(genes):
        _draw_gene(sheet, first, i * block, gene)
    grey = "grey: nothing was counted (measured), or nothing filled in (sd)" if has_sd else "grey: nothing was counted"
    sheet.write(first, height - 0.1 - LINE_IN, f"one colour scale for both, {LOGNORM_UNIT}", fontsize=7.5, color=GREY)
    sheet.write(first, height - 0.1, grey, fontsize=7.5, color=GREY)
    return sheet.figure


def _draw_gene(sheet: Sheet, left: float, top: float, gene: str) -> None:
    table = sheet.section.table[:, gene]
    completed, observed = (np.asarray(table.layers[k]).ravel() for k in (keys.COMPLETED, keys.OBSERVED))
    measured = np.where(observed, completed, np.nan)
    sheet.write(left, top + 0.24, gene, fontsize=11, fontweight="bold", color=BLACK)
    sheet.write(left, top + 0.42, f"counted in {observed.mean():.0%} of the spots", fontsize=8, color=GREY)
    norm, at = shared_norm(completed), top + HEAD_IN
    sheet.draw_spots((left, at), "measured", measured, norm, EXPRESSION)
    sheet.draw_spots((left + STEP_IN, at), "completed", completed, norm, EXPRESSION)
    sheet.draw_bar(left + STEP_IN + CELL_IN, at, norm, EXPRESSION)
    if keys.COMPLETED_SD not in table.layers or observed.all():
        return
    sd = np.where(observed, np.nan, np.asarray(table.layers[keys.COMPLETED_SD]).ravel())
    spread = Normalize(0.0, max(float(np.nanpercentile(sd, 99)), 1e-3))
    right = left + 2 * STEP_IN + BAR_IN
    sheet.draw_spots((right, at), "sd of what was filled in", sd, spread, SPREAD)
    sheet.draw_bar(right + CELL_IN, at, spread, SPREAD)
