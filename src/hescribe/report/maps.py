"""Maps: a section's H&E beside measured and predicted expression and their difference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy import sparse

from hescribe import keys
from hescribe._support import write_whole
from hescribe.data.section import Section
from hescribe.prep.counts import log_normalise
from hescribe.prep.graph import pitch_um
from hescribe.prep.looks import UNLIKE
from hescribe.report.figure import BLACK, GREY, VERMILLION
from hescribe.report.table import MINUS
from hescribe.units import patch_mpp

N_GENES = 3  # with a measured map beside each predicted one
N_GENES_ALONE = 6  # predicted maps only
FINEST_MPP, THUMBNAIL_PX = 2.0, 480
DPI = 110
NO_DATA = "#d4d4d4"
EXPRESSION, ERROR, NOVELTY = "viridis", "PuOr_r", "cividis"  # all safe for colour-blind readers
CELL_IN, GAP_IN, HEAD_IN, BAR_IN, FOOT_IN, MARGIN_IN = 2.1, 0.35, 0.66, 0.5, 0.32, 0.1  # of the figure, in inches
LINE_IN = 0.17  # of text below the maps
TRUSTED = "predictable"
TRUST_ORDER = {TRUSTED: 0, "weak": 1, "untested": 2, "do not use": 3}
# What a reader is told below the maps of genes of a class; what is hatched is not to be read.
TRUST_WORDS = {
    "weak": "dashed frame, weak: above chance as a mean over held-out donors, but not in each, or only by depth",
    "untested": "hatched, untested: not compared with chance on held-out donors",
    "do not use": "hatched, do not use: no better than chance on held-out donors",
}
HATCHED = {"untested", "do not use"}
PALE = 0.25  # opacity of spots that look unlike the training images, and of hatched maps
LOGNORM_UNIT = "ln(1 + 10⁴ · count / depth)"


@dataclass(frozen=True, kw_only=True)
class GeneMap:
    """One gene to draw.

    Parameters
    ----------
    gene
        Its name.
    predicted
        Shape ``(n_spots,)``.
    measured
        Shape ``(n_spots,)``, NaN in spots that are no targets; None if nothing was measured.
    note
        Shown under the name, its score for example.
    trust
        Trust class; all but ``"predictable"`` are marked.
    """

    gene: str
    predicted: np.ndarray
    measured: np.ndarray | None = None
    note: str = ""
    trust: str = TRUSTED


def write_map(path: Path, section: Section, table: AnnData) -> None:
    """Write the map of one predicted section as PNG.

    The most trusted genes are drawn, best first; where the section was measured as well, the
    measured map and the error stand beside the predicted one. Genes that are not predictable are
    marked: a dashed frame where they are weak, pale and hatched where they are not to be used or untested.
    Spots that look unlike the training images are pale. Their score is a small map of its own.

    Parameters
    ----------
    path
        File to write.
    section
        Its image, spots, and counts if there are any.
    table
        From ``predict_table``: ``layers["predicted"]``, ``obs["ood"]``, ``var["trust"]`` and
        ``var["pearson"]``; the spots of ``section`` in their order.
    """
    is_measured = keys.COUNTS in section.table.layers
    maps = []
    for gene in drawn_genes(section, table):
        trust, score = str(table.var.loc[gene, keys.TRUST]), _score_of(table, gene)
        note = trust if score is None else f"{trust}; Pearson {score:.2f} on held-out donors"
        maps.append(
            GeneMap(
                gene=gene, predicted=_dense(table[:, gene].layers[keys.PREDICTED]).ravel(), note=note, trust=trust,
                measured=measure(section, [gene]).ravel() if is_measured else None,
            )
        )  # fmt: skip
    ood = table.obs[keys.OOD].to_numpy(dtype=float) if keys.OOD in table.obs else None
    figure = section_figure(section, maps, ood=ood if ood is not None and np.isfinite(ood).any() else None)
    with write_whole(path) as tmp:
        figure.savefig(tmp, dpi=DPI, format="png")


def drawn_genes(section: Section, table: AnnData) -> list[str]:
    """Return the genes that ``write_map`` draws: the most trusted ones, of those measured if any was."""
    is_measured = keys.COUNTS in section.table.layers
    genes = _most_trusted(table, set(section.genes) if is_measured else None)
    return genes[: N_GENES if is_measured else N_GENES_ALONE]


def measure(section: Section, genes: list[str], *, min_counts: int = 0) -> np.ndarray:
    """Return log-normalised expression, shape ``(n_spots, n_genes)``, NaN in spots that are no targets.

    Parameters
    ----------
    section
        With counts.
    genes
        Of its panel.
    min_counts
        Spots with fewer counts are no targets.
    """
    values = _dense(log_normalise(section.table[:, genes].layers[keys.COUNTS], section.depth)).astype(np.float64)
    values[~section.kept | (section.depth < min_counts)] = np.nan
    return values


def section_figure(
    section: Section, maps: list[GeneMap], *, ood: np.ndarray | None = None, unit: str = LOGNORM_UNIT
) -> Figure:
    """Return H&E, and for each gene measured | predicted | error, or predicted alone.

    Measured and predicted share one colour scale; the error (predicted - measured) has its own,
    symmetric about 0.

    Parameters
    ----------
    section
        With spot coordinates in um; with its image if it has one.
    maps
        One to six genes, all measured or none.
    ood
        Out-of-distribution score of every spot, shape ``(n_spots,)``; above 0.95 a spot is drawn pale. None leaves its
        map out.
    unit
        Of what is drawn, in words.
    """
    is_measured = bool(maps) and maps[0].measured is not None
    n_columns = 1 if is_measured else 3  # of genes
    view = MapView.of(section)
    left_width = 1.8 * CELL_IN if len(maps) > n_columns else CELL_IN + BAR_IN
    left_height = HEAD_IN + view.height_in(left_width) + (HEAD_IN + view.height_in() if ood is not None else 0)
    block = HEAD_IN + view.height_in()
    first = MARGIN_IN + left_width + GAP_IN
    notes = _notes(maps, ood, unit)
    foot = FOOT_IN + LINE_IN * (len(notes) - 1)
    height = max(left_height, -(-len(maps) // n_columns) * block) + foot
    sheet = Sheet(section, view, first + 3 * (CELL_IN + BAR_IN), height, ood)
    draw_left(sheet, left_width, ood)
    for i, gene_map in enumerate(maps):
        row, column = divmod(i, n_columns)
        left, top = first + column * (CELL_IN + BAR_IN), row * block
        colour = BLACK if gene_map.trust == TRUSTED else VERMILLION
        sheet.write(left, top + 0.24, gene_map.gene, fontsize=11, fontweight="bold", color=colour)
        sheet.write(left, top + 0.42, gene_map.note, fontsize=8, color=colour)
        _draw_gene(sheet, left, top + HEAD_IN, gene_map)
    for i, note in enumerate(reversed(notes)):
        sheet.write(first, height - 0.1 - i * LINE_IN, note, fontsize=7.5, color=GREY)
    return sheet.figure


def _notes(maps: list[GeneMap], ood: np.ndarray | None, unit: str) -> list[str]:
    """Return the legend below the maps, line by line."""
    grey = "; grey: too few counts to be a target" if any(_has_gaps(m) for m in maps) else ""
    is_measured = bool(maps) and maps[0].measured is not None
    scale = "measured and predicted on one colour scale, " if is_measured else ""
    notes = [f"{scale}{unit}{grey}"]
    drawn = {m.trust for m in maps}
    notes += [words for trust, words in TRUST_WORDS.items() if trust in drawn]
    if ood is not None and (n := int((ood > UNLIKE).sum())):
        notes.append(f"pale: {n} of {len(ood)} spots, which look unlike the training images")
    return notes


def round_length_um(longest_um: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50 ... um that is not longer.

    Examples
    --------
    >>> round_length_um(730.0)
    500.0
    """
    power = 10.0 ** np.floor(np.log10(longest_um))
    return float(max(f * power for f in (1, 2, 5) if f * power <= longest_um))


