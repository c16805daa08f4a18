"""How an aligner is scored on held-out donors, and the controls that it must beat to matter.

Ridge as a retriever adds no contrastive step: expression is predicted from the image and looked up. Density and depth
say how far counting nuclei and counts alone gets. They are no methods, and must not stand where a user could fit one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, get_args

import numpy as np

from hescribe import keys
from hescribe.align.base import Aligner, to_pairs
from hescribe.bench.leakage import check_encoder, check_gene_encoder
from hescribe.bench.model_names import encoder_name
from hescribe.bench.task import Fold
from hescribe.cards import GeneEncoderCard, MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.features import embed_section
from hescribe.encode.gene.base import Coverage, GeneEncoder, check_counts
from hescribe.metrics.gene import rank
from hescribe.metrics.pairs import Pairs, to_unit
from hescribe.metrics.pools import PoolKind
from hescribe.metrics.retrieval import SIZES, RetrievalScore, score_retrieval
from hescribe.params import Params
from hescribe.predict.ridge import RidgePredictor
from hescribe.prep.scale import Scale

OPTICAL_DENSITY = slice(6, 9)  # of the colour encoder, red to blue: nuclei are dark in red


@dataclass(kw_only=True)
class RidgeRetriever(Params):
    """Predicted expression against measured expression, each gene scaled by the train spots.

    Parameters
    ----------
    ridge
        What predicts.
    """

    name: ClassVar[str] = "ridge_retriever"
    card: ClassVar[MethodCard] = MethodCard(summary="expression predicted by a ridge, looked up by cosine")
    ridge: RidgePredictor = field(default_factory=RidgePredictor)

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Fit the ridge."""
        self.fitted_ridge_ = self.ridge.with_params().fit(train, val=val)
        self.scale_ = Scale.of(train.stack(keys.TARGET))
        return self

    def encoder_name(self) -> str | None:
        """Return the image encoder that the ridge reads."""
        return encoder_name(self.ridge)

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the predicted expression of every spot, as unit vectors."""
        self.check_fitted()
        return _unit(self.scale_.apply(self.fitted_ridge_.predict(section).mean))

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the measured expression of every spot, as unit vectors."""
        self.check_fitted()
        return _unit(self.scale_.apply(_whole(section).layer(keys.TARGET)))


@dataclass(kw_only=True)
class DensityOnly(Params):
    """How dark a patch is in red against how many counts its spot has, by rank in the section; nothing is learned."""

    name: ClassVar[str] = "density_only"
    card: ClassVar[MethodCard] = MethodCard(summary="darkness of a patch against the counts of its spot")

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to learn
        """Remember the panel."""
        self.genes_ = train.genes
        return self

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the rank of every spot's density as an angle."""
        return on_arc(embed_section(section, "color", fov_um=(112.0,))[:, OPTICAL_DENSITY][:, 0])

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the rank of every spot's depth as an angle."""
        return on_arc(section.depth)


@dataclass(kw_only=True)
class DepthEncoder(Params):
    """The logarithm of a spot's total counts: what an aligner finds with it is depth and nothing else."""

    name: ClassVar[str] = "depth_only"
    card: ClassVar[GeneEncoderCard] = GeneEncoderCard(
        name="depth_only", revision="1", n_dims=1, scaling="ln(1 + total)", sees_depth=True, licence="BSD-3-Clause",
        paper="none",
    )  # fmt: skip

    def fit(self, train: Cohort) -> Self:
        """Learn nothing."""
        del train
        return self

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return that any panel will do."""
        return Coverage(genes, np.arange(len(genes)), np.arange(len(genes)))

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return the logarithm of each total, shape ``(n_spots, 1)`` float32."""
        return np.log1p(check_counts(counts, genes).sum(axis=1, keepdims=True))


@dataclass(kw_only=True)
class ShuffledPairsAligner(Params):
    """An aligner fitted on pairs that do not belong together: counts permuted inside each train section.

    Parameters
    ----------
    base
        The aligner.
    seed
        Of the permutation.
    """

    name: ClassVar[str] = "shuffled_pairs"
    card: ClassVar[MethodCard] = MethodCard(summary="an aligner on shuffled training pairs: what chance gives")
    base: Aligner
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Fit the aligner on permuted counts, its inner choices too."""
        rng = np.random.default_rng(self.seed)
        fresh: Aligner = self.base.with_params()  # type: ignore[attr-defined]
        self.fitted_base_ = fresh.fit(train.map(lambda s: _permute(s, rng)), val=val)
        return self

    def encoder_name(self) -> str | None:
        """Return the image encoder that the aligner reads."""
        return encoder_name(self.base)

    def embed_image(self, section: Section) -> np.ndarray:
        """Return what the aligner makes of the image."""
        self.check_fitted()
        return self.fitted_base_.embed_image(section)

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return what the aligner makes of the counts."""
        self.check_fitted()
        return self.fitted_base_.embed_expression(section)


