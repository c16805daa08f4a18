"""The quality report of a cohort: one self-contained HTML page that a biologist can judge the sections by."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from hescribe import __version__
from hescribe._support import write_whole
from hescribe.data.folder import SectionRecord, read_index
from hescribe.data.section import Section
from hescribe.data.validate import Finding, check_cohort
from hescribe.prep import alignment, quality
from hescribe.prep.graph import pitch_um
from hescribe.report.maps import EXPRESSION, round_length_um
from hescribe.report.template import template_environment
from hescribe.units import patch_mpp, to_px

PICTURE_PX = 720  # longer side of a section's picture
MAX_DRAWN = 4000  # spots; of more, an even choice is drawn
N_COLOURS = 10
SPOT_SHARE, DOT_SHARE = 0.27, 0.86  # radius of a spot, and side of a dot of the depth map, in pitches
BAR_HEIGHT = 24


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A section drawn: its image, and its spots as paths of one SVG drawing.

    Parameters
    ----------
    width, height
        Of the drawing, px.
    jpeg
        The image as a data URI; empty without an image.
    on_tissue, off_tissue
        Outlines of the spots on tissue and of those beside it.
    line_px
        Width of the outlines.
    depth
        (colour, path) of the spots by depth; drawn as dots of ``dot_px``.
    dot_px
        Size of a dot.
    bar_px, bar_text
        Length of the scale bar, and what it says.
    n_drawn
        Spots drawn.
    """

    width: int
    height: int
    jpeg: str
    on_tissue: str
    off_tissue: str
    line_px: float
    depth: list[tuple[str, str]]
    dot_px: float
    bar_px: float
    bar_text: str
    n_drawn: int


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What was measured on a section that can be read, and its drawing."""

    counts: quality.CountQuality
    image: quality.ImageQuality | None
    drawing: Drawing


@dataclass(frozen=True, kw_only=True)
class Line:
    """A section in the report.

    Parameters
    ----------
    record
        From the cohort's index.
    panel
        None if its table cannot be read or is unsound.
    findings
        Of the check, about this section.
    flaws
        What is unusual about it, from ``quality.find_flaws``.
    bars
        Path of the histogram of its depth.
    """

    record: SectionRecord
    panel: Panel | None
    findings: list[Finding]
    flaws: list[str]
    bars: str

    @property
    def words(self) -> list[str]:
        """The flags, one word each: what a reader must look at."""
        levels = [f.level for f in self.findings]
        return list(dict.fromkeys(sorted(levels) + [flaw.partition(":")[0] for flaw in self.flaws]))


def write_quality_report(
    path: Path, out: Path, *, against: Sequence[Path] = (), leaks: Sequence[Finding] = ()
) -> list[Finding]:
    """Check a cohort, and write what was found and measured as one HTML page.

    Parameters
    ----------
    path
        Cohort folder.
    out
        The page; it holds its pictures and needs no network.
    against
        Other cohorts, in which the same tissue is looked for.
    leaks
        More to tell: from ``bench.leakage.find_leaks``.

    Returns
    -------
    What ``check_cohort`` found, and the leaks.

    Raises
    ------
    DataAccessError, SchemaError
        If there is no index, or the page cannot be written. A section that cannot be read is told in the page.
    """
    record = read_index(path)
    panels: dict[str, Panel] = {}
    findings = check_cohort(path, against=against, visit=lambda s: panels.update({s.id: _measure(s)}))
    findings += leaks
    flaws = quality.find_flaws({k: p.counts for k, p in panels.items()}, {k: p.image for k, p in panels.items()})
    low, high = _span([p.counts.histogram for p in panels.values()])
    lines = [
        Line(
            record=entry,
            panel=panels.get(entry.id),
            findings=[f for f in findings if entry.id in f.sections],
            flaws=flaws.get(entry.id, []),
            bars=_bars(panels[entry.id].counts.histogram, low, high) if entry.id in panels else "",
        )
        for entry in record.section
    ]
    html = template_environment().get_template("quality.html.j2").render(
        cohort=record, path=str(path), lines=lines, findings=findings, against=[str(p) for p in against],
        n_bins=high - low, bar_height=BAR_HEIGHT, quality=quality, alignment=alignment,
        depth_from=quality.HISTOGRAM_EDGES[low], depth_to=quality.HISTOGRAM_EDGES[high], version=__version__,
        colours=_colours(),
    )  # fmt: skip
    with write_whole(out) as tmp:
        tmp.write_text(html, encoding="utf-8")
    return findings


def _measure(section: Section) -> Panel:
    image = quality.measure_image(section) if section.image is not None else None
    return Panel(counts=quality.measure_counts(section), image=image, drawing=_draw(section, image))


def _draw(section: Section, image: quality.ImageQuality | None) -> Drawing:
    """Return a section's drawing: the part of the image that holds the spots, with a margin of three pitches."""
    xy, pitch = section.xy_um, pitch_um(section)
    first, last = xy.min(axis=0) - 3 * pitch, xy.max(axis=0) + 3 * pitch
    if section.image is not None:
        first, last = np.maximum(first, 0), np.minimum(last, section.image.size_um)
    size_um = (float(last[0] - first[0]), float(last[1] - first[1]))
    mpp = patch_mpp(max(size_um), PICTURE_PX)
    jpeg = ""
    if section.image is not None:
        jpeg = _jpeg(section.image.read(float(first[0]), float(first[1]), size_um, max(mpp, section.image.mpp)))
    drawn = np.unique(np.linspace(0, len(xy) - 1, min(len(xy), MAX_DRAWN)).astype(int))
    place, step = np.asarray(to_px(xy[drawn] - first, mpp)), float(to_px(pitch, mpp))
    on = image.alignment.is_on_tissue[drawn] if image is not None else np.zeros(len(drawn), dtype=bool)
    bar_um = round_length_um(size_um[0] / 4)
    return Drawing(
        width=round(float(to_px(size_um[0], mpp))), height=round(float(to_px(size_um[1], mpp))), jpeg=jpeg,
        on_tissue=_rings(place[on], SPOT_SHARE * step), off_tissue=_rings(place[~on], SPOT_SHARE * step),
        line_px=round(min(1.6, 0.12 * step), 2), depth=_depth_dots(place, section.depth[drawn]),
        dot_px=round(DOT_SHARE * step, 1), bar_px=round(float(to_px(bar_um, mpp)), 1),
        bar_text=f"{bar_um / 1000:g} mm" if bar_um >= 1000 else f"{bar_um:g} µm", n_drawn=len(drawn),
    )  # fmt: skip