@dataclass(frozen=True)
class MapView:
    """The part of a section that is drawn: its spots and a margin of one pitch, in um."""

    left: float
    top: float
    width: float
    height: float
    pitch_um: float

    @classmethod
    def of(cls, section: Section) -> "MapView":
        """Return the part that holds the spots of a section."""
        xy, pitch = section.xy_um, pitch_um(section)
        (left, top), (width, height) = xy.min(axis=0) - pitch, np.ptp(xy, axis=0) + 2 * pitch
        return cls(float(left), float(top), float(width), float(height), pitch)

    def height_in(self, width_in: float = CELL_IN) -> float:
        """Return the height of a map of this width in inches, at most twice the width."""
        return min(width_in * self.height / self.width, 2 * width_in)

    def inches(self, um: float, width_in: float = CELL_IN) -> float:
        """Return a length in um as inches on a map of this width."""
        return um * min(width_in / self.width, 2 * width_in / self.height)


class Sheet:
    """A figure on which everything is placed in inches from the upper left: one pair of axes draws fast."""

    def __init__(
        self, section: Section, view: MapView, width: float, height: float, ood: np.ndarray | None = None
    ) -> None:
        self.section, self.view = section, view
        self.alpha = np.where(np.zeros(section.n_spots) if ood is None else ood > UNLIKE, PALE, 1.0)
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.set_axis_off()

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write one line at a place in inches, whatever a name holds."""
        line = " ".join(text.split())
        self.axes.text(x, y, line.replace("$", r"\$"), **style)  # a dollar sign would start a formula

    def draw_spots(  # noqa: PLR0917 - what is drawn where, and how
        self,
        at: tuple[float, float],
        title: str,
        values: np.ndarray,
        norm: Normalize,
        cmap: str | Colormap,
        alpha: np.ndarray | None = None,
    ) -> None:
        """Draw the spots in the colours of values of shape ``(n_spots,)``, the map's upper left corner at a place."""
        view, (x, y) = self.view, at
        self.write(x, y - 0.05, title, fontsize=8.5, color=GREY)
        centres = np.array(at) + view.inches(1.0) * (self.section.xy_um - [view.left, view.top])
        size = np.full(len(centres), view.inches(0.86 * view.pitch_um))
        spots = EllipseCollection(
            size, size, np.zeros_like(size), units="xy", offsets=centres, offset_transform=self.axes.transData,
            linewidths=0, array=np.ma.masked_invalid(values), norm=norm, alpha=alpha,
            cmap=colormaps.get_cmap(cmap).with_extremes(bad=NO_DATA),
        )  # fmt: skip
        self.axes.add_collection(spots, autolim=False)

    def draw_bar(self, x: float, y: float, norm: Normalize, cmap: str) -> None:
        """Draw the colour scale to the right of a map."""
        height, right = 0.9 * self.view.height_in(), x + 0.12
        top = y + 0.05 * self.view.height_in()
        colours = np.linspace(1, 0, 128)[:, None]
        self.axes.imshow(colours, extent=(x + 0.04, right, top + height, top), cmap=cmap, vmin=0, vmax=1, aspect="auto")
        low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
        ticks = np.asarray(MaxNLocator(nbins=4).tick_values(low, high))
        for tick in ticks[(ticks >= low) & (ticks <= high)]:
            at = top + height * (1 - float(norm(tick)))
            self.axes.plot([right, right + 0.03], [at, at], color=GREY, linewidth=0.7)
            text = f"{round(tick, 9) + 0.0:g}".replace("-", MINUS)
            self.write(right + 0.05, at, text, fontsize=7.5, color=GREY, va="center")

    def draw_frame(self, x: float, y: float, trust: str) -> None:
        """Frame the map of a gene that is not predictable; hatch it, and say so on it, where it is not to be used."""
        width, height = CELL_IN - 0.04, self.view.height_in()
        self.axes.add_patch(
            Rectangle((x, y), width, height, fill=False, edgecolor=VERMILLION, linestyle=(0, (4, 3)), linewidth=1.3)
        )
        if trust in HATCHED:
            hatch = Rectangle(
                (x, y), width, height, fill=False, edgecolor=VERMILLION, hatch="//", linewidth=0, alpha=0.6
            )
            self.axes.add_patch(hatch)
            style: dict[str, Any] = {"fontsize": 10, "fontweight": "bold", "color": VERMILLION, "ha": "center"}
            halo = withStroke(linewidth=4, foreground="white")
            self.write(x + width / 2, y + height / 2, trust, va="center", path_effects=[halo], **style)