def on_arc(values: np.ndarray) -> np.ndarray:
    """Return numbers as unit vectors whose cosine falls with the difference of their ranks, shape ``(n, 2)``.

    Examples
    --------
    >>> on_arc(np.array([10.0, 30.0, 20.0])).astype(float).round(2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.71, 0.71]]
    """
    angle = (rank(np.asarray(values, dtype=np.float64)[:, None])[:, 0] - 1) / max(len(values) - 1, 1) * np.pi / 2
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def fit_on_fold(aligner: Aligner, fold: Fold) -> Aligner:
    """Return a copy of an aligner, fitted on the train donors of a fold.

    Raises
    ------
    LeakageError
        If an encoder was trained on the test donors.
    """
    if name := encoder_name(aligner):
        check_encoder(create_encoder(name).card, fold.test.card.id, [s.id for s in fold.test])
    fresh: Any = aligner.with_params()  # type: ignore[attr-defined]
    if isinstance(of_genes := getattr(fresh, "gene_encoder", None), GeneEncoder):
        check_gene_encoder(of_genes, fold.test)
    fitted: Aligner = fresh.fit(fold.train, val=fold.val)
    return fitted


def embed_fold(aligner: Aligner, fold: Fold) -> tuple[Pairs, np.ndarray]:
    """Fit an aligner on train donors and embed the kept spots of both sides.

    Parameters
    ----------
    aligner
        Not fitted; a copy is.
    fold
        Whose test donors nothing has seen.

    Returns
    -------
    The pairs, and which of them are test spots, shape ``(n_spots,)`` of bool.

    Raises
    ------
    LeakageError
        If an encoder was trained on the test donors.
    """
    return pairs_of(fit_on_fold(aligner, fold), fold)


def pairs_of(fitted: Aligner, fold: Fold) -> tuple[Pairs, np.ndarray]:
    """Return what a fitted aligner makes of the kept spots of both sides of a fold: see ``embed_fold``."""
    pairs = to_pairs(fitted, Cohort((*fold.test, *fold.train), fold.test.card), reference=fold.train)
    return pairs, np.isin(pairs.section, [s.id for s in fold.test])


def score_aligner(
    aligner: Aligner,
    fold: Fold,
    *,
    pools: Sequence[PoolKind] = get_args(PoolKind),
    sizes: Sequence[int | None] = SIZES,
    seed: int = 0,
) -> list[RetrievalScore]:
    """Fit an aligner on train donors and score what spots of the test donors find, with depth and without.

    Parameters
    ----------
    aligner, fold
        See ``embed_fold``. Test spots ask, spots of both sides are candidates.
    pools, sizes, seed
        See ``score_retrieval``.

    Returns
    -------
    Scores of the test sections, those without depth behind the others.

    Raises
    ------
    LeakageError
        If an encoder was trained on the test donors.
    """
    pairs, asking = embed_fold(aligner, fold)
    rows: list[RetrievalScore] = []
    for without_depth in (False, True):
        rows += score_retrieval(pairs, pools=pools, sizes=sizes, asking=asking, without_depth=without_depth, seed=seed)
    return rows


def _unit(values: np.ndarray) -> np.ndarray:
    return to_unit(np.asarray(values, dtype=np.float64)).astype(np.float32)


def _whole(section: Section) -> Section:
    """Return the section with all spots kept."""
    return section.with_kept(np.ones(section.n_spots, dtype=bool))


def _permute(section: Section, rng: np.random.Generator) -> Section:
    """Return the section with the counts of its kept spots permuted, and all that follows from them."""
    table, kept = section.table.copy(), np.flatnonzero(section.kept)
    order = np.arange(section.n_spots)
    order[kept] = rng.permutation(kept)
    for name in table.layers:
        table.layers[name] = table.layers[name][order]
    table.obs[keys.DEPTH] = section.depth[order]
    return section.with_table(table)
