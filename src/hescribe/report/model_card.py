"""The card of a fitted model, written by the program: one page for people, and the README that a model hub reads."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hescribe._support import write_whole
from hescribe.bench.doubt import UNKNOWN
from hescribe.bench.model_folder import ModelInfo
from hescribe.bench.model_terms import inherited_licences, short_licence
from hescribe.bench.scores import Score
from hescribe.cards import MethodCard
from hescribe.metrics.stats import MIN_DONORS
from hescribe.predict.base import predictors
from hescribe.report.figure import ladder_figure
from hescribe.report.page import Picture, to_png
from hescribe.report.reliability import describe_reliability, reliability_figure
from hescribe.report.table import MAIN, WITHOUT_DEPTH, ModelLine, Null, format_number
from hescribe.report.template import template_environment

PAGE, README = "card.html", "README.md"
N_GENES = 12  # named on the page
MODEL = "model"  # the model's own name among its scores
CLASSES = {"predictable": "class", "weak": "class weak", "do not use": "class no", "untested": "class weak"}
HUB_LICENCES = {
    "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0", "gpl-3.0", "mit",
}  # fmt: skip # that Hugging Face knows by name; any other is stated in words


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a card says, as a reader sees it.

    Parameters
    ----------
    info
        Of the model.
    method
        Card of its predictor.
    title
        Method and training data in a few words.
    own, without_depth
        Scores on held-out donors: Pearson, plain and after log depth was removed; None where there are none.
    null, depth_oracle
        What shuffled pairs reach, and the log total counts of the test spots alone.
    trust
        Number of genes of each class.
    best
        The genes that are predicted best, trusted ones first, with their scores.
    limits
        Where not to use the model, a sentence each.
    cite
        What to cite.
    licence
        Under whose terms the model stands, in a sentence or two.
    """

    info: ModelInfo
    method: MethodCard
    title: str
    own: Score | None
    without_depth: Score | None
    null: Null | None
    depth_oracle: float | None
    trust: dict[str, int]
    best: list[tuple[str, dict[str, Any]]]
    limits: list[str]
    cite: list[str]
    licence: str


def describe_model(info: ModelInfo) -> ModelFacts:
    """Return what the card of a model says."""
    scores = {(s.model, s.metric): s for s in info.held_out}
    trust = dict.fromkeys(CLASSES, 0)
    for gene in info.scores.values():
        trust[gene["trust"]] += 1
    order = list(CLASSES)
    best = sorted(info.scores.items(), key=lambda g: (order.index(g[1]["trust"]), -(g[1].get("pearson") or -1.0)))
    own, without_depth = scores.get((MODEL, MAIN)), scores.get((MODEL, WITHOUT_DEPTH))
    oracle = scores.get(("depth_oracle", MAIN))
    method = predictors.get(info.method).card
    has_paper = info.encoder is not None and not info.encoder["paper"].startswith("none")
    encoder = [f"encoder {info.encoder['name']}: {info.encoder['paper']}"] if info.encoder and has_paper else []
    return ModelFacts(
        info=info, method=method, title=f"{info.method} fitted on {info.cohort}", own=own,
        without_depth=without_depth, null=Null.of(own), depth_oracle=None if oracle is None else oracle.value,
        trust={k: n for k, n in trust.items() if n}, best=[g for g in best if g[1].get("pearson")][:N_GENES],
        limits=_limits(info, own, without_depth, trust["predictable"]),
        cite=[*filter(None, [method.paper]), *encoder, f"data: {info.citation}", f"HEscribe {info.version}"],
        licence=_tell_licence(info),
    )  # fmt: skip


def write_model_card(info: ModelInfo, out: Path) -> Path:
    """Write the page of a model. It holds its figure and needs no network.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    """
    facts = describe_model(info)
    html = template_environment().get_template("model_card.html.j2").render(
        facts=facts, info=info, figure=_figure(facts), reliability=_reliability(info), classes=CLASSES,
        min_donors=MIN_DONORS,
        params=list_params(info),
    )  # fmt: skip
    with write_whole(out) as tmp:
        tmp.write_text(html, encoding="utf-8")
    return out


def write_cards(info: ModelInfo, folder: Path) -> tuple[Path, Path]:
    """Write the page and the README of a model into its folder, and return their paths."""
    readme = folder / README
    with write_whole(readme) as tmp:
        tmp.write_text(render_readme(info), encoding="utf-8")
    return write_model_card(info, folder / PAGE), readme