def draw_left(sheet: Sheet, width: float, ood: np.ndarray | None) -> None:
    """Draw the H&E, and below it the out-of-distribution score."""
    section, view, left, top = sheet.section, sheet.view, MARGIN_IN, HEAD_IN
    sheet.write(left, 0.24, f"Section {section.id}", fontsize=11, fontweight="bold", color=BLACK)
    sheet.write(left, top - 0.05, "H&E" if section.image else "no image", fontsize=8.5, color=GREY)
    if section.image is not None:
        mpp = max(FINEST_MPP, patch_mpp(max(view.width, view.height), THUMBNAIL_PX))
        pixels = section.image.read(view.left, view.top, (view.width, view.height), mpp)
        right, bottom = left + view.inches(view.width, width), top + view.inches(view.height, width)
        sheet.axes.imshow(pixels, extent=(left, right, bottom, top), aspect="auto")
        _draw_scale_bar(sheet, left + 0.1, bottom - 0.14, width)
    if ood is not None:
        top += view.height_in(width) + HEAD_IN
        sheet.write(left, top - 0.24, "Unlike the training images", fontsize=9, fontweight="bold", color=BLACK)
        sheet.draw_spots((left, top), "share of training spots less unusual", ood, Normalize(0, 1), NOVELTY)
        sheet.draw_bar(left + CELL_IN, top, Normalize(0, 1), NOVELTY)


