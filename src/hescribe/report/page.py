"""The report of a run: one self-contained HTML page, its figures as PNG and its table as CSV."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from hescribe import __version__
from hescribe._support import write_whole
from hescribe.bench.protocols import Protocol
from hescribe.bench.results import Results
from hescribe.bench.trust import trust_table
from hescribe.errors import HescribeError
from hescribe.metrics.base import all_metrics
from hescribe.metrics.stats import MIN_DONORS
from hescribe.report.figure import ladder_figure
from hescribe.report.maps import DPI
from hescribe.report.run_maps import donor_maps
from hescribe.report.table import ModelLine, Null, model_lines, rank, to_frame, verdict
from hescribe.report.template import template_environment

OTHER_METRICS = (
    "pearson_top50",
    "spearman",
    "r2",
    "mse",
    "mae",
    "pearson_spot",
)  # in the page's table; the CSV has all
NULL = "shuffled_pairs"
GENE_RULES = {
    "variance": "vary most between spots",
    "moran": "have the strongest spatial pattern (Moran's I)",
    "dispersion": "are highly variable in most sections",
}


TARGETS = {
    "lognorm": "ln(1 + 10⁴ · count / depth), depth being the spot's counts over all measured genes",
    "gene_axis": "log10(1 + 10⁴ · count / the gene's counts over all spots of the section)",
    "log_counts": "ln(1 + count)",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the page.

    Parameters
    ----------
    name
        File name in ``figures/``.
    alt, caption
        What it shows, for those who do not see it; what to look at.
    png
        The file's bytes.
    """

    name: str
    alt: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def write_report(results: Results) -> Path:
    """Write ``report.html``, ``table.csv`` and ``figures/`` of a run of predictors into its folder.

    Returns
    -------
    Path of the page. It holds its pictures and needs no network.

    Raises
    ------
    DataAccessError
        If no cell is finished, or the folder cannot be written.
    """
    results.check_finished()
    lines = model_lines(results)
    best = next(iter(rank(lines)), None)
    trust = None if best is None else _trust(results.rows, best)
    maps, no_maps = ([], "no predictor has a score") if best is None else _maps(results, best, trust)
    ladder = _ladder(lines)
    html = template_environment().get_template("page.html.j2").render(
        **_facts(results, lines), lines=lines, best=best, verdict=verdict(lines), ladder=ladder, maps=maps,
        no_maps=no_maps, trust=None if trust is None else trust.reset_index().to_dict("records"),
        trust_counts={} if trust is None or "trust" not in trust else trust["trust"].value_counts().to_dict(),
    )  # fmt: skip
    return write_page(results.path, html, [ladder, *maps], to_frame(results.scores))


def write_page(folder: Path, html: str, pictures: Sequence[Picture], table: pd.DataFrame) -> Path:
    """Write ``figures/``, ``table.csv`` and, last, ``report.html`` of a run, and return the path of the page.

    Raises
    ------
    DataAccessError
        If the folder cannot be written.
    """
    for picture in pictures:
        with write_whole(folder / "figures" / picture.name) as tmp:
            tmp.write_bytes(picture.png)
    with write_whole(folder / "table.csv") as tmp:
        table.to_csv(tmp, index=False)
    page = folder / "report.html"
    with write_whole(page) as tmp:
        tmp.write_text(html, encoding="utf-8")
    return page


def _facts(results: Results, lines: list[ModelLine]) -> dict[str, Any]:
    """Return what the page says about the run as a whole."""
    plan, rows = results.plan, results.rows
    donors = sorted(rows["donor"].unique())
    shuffled = next((x for x in lines if x.model == NULL), None)
    return {
        "task": plan["task"], "cohort": plan["task"]["cohort"], "protocol": plan["protocol"],
        "gene_rule": GENE_RULES.get(plan["protocol"]["gene_rule"], plan["protocol"]["gene_rule"]),
        "target": _target(results.protocol),
        "donors": donors, "min_donors": MIN_DONORS, "n_sections": rows["section"].nunique(),
        "n_cells": len(plan["cells"]), "n_missing": results.n_missing, "looks": results.looks,
        "null_model": NULL, "null": Null.of(shuffled.main) if shuffled else None,
        "null_partial": Null.of(shuffled.without_depth) if shuffled else None,
        "oracle": next((x for x in lines if x.model == "depth_oracle"), None),
        "metrics": {m: all_metrics()[m] for m in OTHER_METRICS if m in plan["protocol"]["metrics"]},
        "versions": sorted(rows["version"].unique()), "data_hash": plan["data_hash"],
        "schema_version": int(rows["schema_version"].max()), "version": __version__,
    }  # fmt: skip


def _target(protocol: Protocol) -> str:
    """Return in words what is predicted."""
    smoothed = ", then averaged over each spot and the spots that touch it" if protocol.smooth_target else ""
    corrected = (
        ", then with each donor's mean and spread taken out (ComBat)" if protocol.batch_correction != "none" else ""
    )
    return TARGETS[protocol.target] + smoothed + corrected


def _trust(rows: pd.DataFrame, best: ModelLine) -> pd.DataFrame:
    """Return the per-gene table; without trust classes if the shuffled pairs were not run."""
    table = trust_table(rows, best.model)
    table.index.name = "gene"
    return table if (rows["model"] == NULL).any() else table.drop(columns="trust")


def _ladder(lines: list[ModelLine]) -> Picture:
    said = "; ".join(f"{x.model} {'undefined' if x.value is None else format(x.value, '.3f')}" for x in lines)
    return Picture(
        name="ladder.png",
        alt=f"Dot plot of the models' mean Pearson correlation: {said}",
        caption="Each dot is a model's mean over held-out donors.",
        png=to_png(ladder_figure(lines), dpi=170),
    )


def _maps(results: Results, best: ModelLine, trust: pd.DataFrame) -> tuple[list[Picture], str]:
    """Return the maps of the best predictor, or none and the reason."""
    try:
        return list(_draw_maps(results, best, trust)), ""
    except HescribeError as error:
        return [], str(error)


def _draw_maps(results: Results, best: ModelLine, trust: pd.DataFrame) -> Iterator[Picture]:
    for section, genes, figure in donor_maps(results, best.model, trust):
        yield Picture(
            name=f"map_{section.id}.png",
            alt=f"Section {section.id}: H&E, then measured, predicted and error of {', '.join(genes)}",
            caption=f"Donor {section.donor}, section {section.id}: predicted by {best.model} fitted without this "
            + results.plan["protocol"]["split"],
            png=to_png(figure, dpi=DPI),
        )


def to_png(figure: Figure, dpi: int) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png", pil_kwargs={"compress_level": 4})
    return buffer.getvalue()
