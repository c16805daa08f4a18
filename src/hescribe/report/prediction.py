"""The page of a prediction: what was done, on what, which genes to trust, where not to, and what to cite."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from hescribe import __version__, keys
from hescribe._support import write_whole
from hescribe.bench.model_folder import ModelInfo
from hescribe.data.section import Section
from hescribe.prep.graph import pitch_um
from hescribe.prep.looks import UNLIKE
from hescribe.report.maps import drawn_genes
from hescribe.report.model_card import CLASSES, describe_model, list_params
from hescribe.report.page import Picture
from hescribe.report.template import template_environment

PAGE = "report.html"
N_PICTURES = 12  # sections whose map is on the page; those of the others lie beside it
N_ROWS = 40  # genes in the table


@dataclass(frozen=True, kw_only=True)
class PredictedFacts:
    """What the page says of one section.

    Parameters
    ----------
    id, source
        Of the section, and the file it was read from.
    size_mm
        Width and height of its image.
    mpp
        um per pixel of the image at full resolution.
    n_spots, spacing_um
        Predicted, and how far apart.
    unlike
        Share of spots that look unlike the training images; None if nothing is known.
    flags
        Number of spots by what is wrong with the image there.
    doubts
        Why the section may not be trusted.
    picture
        Its map.
    """

    id: str
    source: str
    size_mm: tuple[float, float]
    mpp: float
    n_spots: int
    spacing_um: float
    unlike: float | None
    flags: dict[str, int]
    doubts: tuple[str, ...]
    picture: Picture


def describe_section(section: Section, table: AnnData, source: str, png: Path) -> PredictedFacts:
    """Return what the page says of a section.

    Parameters
    ----------
    section
        With its image.
    table
        What was predicted for it.
    source
        File it was read from.
    png
        Its map, as ``write_map`` wrote it.
    """
    assert section.image is not None
    ood = table.obs[keys.OOD].to_numpy(dtype=float)
    flags = table.obs[keys.FLAG].value_counts().to_dict() if keys.FLAG in table.obs else {}
    genes = "; ".join(f"{g}, {table.var.loc[g, keys.TRUST]}" for g in drawn_genes(section, table))
    alt = f"Section {section.id}: the H&E image beside maps of expression. Genes: {genes}."
    if np.isfinite(ood).any():
        alt += f" {(ood > UNLIKE).mean():.0%} of the spots are pale, for they look unlike the training images."
    width, height = section.image.size_um
    return PredictedFacts(
        id=section.id, source=source, size_mm=(width / 1000, height / 1000), mpp=section.image.mpp,
        n_spots=table.n_obs, spacing_um=pitch_um(section),
        unlike=float((ood > UNLIKE).mean()) if np.isfinite(ood).any() else None,
        flags={str(k): int(n) for k, n in flags.items() if k and n},
        doubts=tuple(table.uns["hescribe"].get("doubts", ())),
        picture=Picture(name=png.name, alt=alt, caption="", png=png.read_bytes()),
    )  # fmt: skip


def write_prediction_page(path: Path, info: ModelInfo, sections: Sequence[PredictedFacts], seen: Sequence[str]) -> None:
    """Write the page of a prediction. It holds its pictures and needs no network.

    Parameters
    ----------
    path
        File to write.
    info
        Of the model.
    sections
        What was predicted; at least one.
    seen
        Sections of donors that the model was trained on.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    """
    facts = describe_model(info)
    html = template_environment().get_template("prediction.html.j2").render(
        facts=facts, info=info, sections=sections, seen=seen, genes=_gene_rows(info)[:N_ROWS], classes=CLASSES,
        n_pictures=N_PICTURES, unlike=UNLIKE, version=__version__, n_spots=sum(s.n_spots for s in sections),
        params=list_params(info),
    )  # fmt: skip
    with write_whole(path) as tmp:
        tmp.write_text(html, encoding="utf-8")


def _gene_rows(info: ModelInfo) -> list[dict[str, Any]]:
    """Return the genes, trusted ones first, then by score, with the share of what is possible."""
    order = list(CLASSES)
    rows = []
    for gene, scores in info.scores.items():
        pearson, ceiling = scores.get("pearson"), scores.get("ceiling")
        share = pearson / ceiling if pearson is not None and ceiling else None
        if scores["trust"] == "do not use":
            share = None  # of a correlation by chance it says nothing
        rows.append({"gene": gene, "lowest_donor": None, "depth_partial": None, **scores, "pearson": pearson,
                     "ceiling": ceiling, "share": share})  # fmt: skip
    return sorted(rows, key=lambda r: (order.index(r["trust"]), -(r["pearson"] if r["pearson"] is not None else -1.0)))