def _rings(place: np.ndarray, radius: float) -> str:
    r = f"{radius:.1f}"
    turn = f"a{r} {r} 0 1 0 {2 * radius:.1f} 0a{r} {r} 0 1 0 {-2 * radius:.1f} 0"
    return "".join(f"M{x - radius:.1f} {y:.1f}{turn}" for x, y in place)


def _depth_dots(place: np.ndarray, depth: np.ndarray) -> list[tuple[str, str]]:
    """Return (colour, path) of the spots, by log depth between the 2nd and the 98th percentile."""
    value = np.log1p(depth)
    low, high = np.percentile(value, [2, 98])
    step = np.clip((value - low) / max(high - low, 1e-9) * N_COLOURS, 0, N_COLOURS - 1).astype(int)
    dots = ["".join(f"M{x:.1f} {y:.1f}h0" for x, y in place[step == k]) for k in range(N_COLOURS)]
    return [(colour, path) for colour, path in zip(_colours(), dots, strict=True) if path]


def _colours() -> list[str]:
    return [to_hex(c) for c in colormaps[EXPRESSION](np.linspace(0, 1, N_COLOURS))]


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _span(histograms: list[np.ndarray]) -> tuple[int, int]:
    """Return the first and last edge of the bins that hold 98 % of the spots of all sections."""
    if not histograms:
        return 0, 1
    share = np.cumsum(np.sum(histograms, axis=0)) / np.sum(histograms)
    low, high = np.searchsorted(share, [0.01, 0.99])
    return int(low), int(high) + 1


def _bars(histogram: np.ndarray, low: int, high: int) -> str:
    """Return the bins from one edge to another as the path of their bars, 1 px wide and at most ``BAR_HEIGHT`` high.

    Spots beyond the edges are counted in the outermost bins.
    """
    histogram = np.bincount(np.clip(np.arange(len(histogram)), low, high - 1) - low, weights=histogram)
    height = histogram / max(histogram.max(), 1) * BAR_HEIGHT
    return "".join(f"M{i} {BAR_HEIGHT}v{-h:.1f}h1V{BAR_HEIGHT}z" for i, h in enumerate(height) if h)
