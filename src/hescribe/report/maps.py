"""Maps: a section's H&E beside measured and predicted expression and their difference."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy import sparse
from scipy.spatial import cKDTree

from hescribe import keys
from hescribe._support import write_whole
from hescribe.data.section import Section
from hescribe.prep.counts import log_normalise
from hescribe.report.figure import BLACK, GREY, VERMILLION
from hescribe.units import patch_mpp

N_GENES = 3  # with a measured map beside each predicted one
N_GENES_ALONE = 6  # predicted maps only
FINEST_MPP, THUMBNAIL_PX = 8.0, 480
DPI = 110
NO_DATA = "#d4d4d4"
EXPRESSION, ERROR, NOVELTY = "viridis", "PuOr_r", "cividis"  # all safe for colour-blind readers
CELL_IN, GAP_IN, HEAD_IN, BAR_IN, FOOT_IN, MARGIN_IN = 2.1, 0.35, 0.66, 0.5, 0.32, 0.1  # of the figure, in inches
TRUSTED = "predictable"
TRUST_ORDER = {TRUSTED: 0, "weak": 1, "untested": 2, "do not use": 3}
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
    marked. The out-of-distribution score is a small map of its own.

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
    genes = _most_trusted(table, set(section.genes) if is_measured else None)
    maps = []
    for gene in genes[: N_GENES if is_measured else N_GENES_ALONE]:
        trust, score = str(table.var.at[gene, keys.TRUST]), _score_of(table, gene)
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


def section_figure(section: Section, maps: list[GeneMap], *, ood: np.ndarray | None = None) -> Figure:
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
        Out-of-distribution score of every spot, shape ``(n_spots,)``; None leaves its map out.
    """
    is_measured = bool(maps) and maps[0].measured is not None
    n_columns = 1 if is_measured else 3  # of genes
    view = _View.of(section)
    height = view.height_in
    left_width = 1.8 * CELL_IN if len(maps) > n_columns else CELL_IN
    left_height = HEAD_IN + left_width * height / CELL_IN + (HEAD_IN + height if ood is not None else 0)
    block = HEAD_IN + height
    first = MARGIN_IN + left_width + GAP_IN + (BAR_IN if ood is not None and left_width == CELL_IN else 0)
    sheet = _Sheet(
        first + 3 * CELL_IN + (2 if is_measured else 3) * BAR_IN + (0.1 if is_measured else 0),
        max(left_height, -(-len(maps) // n_columns) * block) + FOOT_IN,
    )
    _draw_left(sheet, section, view, left_width, ood)
    for i, gene_map in enumerate(maps):
        row, column = divmod(i, n_columns)
        if is_measured:
            _draw_compared(sheet, (first, row * block), section, gene_map, view)
        else:
            _draw_alone(sheet, (first + column * (CELL_IN + BAR_IN), row * block), section, gene_map, view)
    grey = "; grey: too few counts to be a target" if any(_has_gaps(m) for m in maps) else ""
    scale = "measured and predicted on one colour scale, " if is_measured else ""
    sheet.write(first, sheet.height - 0.1, f"{scale}{LOGNORM_UNIT}{grey}", fontsize=7.5, color=GREY)
    return sheet.figure


@dataclass(frozen=True)
class _View:
    """What part of a section is drawn: the spots and a margin of one pitch, in um."""

    left: float
    top: float
    right: float
    bottom: float
    pitch_um: float

    @classmethod
    def of(cls, section: Section) -> "_View":
        xy, pitch = section.xy_um, _pitch_um(section)
        (left, top), (right, bottom) = xy.min(axis=0) - pitch, xy.max(axis=0) + pitch
        return cls(float(left), float(top), float(right), float(bottom), pitch)

    @property
    def size_um(self) -> tuple[float, float]:
        return self.right - self.left, self.bottom - self.top

    @property
    def height_in(self) -> float:
        """Height of a small map; a very long section is drawn smaller instead."""
        return CELL_IN * float(np.clip(self.size_um[1] / self.size_um[0], 0.4, 2.0))


class _Sheet:
    """A figure with axes placed in inches from the upper left: exact, and faster than a layout engine."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height))

    def add(self, x: float, y: float, width: float, height: float) -> Axes:
        at = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(at)

    def write(self, x: float, y: float, text: str, **style: object) -> None:
        text = text.replace("$", r"\$")  # a dollar sign would start a formula
        self.figure.text(x / self.width, 1 - y / self.height, text, **style)

    def add_bar(self, x: float, y: float, height: float, spots: EllipseCollection) -> None:
        bar = self.figure.colorbar(spots, cax=self.add(x + 0.04, y + 0.06 * height, 0.08, 0.88 * height))
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5, length=2, color=GREY, labelcolor=GREY, pad=2)
        bar.locator = MaxNLocator(nbins=4)
        bar.update_ticks()


def _draw_left(sheet: _Sheet, section: Section, view: _View, width: float, ood: np.ndarray | None) -> None:
    """Draw the H&E, and below it the out-of-distribution score."""
    height = width * view.height_in / CELL_IN
    left, top = MARGIN_IN, HEAD_IN
    sheet.write(left, 0.24, f"Section {section.id}", fontsize=11, fontweight="bold", color=BLACK)
    image = _prepare(sheet.add(left, top, width, height), view, "H&E")
    if section.image is None:
        image.text(0.5, 0.5, "no image", transform=image.transAxes, ha="center", color=GREY)
    else:
        mpp = max(FINEST_MPP, patch_mpp(max(view.size_um), THUMBNAIL_PX))
        pixels = section.image.read(view.left, view.top, view.size_um, mpp)
        image.imshow(pixels, extent=(view.left, view.right, view.bottom, view.top), aspect="equal")
    _draw_scale_bar(image, view)
    if ood is not None:
        top += height + HEAD_IN
        sheet.write(left, top - 0.24, "Unlike the training images", fontsize=9, fontweight="bold", color=BLACK)
        axes = _prepare(sheet.add(left, top, CELL_IN, view.height_in), view, "share of training spots less unusual")
        spots = _draw_spots(axes, section, ood, Normalize(0, 1), NOVELTY, view)
        sheet.add_bar(left + CELL_IN, top, view.height_in, spots)


def _draw_compared(sheet: _Sheet, at: tuple[float, float], section: Section, gene_map: GeneMap, view: _View) -> None:
    """Draw measured, predicted and error of one gene."""
    left, top = _name_gene(sheet, at, gene_map)
    step, height = CELL_IN + 0.05, view.height_in
    lefts = (left, left + step, left + 2 * step + BAR_IN)
    panels = [sheet.add(x, top, CELL_IN, height) for x in lefts]
    titles = ("measured", "predicted", "error: predicted − measured")  # noqa: RUF001 - a minus sign
    for axes, title in zip(panels, titles, strict=True):
        _prepare(axes, view, title)
        _mark(axes, gene_map)
    norm = _shared_norm(gene_map.measured, gene_map.predicted)
    _draw_spots(panels[0], section, gene_map.measured, norm, EXPRESSION, view)
    spots = _draw_spots(panels[1], section, gene_map.predicted, norm, EXPRESSION, view)
    sheet.add_bar(lefts[1] + CELL_IN, top, height, spots)
    error = gene_map.predicted - gene_map.measured
    limit = max(float(np.nanpercentile(np.abs(error), 98)) if np.isfinite(error).any() else 0.0, 1e-3)
    spots = _draw_spots(panels[2], section, error, Normalize(-limit, limit), ERROR, view)
    sheet.add_bar(lefts[2] + CELL_IN, top, height, spots)


def _draw_alone(sheet: _Sheet, at: tuple[float, float], section: Section, gene_map: GeneMap, view: _View) -> None:
    """Draw the predicted map of one gene."""
    left, top = _name_gene(sheet, at, gene_map)
    axes = _prepare(sheet.add(left, top, CELL_IN, view.height_in), view, "predicted")
    _mark(axes, gene_map)
    norm = _shared_norm(gene_map.predicted)
    spots = _draw_spots(axes, section, gene_map.predicted, norm, EXPRESSION, view)
    sheet.add_bar(left + CELL_IN, top, view.height_in, spots)


def _name_gene(sheet: _Sheet, at: tuple[float, float], gene_map: GeneMap) -> tuple[float, float]:
    """Write gene and note, in warning colour if the gene is not trusted; return where the maps begin."""
    left, top = at
    colour = BLACK if gene_map.trust == TRUSTED else VERMILLION
    sheet.write(left, top + 0.24, gene_map.gene, fontsize=11, fontweight="bold", color=colour)
    sheet.write(left, top + 0.42, gene_map.note, fontsize=8, color=colour)
    return left, top + HEAD_IN


def _mark(axes: Axes, gene_map: GeneMap) -> None:
    """Frame the maps of a gene that is not predictable."""
    if gene_map.trust != TRUSTED:
        axes.spines[:].set(visible=True, color=VERMILLION, linestyle=(0, (4, 3)), linewidth=1.3)


def _has_gaps(gene_map: GeneMap) -> bool:
    return gene_map.measured is not None and not np.isfinite(gene_map.measured).all()


def _prepare(axes: Axes, view: _View, title: str) -> Axes:
    axes.set(xlim=(view.left, view.right), ylim=(view.bottom, view.top), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontsize=8.5, color=GREY, pad=3)
    return axes


def _draw_spots(
    axes: Axes, section: Section, values: np.ndarray, norm: Normalize, cmap: str, view: _View
) -> EllipseCollection:
    size = np.full(section.n_spots, 0.86 * view.pitch_um)
    spots = EllipseCollection(
        size, size, np.zeros_like(size), units="xy", offsets=section.xy_um, offset_transform=axes.transData,
        array=np.ma.masked_invalid(values), norm=norm, cmap=colormaps[cmap].with_extremes(bad=NO_DATA), linewidths=0,
    )  # fmt: skip
    axes.add_collection(spots, autolim=False)
    return spots


def _draw_scale_bar(axes: Axes, view: _View) -> None:
    """Draw a bar of a round length, about a quarter of the width."""
    width, height = view.size_um
    length = round_length_um(width / 4)
    x, y = view.left + 0.04 * width, view.bottom - 0.045 * height
    halo = [withStroke(linewidth=4.5, foreground="white")]
    axes.plot([x, x + length], [y, y], color=BLACK, linewidth=2.6, solid_capstyle="butt", path_effects=halo)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    axes.text(x + length / 2, y - 0.02 * height, text, ha="center", va="bottom", fontsize=8.5, color=BLACK,
              path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip


def round_length_um(longest_um: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50 ... um that is not longer.

    Examples
    --------
    >>> round_length_um(730.0)
    500.0
    """
    power = 10.0 ** np.floor(np.log10(longest_um))
    return float(max(f * power for f in (1, 2, 5) if f * power <= longest_um))


def _shared_norm(*values: np.ndarray) -> Normalize:
    """Return one scale for all: from the 1st to the 99th percentile, so that one spot does not set it."""
    both = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = np.percentile(both, [1, 99]) if len(both) else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def _pitch_um(section: Section) -> float:
    """Return the distance of neighbouring spots: as declared, else the median found."""
    if section.card.pitch_um:
        return section.card.pitch_um
    if section.n_spots < 2:
        return 100.0
    nearest = cKDTree(section.xy_um).query(section.xy_um, k=2)[0][:, 1]
    return max(float(np.median(nearest)), 1.0)


def _most_trusted(table: AnnData, among: set[str] | None) -> list[str]:
    """Return the genes, trusted ones first, then by score."""
    order = table.var[keys.TRUST].astype(str).map(TRUST_ORDER).fillna(len(TRUST_ORDER)).to_numpy()
    scores = [_score_of(table, g) for g in table.var_names]
    worst_last = np.lexsort(([-(s if s is not None else -1.0) for s in scores], order))
    return [g for g in table.var_names[worst_last] if among is None or g in among]


def _score_of(table: AnnData, gene: str) -> float | None:
    value = float(table.var.at[gene, "pearson"]) if "pearson" in table.var else float("nan")
    return value if np.isfinite(value) else None


def _dense(values: np.ndarray | sparse.spmatrix) -> np.ndarray:
    return values.toarray() if sparse.issparse(values) else np.asarray(values)
