"""The report of an analysis: one self-contained HTML page, its figures as PNG and its tables as CSV."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hescribe import __version__
from hescribe._support import write_whole
from hescribe.analysis.domains import read_labels
from hescribe.analysis.gene_sets import set_expression
from hescribe.analysis.overview import LEVEL, Analysis, PredictedSection, SetScore, domain_inputs
from hescribe.report.analysis_figures import agreement_figure, coexpression_figure, domain_figure
from hescribe.report.maps import DPI, LOGNORM_UNIT, GeneMap, section_figure
from hescribe.report.page import TARGETS, Picture, to_png
from hescribe.report.table import DASH, format_number
from hescribe.report.template import template_environment

N_TABLE = 30  # genes on the page; the CSV has all
N_MAPPED = 3  # genes, and gene sets, that are drawn
PAGE_DPI = 150
UNITS = {
    "lognorm": LOGNORM_UNIT,
    "gene_axis": "log10(1 + 10⁴ · count / the gene's counts)",
    "log_counts": "ln(1 + count)",
}  # below a map; TARGETS says it in full


def write_analysis(found: Analysis, out: Path, *, model: str, encoder: str) -> Path:
    """Write ``analysis.html``, ``genes.csv``, ``gene_sets.csv``, ``domains.csv`` and ``figures/``.

    Parameters
    ----------
    found
        From ``analyse``.
    out
        Folder to write.
    model
        What predicted, in words.
    encoder
        Whose features domains were compared with.

    Returns
    -------
    Path of the page. It holds its pictures and needs no network.

    Raises
    ------
    DataAccessError
        If the folder cannot be written.
    """
    pictures = {
        "genes": list(_draw_genes(found)), "sets": list(_draw_sets(found)),
        "coexpression": list(_draw_coexpression(found)), "domains": list(_draw_domains(found, encoder)),
    }  # fmt: skip
    templates = template_environment()
    templates.filters["rate"] = _rate
    html = templates.get_template("analysis.html.j2").render(
        model=model, encoder=encoder, found=found, pictures=pictures, verdict=verdict(found), level=LEVEL,
        genes=found.genes.head(N_TABLE).reset_index().to_dict("records"), n_genes=len(found.genes),
        donors=sorted({s.section.donor for s in found.sections}), unit=TARGETS[found.sections[0].unit],
        coexpression=_coexpression_facts(found), domains=_domain_rows(found), version=__version__,
    )  # fmt: skip
    for picture in (p for group in pictures.values() for p in group):
        with write_whole(out / "figures" / picture.name) as tmp:
            tmp.write_bytes(picture.png)
    for name, table in _tables(found).items():
        with write_whole(out / f"{name}.csv") as tmp:
            table.to_csv(tmp, index=False)
    page = out / "analysis.html"
    with write_whole(page) as tmp:
        tmp.write_text(html, encoding="utf-8")
    return page


def verdict(found: Analysis) -> list[str]:
    """Return what came out, in plain sentences."""
    n, sure = len(found.genes), found.n_predicted("q")
    naive, without = found.n_predicted("q_naive"), found.n_predicted("q_without_depth")
    first = (
        f"{sure} of {n} genes are predicted better than chance over donors (false discovery rate {LEVEL:.0%}); with "
        f"total counts taken out {without} are. Were neighbouring spots independent, {naive} would seem to be."
    )
    said = [first]
    together = {k: format_number(v) for k, v in _coexpression_facts(found).items()}
    if together["agreement"] != DASH:
        said.append(
            f"Which genes go together is kept to {together['agreement']} of a possible {together['ceiling']} "
            f"(correlation over pairs of genes); the mean strength of a pair is {together['predicted']} "
            f"where predicted and {together['measured']} where measured."
        )
    if found.domains:
        ari = {r["source"]: r["ari"] for r in _domain_rows(found)}
        others = sorted((k for k in ari if k not in {"predicted", "measured", "noise"}), key=lambda k: -ari[k])
        best = f"; without any expression {others[0]} reaches {format_number(ari[others[0]])}" if others else ""
        said.append(
            f"Domains of predicted expression agree with the pathologist to {format_number(ari['predicted'])} "
            f"(adjusted Rand index), those of measured expression to {format_number(ari['measured'])}{best}."
        )
    return said


def _draw_genes(found: Analysis) -> Iterator[Picture]:
    """Draw the surest genes in the first section of each donor."""
    for one in {s.section.donor: s for s in reversed(found.sections)}.values():
        genes = [g for g in found.genes.index if g in one.section.genes][:N_MAPPED]
        columns = [one.section.genes.index(g) for g in genes]
        maps = [
            GeneMap(
                gene=g, predicted=one.expression[:, c], measured=_spread(one, one.measured[:, c]), note=_note(one, c)
            )
            for g, c in zip(genes, columns, strict=True)
        ]
        yield Picture(
            name=f"genes_{one.section.id}.png",
            alt=f"Section {one.section.id}: H&E, then measured, predicted and error of {', '.join(genes)}",
            caption=f"Donor {one.section.donor}, section {one.section.id}: the surest genes of the table",
            png=to_png(section_figure(one.section, maps, unit=UNITS[one.unit]), dpi=DPI),
        )


def _draw_sets(found: Analysis) -> Iterator[Picture]:
    """Draw the gene sets that are predicted best, in the section where they are."""
    best: dict[str, SetScore] = {}
    for score in found.sets:
        if np.isfinite(score.r):
            best.setdefault(score.gene_set, score)
    by_section: dict[str, list[SetScore]] = {}
    for score in list(best.values())[:N_MAPPED]:
        by_section.setdefault(score.section, []).append(score)
    sections = {s.section.id: s for s in found.sections}
    for name, scores in by_section.items():
        one = sections[name]
        maps = [
            GeneMap(
                gene=s.title, note=f"{len(s.genes)} of {s.n_in_set} genes; Pearson {s.r:.2f}, p = {s.p:.2g}",
                predicted=_set_map(one, s, one.predicted), measured=_set_map(one, s, one.measured),
            )
            for s in scores
        ]  # fmt: skip
        yield Picture(
            name=f"gene_sets_{name}.png",
            alt=f"Section {name}: measured, predicted and error of {', '.join(s.title for s in scores)}",
            caption=f"Section {name}, where these sets are predicted best",
            png=to_png(section_figure(one.section, maps, unit="mean of the set's genes, each in sd"), dpi=DPI),
        )


def _draw_coexpression(found: Analysis) -> Iterator[Picture]:
    """Draw the section whose agreement is the median."""
    known = sorted((c.agreement, s) for s, c in found.coexpression.items() if np.isfinite(c.agreement))
    for agreement, name in known[len(known) // 2 :][:1]:
        yield Picture(
            name=f"coexpression_{name}.png",
            alt=f"Two matrices of correlations between genes of section {name}, measured and predicted",
            caption=f"Section {name}, of median agreement ({agreement:.2f}): orange pairs rise together, purple ones "
            "exclude each other",
            png=to_png(coexpression_figure(found.coexpression[name]), dpi=PAGE_DPI),
        )


def _draw_domains(found: Analysis, encoder: str) -> Iterator[Picture]:
    if found.domains:
        yield Picture(
            name="domains.png", alt="Dot plot of each input's agreement with the pathologist",
            caption="Every input clustered with the same settings; mean over sections with labels",
            png=to_png(agreement_figure(found.domains), dpi=PAGE_DPI),
        )  # fmt: skip
    for one in (s for s in found.sections if read_labels(s.section) is not None):
        scores = [d for d in found.domains if d.section == one.section.id]
        yield Picture(
            name=f"domains_{one.section.id}.png",
            alt=f"Section {one.section.id}: the pathologist's regions beside domains found in each input",
            caption=f"Section {one.section.id}: each domain has the colour of the region it shares most spots with",
            png=to_png(domain_figure(one.section, domain_inputs(one, encoder), scores), dpi=DPI),
        )


def _coexpression_facts(found: Analysis) -> dict[str, Any]:
    """Return means over sections, then donors; None where nothing is defined."""
    donor = {s.section.id: s.section.donor for s in found.sections}
    rows = pd.DataFrame(
        [
            {"donor": donor[s], "agreement": c.agreement, "ceiling": c.ceiling, "signs_kept": c.signs_kept,
             "measured": c.strength_measured, "predicted": c.strength_predicted}
            for s, c in found.coexpression.items()
        ]
    )  # fmt: skip
    mean = rows.groupby("donor").mean().mean()
    return {str(k): float(v) if np.isfinite(v) else None for k, v in mean.items()}


def _domain_rows(found: Analysis) -> list[dict[str, Any]]:
    """Return agreement by input, mean over sections."""
    if not found.domains:
        return []
    table = pd.DataFrame([asdict(d) for d in found.domains])
    mean = table.groupby(["source", "smooth"])[["ari", "nmi"]].mean()
    plain, smooth = (mean.xs(s, level="smooth") for s in (False, True))
    rows = plain.join(smooth, rsuffix="_smooth").sort_values("ari", ascending=False)
    return rows.reset_index().to_dict("records")


def _tables(found: Analysis) -> dict[str, pd.DataFrame]:
    sets = pd.DataFrame(
        [asdict(s) | {"genes": " ".join(s.genes)} for s in found.sets], columns=list(SetScore.__annotations__)
    )
    tables = {"genes": found.genes.reset_index(), "gene_sets": sets}
    return tables | ({"domains": pd.DataFrame([asdict(d) for d in found.domains])} if found.domains else {})


def _spread(one: PredictedSection, values: np.ndarray) -> np.ndarray:
    """Return the values of kept spots at every spot, NaN at the others."""
    out = np.full(one.section.n_spots, np.nan)
    out[one.section.kept] = values
    return out


def _set_map(one: PredictedSection, score: SetScore, values: np.ndarray) -> np.ndarray:
    return _spread(one, set_expression(values, [one.section.genes.index(g) for g in score.genes]))


def _note(one: PredictedSection, column: int) -> str:
    a, b = one.measured[:, column], one.predicted[:, column]
    r = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")
    return f"Pearson {r:.2f} in this section" if np.isfinite(r) else "no correlation: one value everywhere"


def _rate(value: float) -> str:
    """Return a p value or a rate as people read it."""
    if not np.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