def render_readme(info: ModelInfo) -> str:
    """Return the model card as Markdown with the front matter that Hugging Face reads.

    Its fields are those of huggingface.co/docs/hub/model-cards. What comes from data cannot become markup.
    """
    facts = describe_model(info)
    licences = dict(inherited_licences(info))
    licence = short_licence(next(iter(licences))) if len(licences) == 1 else ""
    front: dict[str, Any] = {
        "library_name": "hescribe",
        "license": licence if licence in HUB_LICENCES else "other",
        "tags": ["histology", "spatial-transcriptomics", "gene-expression", *(["synthetic"] if info.synthetic else [])],
    }
    if licence not in HUB_LICENCES:
        several = " and ".join(f"{name} ({whose})" for name, whose in licences.items())
        front["license_name"] = several if len(licences) > 1 else next(iter(licences))
    if facts.own is not None and facts.own.value is not None:
        result = {
            "task": {"type": "other", "name": "gene expression from H&E, held-out donors"},
            "dataset": {"type": info.cohort, "name": info.cohort},
            "metrics": [{"type": "pearsonr", "value": round(facts.own.value, 4), "name": "mean over genes and donors"}],
        }
        front["model-index"] = [{"name": facts.title, "results": [result]}]
    templates = template_environment()
    templates.autoescape = False
    templates.filters["plain"] = _plain
    body = templates.get_template("model_readme.md.j2").render(facts=facts, info=info)
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items()]  # JSON is YAML
    return "\n".join(["---", *lines, "---", "", body])


def _figure(facts: ModelFacts) -> Picture | None:
    """Return the scores of model and controls beside chance and ceiling; None where nothing was scored."""
    if facts.own is None:
        return None
    lines = []
    for name in dict.fromkeys(s.model for s in facts.info.held_out):
        scores = {s.metric: s for s in facts.info.held_out if s.model == name}
        kind = scores[MAIN].control or "predictor"
        lines.append(
            ModelLine(
                model=facts.info.method if name == MODEL else name, summary="", kind=kind, transductive=False,  # type: ignore[arg-type]
                n_planned=1, n_done=1, scores=scores,
            )
        )  # fmt: skip
    said = "; ".join(f"{x.model} {format_number(x.value)}" for x in lines)
    return Picture(
        name="scores.png", alt=f"Dot plot of mean Pearson correlation on held-out donors: {said}", caption="",
        png=to_png(ladder_figure(lines), dpi=130),
    )  # fmt: skip


def _reliability(info: ModelInfo) -> Picture | None:
    """Return what the intervals held of donors left out; None where none was."""
    if info.interval is None or not info.interval.by_donor:
        return None
    return Picture(
        name="reliability.png", alt=describe_reliability(info.interval), caption="",
        png=to_png(reliability_figure(info.interval), dpi=130),
    )  # fmt: skip


def _limits(info: ModelInfo, own: Score | None, without_depth: Score | None, n_predictable: int) -> list[str]:
    """Return where not to use a model, from what is known of it."""
    n_genes, n_donors = len(info.scores), len(info.donors)
    limits = ["Not for diagnosis or treatment: it was tested on no clinical question."]
    if info.synthetic:
        limits.append("It was fitted on generated data and says nothing about tissue.")
    if n_donors < 2:
        limits.append("It was fitted on one donor and tested on none: how far it holds for another person is unknown.")
    elif n_donors < MIN_DONORS:
        limits.append(f"{n_donors} donors are too few to say how much donors differ; expect surprises on a new one.")
    if n_donors > 1:
        limits.append(
            f"{n_genes - n_predictable:,} of its {n_genes:,} genes are not predictable from the image: a map of one of "
            "them is no evidence, however plausible it looks."
        )
    organs = ", ".join(o for o in info.organs if o not in UNKNOWN) or "tissue of an unnamed organ"
    limits.append(
        f"Trained on {organs} only: on another organ, stain or scanner its numbers mean nothing. Many spots with an "
        "out-of-distribution score near 1 say that this is the case."
    )
    if own and without_depth and own.value and (without_depth.value or 0.0) < own.value / 2:
        limits.append(
            "More than half of its correlation goes with the total counts of a spot (roughly, how much tissue is "
            "there): it says less about single genes than the plain score suggests."
        )
    if info.undefined:
        limits.append(f"{info.undefined[0].upper()}{info.undefined[1:]}.")
    limits.append("It predicts relative expression, ln(1 + 10⁴ · count / depth): no counts, and no cells.")
    return limits


def _tell_licence(info: ModelInfo) -> str:
    """Return under whose terms a model stands, and what its encoder asks of who uses it."""
    bound = " and ".join(f"{name} of its {whose}" for name, whose in inherited_licences(info))
    gated = (
        f" Encoder {info.encoder['name']} is gated: who predicts must accept its makers' terms and have its weights."
        if info.encoder and info.encoder.get("gated")
        else ""
    )
    return f"{bound}.{gated}"


def list_params(info: ModelInfo) -> str:
    """Return the parameters of a model that are set, as a reader would write them."""
    return "; ".join(f"{k} {_listed(v)}" for k, v in info.params.items() if v not in (None, False))


def _listed(value: object) -> str:
    """Return the value of a parameter as a reader would write it."""
    if isinstance(value, dict):  # a component that holds parameters of its own
        inner = ", ".join(f"{k} {_listed(v)}" for k, v in value.items() if k != "name" and v not in (None, False))
        return f"{value.get('name', '')} ({inner})" if inner else str(value.get("name", ""))
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value)
    return "yes" if value is True else str(value)


def _plain(text: object) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))