def _draw_gene(sheet: Sheet, left: float, top: float, gene_map: GeneMap) -> None:
    """Draw measured, predicted and error of one gene, or predicted alone."""
    step = CELL_IN + 0.04
    lefts = [left] if gene_map.measured is None else [left, left + step, left + 2 * step + BAR_IN]
    alpha = np.minimum(sheet.alpha, PALE) if gene_map.trust in HATCHED else sheet.alpha
    if gene_map.measured is None:
        norm = shared_norm(gene_map.predicted)
        sheet.draw_spots((left, top), "predicted", gene_map.predicted, norm, EXPRESSION, alpha)
        sheet.draw_bar(left + CELL_IN, top, norm, EXPRESSION)
    else:
        norm = shared_norm(gene_map.measured, gene_map.predicted)
        sheet.draw_spots((lefts[0], top), "measured", gene_map.measured, norm, EXPRESSION)
        sheet.draw_spots((lefts[1], top), "predicted", gene_map.predicted, norm, EXPRESSION, alpha)
        sheet.draw_bar(lefts[1] + CELL_IN, top, norm, EXPRESSION)
        error = gene_map.predicted - gene_map.measured
        limit = max(float(np.nanpercentile(np.abs(error), 98)) if np.isfinite(error).any() else 0.0, 1e-3)
        symmetric = Normalize(-limit, limit)
        sheet.draw_spots((lefts[2], top), f"error: predicted {MINUS} measured", error, symmetric, ERROR, alpha)
        sheet.draw_bar(lefts[2] + CELL_IN, top, symmetric, ERROR)
    if gene_map.trust != TRUSTED:
        for x in lefts[-2:]:  # what was measured may be read
            sheet.draw_frame(x, top, gene_map.trust)


def _draw_scale_bar(sheet: Sheet, x: float, y: float, width_in: float) -> None:
    """Draw a bar of a round length, about a quarter of the width."""
    length_um = round_length_um(sheet.view.width / 4)
    length = sheet.view.inches(length_um, width_in)
    halo: dict[str, Any] = {"path_effects": [withStroke(linewidth=4, foreground="white")]}
    sheet.axes.plot([x, x + length], [y, y], color=BLACK, linewidth=2.6, solid_capstyle="butt", **halo)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    sheet.write(x + length / 2, y - 0.06, text, ha="center", fontsize=8.5, color=BLACK, **halo)


def _has_gaps(gene_map: GeneMap) -> bool:
    return gene_map.measured is not None and not np.isfinite(gene_map.measured).all()


def shared_norm(*values: np.ndarray) -> Normalize:
    """Return one scale for all: from the 1st to the 99th percentile, so that one spot does not set it."""
    both = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = np.percentile(both, [1, 99]) if len(both) else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def _most_trusted(table: AnnData, among: set[str] | None) -> list[str]:
    """Return the genes, trusted ones first, then by score."""
    order = table.var[keys.TRUST].astype(str).map(TRUST_ORDER).fillna(len(TRUST_ORDER)).to_numpy()
    scores = [_score_of(table, g) for g in table.var_names]
    worst_last = np.lexsort(([-(s if s is not None else -1.0) for s in scores], order))
    return [g for g in table.var_names[worst_last] if among is None or g in among]


def _score_of(table: AnnData, gene: str) -> float | None:
    value = float(table.var.loc[gene, "pearson"]) if "pearson" in table.var else float("nan")
    return value if np.isfinite(value) else None


def _dense(values: Any) -> np.ndarray:
    return values.toarray() if sparse.issparse(values) else np.asarray(values)
