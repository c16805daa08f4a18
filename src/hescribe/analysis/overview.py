"""Everything that can be asked of predicted expression, section by section, in one record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.analysis.coexpression import Coexpression, compare_coexpression
from hescribe.analysis.domains import DomainScore, read_labels, score_domains
from hescribe.analysis.gene_sets import GeneSet, find_sets, published_sets, set_expression
from hescribe.analysis.significance import Association, adjust, associate, combine
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.features import embed_section
from hescribe.errors import InputError
from hescribe.metrics.gene import remove_linear
from hescribe.prep.graph import array_points
from hescribe.prep.targets import Unit, normaliser
from hescribe.progress import track

LEVEL = 0.05  # false discovery rate at which a gene is called predicted
SMALLEST = 10  # kept spots that a section must have


@dataclass(frozen=True)
class PredictedSection:
    """A section that was measured, and what a model predicted for it.

    Parameters
    ----------
    section
        On the genes that were predicted, with ``layers["counts"]`` and ``layers["target"]``.
    expression
        Predicted, shape ``(n_spots, n_genes)``, in the unit of the target.
    unit
        Of the target: see ``prep.targets``.

    Raises
    ------
    InputError
        If the prediction has another shape than the section, or a value that is not finite.
    """

    section: Section
    expression: np.ndarray
    unit: Unit = "lognorm"

    def __post_init__(self) -> None:
        expected = (self.section.n_spots, len(self.section.genes))
        if self.expression.shape != expected:
            raise InputError(
                f"the prediction of section {self.section.id} has shape {self.expression.shape}, "
                f"expected {expected} (n_spots, n_genes)"
            )
        if not np.isfinite(self.expression).all():
            raise InputError(f"the prediction of section {self.section.id} holds values that are not finite")

    @cached_property
    def measured(self) -> np.ndarray:
        """Measured expression of the kept spots, shape ``(n_kept, n_genes)``."""
        return self.section.layer(keys.TARGET).astype(np.float64)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Predicted expression of the kept spots, shape ``(n_kept, n_genes)``."""
        return self.expression[self.section.kept].astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class SetScore:
    """How well the mean of a gene set is predicted in one section; see ``Association``."""

    section: str
    donor: str
    gene_set: str
    title: str
    genes: tuple[str, ...]
    n_in_set: int
    r: float
    n_effective: float
    p: float


