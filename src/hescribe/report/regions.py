"""The picture of an explanation: the image around a spot, and what every square of it does to a prediction."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke

from hescribe._support import write_whole
from hescribe.bench.regions import Regions
from hescribe.data.section import Section
from hescribe.prep.graph import pitch_um
from hescribe.report.figure import BLACK, GREY, VERMILLION
from hescribe.report.maps import ERROR, TRUSTED, round_length_um
from hescribe.report.table import format_number
from hescribe.units import patch_mpp

DPI = 130
SIDE_PX = 480  # of the image
SPOT_SHARE = 0.27  # radius of a spot, in pitches
LEAST = 1e-6  # a change below it is rounding


def write_regions(path: Path, section: Section, regions: Regions, trust: str) -> None:
    """Write the picture as PNG.

    Parameters
    ----------
    path
        File to write.
    section, regions
        What was asked, and what came out.
    trust
        Trust class of the gene.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    """
    with write_whole(path) as tmp:
        regions_figure(section, regions, trust).savefig(tmp, dpi=DPI, format="png")


def regions_figure(section: Section, regions: Regions, trust: str) -> Figure:
    """Return the image around the spot beside the same with a square for every change.

    Orange squares speak for the gene (covered, the prediction falls), purple ones against it; the deeper, the more.
    """
    figure = Figure(figsize=(9.4, 5.1))
    first, second = figure.add_axes((0.02, 0.12, 0.42, 0.7)), figure.add_axes((0.46, 0.12, 0.42, 0.7))
    limit = max(float(np.abs(regions.fall).max()), LEAST)
    for axes in (first, second):
        _draw_image(axes, section, regions)
    first.set_title("H&E", loc="left", fontsize=10, color=GREY)
    _draw_scale_bar(first, regions)
    low, high, last = *regions.corner_um, regions.side_um * len(regions.fall)
    shown = second.imshow(
        regions.fall, cmap=ERROR, norm=Normalize(-limit, limit), alpha=0.72, zorder=2,
        extent=(low, low + last, high + last, high),
    )  # fmt: skip
    second.set_title("covered square by square", loc="left", fontsize=10, color=GREY)
    _draw_spots(second, section, regions)
    bar = figure.colorbar(shown, cax=figure.add_axes((0.9, 0.16, 0.018, 0.62)))
    bar.set_label("fall of the prediction when covered", fontsize=8.5, color=GREY)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    _write_text(figure, section, regions, trust)
    return figure


def _draw_image(axes: Axes, section: Section, regions: Regions) -> None:
    (left, top), width = regions.corner_um, regions.side_um * len(regions.fall)
    assert section.image is not None  # it was covered
    pixels = section.image.read(left, top, (width, width), max(patch_mpp(width, SIDE_PX), section.image.mpp))
    axes.imshow(pixels, extent=(left, left + width, top + width, top))
    axes.set_axis_off()


def _draw_spots(axes: Axes, section: Section, regions: Regions) -> None:
    """Draw the spots of the section as circles, the explained one thick."""
    (left, top), width = regions.corner_um, regions.side_um * len(regions.fall)
    radius = SPOT_SHARE * pitch_um(section)
    for name, (x, y) in zip(section.table.obs_names, section.xy_um, strict=True):
        if left < x < left + width and top < y < top + width:
            thick = 2.4 if name == regions.spot else 0.9
            axes.add_patch(Circle((x, y), radius, fill=False, edgecolor=BLACK, linewidth=thick, zorder=3))
    axes.set_xlim(left, left + width)
    axes.set_ylim(top + width, top)


def _draw_scale_bar(axes: Axes, regions: Regions) -> None:
    (left, top), width = regions.corner_um, regions.side_um * len(regions.fall)
    length = round_length_um(width / 4)
    x, y = left + 0.04 * width, top + 0.95 * width
    axes.add_patch(Rectangle((x, y), length, 0.012 * width, facecolor=BLACK, edgecolor="white", linewidth=1.2))
    text = axes.text(x + length / 2, y - 0.015 * width, f"{length:g} µm", ha="center", fontsize=9, color=BLACK)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _write_text(figure: Figure, section: Section, regions: Regions, trust: str) -> None:
    gene = regions.gene.replace("$", r"\$")  # a dollar sign would start a formula
    warn = trust != TRUSTED
    figure.text(0.02, 0.945, f"What the prediction of {gene} in spot {regions.spot} rests on", fontsize=12.5,
                fontweight="bold", color=BLACK)  # fmt: skip
    figure.text(
        0.02, 0.895,
        f"section {section.id}; predicted {format_number(regions.predicted, 2)}, section mean "
        f"{format_number(regions.section_mean, 2)}; trust class of the gene: {trust}"
        + (": this explains a prediction that is not to be trusted" if warn else ""),
        fontsize=9, color=VERMILLION if warn else GREY,
    )  # fmt: skip
    figure.text(
        0.02, 0.03,
        "Orange: covered with the mean colour around it, the square lowers the prediction: it speaks for the gene; "
        "purple: against.\nIt shows what the model looks at, not what makes the tissue express the gene.",
        fontsize=8.2, color=GREY, va="bottom",
    )  # fmt: skip