@dataclass(frozen=True)
class Analysis:
    """What came out, by section.

    Parameters
    ----------
    sections
        What was analysed.
    genes
        One row for each gene, the surest first: mean correlation over donors ``r``, of the lowest and the highest
        section, median ``n_effective`` and ``n_spots``, ``p`` over donors and the false discovery
        rate ``q``, the same were all spots independent (``p_naive``, ``q_naive``), ``r_without_depth`` and
        ``q_without_depth`` after log total counts were taken out of both maps, and the sections and donors
        behind them.
    sets
        Of gene sets, the best first.
    coexpression
        By section id.
    domains
        Of sections with a pathologist's labels.
    notes
        What a reader must know.
    """

    sections: tuple[PredictedSection, ...]
    genes: pd.DataFrame
    sets: tuple[SetScore, ...]
    coexpression: dict[str, Coexpression]
    domains: tuple[DomainScore, ...]
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the numbers without the matrices; what is undefined is None."""
        pairs = {
            s: {k: v for k, v in asdict(c).items() if k not in {"measured", "predicted", "genes"}}
            for s, c in self.coexpression.items()
        }
        return _plain(
            {
                "sections": [s.section.id for s in self.sections],
                "n_genes": len(self.genes), "n_predicted": self.n_predicted("q"), "level": LEVEL,
                "n_predicted_if_spots_were_independent": self.n_predicted("q_naive"),
                "n_predicted_without_depth": self.n_predicted("q_without_depth"),
                "genes": self.genes.reset_index().to_dict("records"),
                "gene_sets": [asdict(s) for s in self.sets],
                "coexpression": pairs,
                "domains": [asdict(d) for d in self.domains],
                "notes": list(self.notes),
            }
        )  # fmt: skip

    def n_predicted(self, column: str) -> int:
        """Return how many genes have a false discovery rate (``"q"``, ``"q_naive"``, ...) of at most 5 %."""
        return int((self.genes[column] <= LEVEL).sum())


def analyse(
    predicted: Sequence[PredictedSection],
    *,
    encoder: str = "efficientnet_lite0",
    sets: Mapping[str, GeneSet] | None = None,
    seeds: Sequence[int] = range(5),
    notes: Sequence[str] = (),
) -> Analysis:
    """Ask predictions of measured sections for domains, genes, gene sets and co-expression.

    Parameters
    ----------
    predicted
        Sections with fewer than 10 kept spots are left out and said.
    encoder
        Whose features domains are compared with, in sections with labels and an image.
    sets
        Gene sets by name; the published ones by default.
    seeds
        Of k-means.
    notes
        Taken over.

    Raises
    ------
    InputError
        If no section has enough spots.
    UnknownNameError
        If there is no such encoder.
    """
    create_encoder(encoder)  # a wrong name is told before anything is computed
    large = tuple(p for p in predicted if p.section.kept.sum() >= SMALLEST)
    if not large:
        raise InputError(f"no section has {SMALLEST} spots with measured expression; there is nothing to analyse")
    small = [p.section.id for p in predicted if p.section.kept.sum() < SMALLEST]
    said = [*notes, *([f"fewer than {SMALLEST} spots, left out: {', '.join(small)}"] if small else [])]
    found, without_depth, together, set_scores, domains = [], [], {}, [], []
    for one in track(large, "analysing sections"):
        section, points = one.section, array_points(one.section)[one.section.kept]
        found.append(associate(one.measured, one.predicted, points))
        log_depth = np.log(np.maximum(section.depth[section.kept], 1.0))
        without_depth.append(
            associate(remove_linear(one.measured, log_depth), remove_linear(one.predicted, log_depth), points)
        )
        together[section.id] = compare_coexpression(
            one.measured, one.predicted, section.genes, counts=section.layer(keys.COUNTS),
            depth=section.depth[section.kept], normalise=normaliser(section, one.unit),
        )  # fmt: skip
        set_scores += _score_sets(one, points, published_sets() if sets is None else sets)
        if read_labels(section) is not None:
            domains += score_domains(section, domain_inputs(one, encoder), seeds=seeds)
    if not domains:
        said.append("no section has a pathologist's labels; domains were not compared")
    ranked = tuple(sorted(set_scores, key=lambda s: -s.r if np.isfinite(s.r) else np.inf))
    return Analysis(large, rank_genes(large, found, without_depth), ranked, together, tuple(domains), tuple(said))


def rank_genes(
    predicted: Sequence[PredictedSection], found: Sequence[Association], without_depth: Sequence[Association]
) -> pd.DataFrame:
    """Return the gene table of an ``Analysis`` from the tests of its sections, whose panels may differ."""
    donors = [p.section.donor for p in predicted]
    genes = list(dict.fromkeys(g for p in predicted for g in p.section.genes))

    def gather(tests: Sequence[Association], name: str) -> pd.DataFrame:
        rows = [pd.Series(getattr(t, name), list(p.section.genes)) for t, p in zip(tests, predicted, strict=True)]
        return pd.DataFrame([r.reindex(genes) for r in rows]).set_axis(donors)

    def mean(r: pd.DataFrame) -> pd.Series:
        return r.groupby(level=0).mean().mean()

    r, n_effective = gather(found, "r"), gather(found, "n_effective")
    n_spots = r.notna().mul([p.section.kept.sum() for p in predicted], axis=0).where(r.notna())
    tests = {"p": (found, "p"), "p_naive": (found, "p_naive"), "p_without_depth": (without_depth, "p")}
    p = {name: combine(gather(*which).to_numpy(), donors) for name, which in tests.items()}
    table = pd.DataFrame(
        {
            "r": mean(r), "r_lowest": r.min(), "r_highest": r.max(), "n_effective": n_effective.median(),
            "n_spots": n_spots.median(), "p": p["p"], "q": adjust(p["p"]), "p_naive": p["p_naive"],
            "q_naive": adjust(p["p_naive"]), "r_without_depth": mean(gather(without_depth, "r")),
            "q_without_depth": adjust(p["p_without_depth"]), "n_sections": r.notna().sum(),
            "n_donors": r.groupby(level=0).mean().notna().sum(),
        }
    )  # fmt: skip
    table.index.name = "gene"
    return table.sort_values(["p", "r"], ascending=[True, False])


def domain_inputs(one: PredictedSection, encoder: str) -> dict[str, np.ndarray]:
    """Return what domains are found in: predicted and measured expression, and what needs no model of expression."""
    section = one.section
    measured = np.zeros(one.expression.shape)
    measured[section.kept] = one.measured
    inputs = {"predicted": one.expression, "measured": measured}
    if section.image is not None:
        inputs |= {"image features": embed_section(section, encoder), "colour": embed_section(section, "color")}
    return {**inputs, "place": section.xy_um}


def _score_sets(one: PredictedSection, points: np.ndarray, sets: Mapping[str, GeneSet]) -> list[SetScore]:
    found = find_sets(one.section, sets)
    if not found:
        return []
    column = {g: i for i, g in enumerate(one.section.genes)}
    a, b = (
        np.column_stack([set_expression(v, [column[g] for g in genes]) for genes in found.values()])
        for v in (one.measured, one.predicted)
    )
    test = associate(a, b, points)
    return [
        SetScore(
            section=one.section.id, donor=one.section.donor, gene_set=name, title=sets[name].title, genes=genes,
            n_in_set=len(sets[name].genes), r=float(test.r[i]), n_effective=float(test.n_effective[i]),
            p=float(test.p[i]),
        )
        for i, (name, genes) in enumerate(found.items())
    ]  # fmt: skip


def _plain(value: Any) -> Any:
    """Return the value as JSON can hold it."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
