"""The ladder of simple models that every method is shown on, and the controls that bound it.

Rungs are predictors like any other. Controls are not: they shuffle the training pairs or use the
test spots' own expression, exist only here, and are marked in every row.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse
from scipy.cluster.vq import kmeans2, vq

from hescribe import keys
from hescribe.bench.components import create_component
from hescribe.bench.model_names import split_params
from hescribe.bench.own_model import SUFFIX, load_predictor
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.features import embed_section
from hescribe.errors import UnknownNameError
from hescribe.params import Params
from hescribe.predict.base import Prediction, Predictor, predictors
from hescribe.predict.ridge import RidgePredictor

MIN_CLUSTER = 15  # spots; in a smaller cluster the mean of the others is mostly noise
N_SHUFFLES = 10


@dataclass(kw_only=True)
class ShuffledPairs(Params):
    """A predictor, the colour ridge by default, fitted on pairs that do not belong together: the spread of no signal.

    The expression of the spots of each train section is permuted; the test section is untouched.
    What differs between whole sections stays paired, so the null need not centre on 0.

    Parameters
    ----------
    seed
        Of the permutation.
    base
        The predictor.
    """

    name: ClassVar[str] = "shuffled_pairs"
    card: ClassVar[MethodCard] = MethodCard(summary="colour ridge on shuffled training pairs: what chance gives")
    uses_truth: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    seed: int = 0
    base: Predictor = field(default_factory=lambda: RidgePredictor(encoder="color"))

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Fit the ridge on permuted expression."""
        rng = np.random.default_rng(self.seed)
        fresh: Predictor = self.base.with_params()  # type: ignore[attr-defined]
        self.fitted_base_ = fresh.fit(train.map(lambda s: _permute(s, rng)), val=val)
        return self

    def predict(self, section: Section) -> Prediction:
        """Return what the ridge makes of the image."""
        self.check_fitted()
        return self.fitted_base_.predict(section)


@dataclass(kw_only=True)
class DepthOracle(Params):
    """Log total counts of the test spot, the same for every gene. Only correlations mean anything."""

    name: ClassVar[str] = "depth_oracle"
    card: ClassVar[MethodCard] = MethodCard(summary="log total counts of the test spot itself")
    uses_truth: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to learn
        """Remember the panel."""
        self.genes_ = train.genes
        return self

    def predict(self, section: Section) -> Prediction:
        """Return log depth for every gene."""
        self.check_fitted()
        log_depth = np.log(np.maximum(section.depth, 1.0))
        return Prediction(np.repeat(log_depth[:, None], len(self.genes_), axis=1), self.genes_)


@dataclass(kw_only=True)
class DomainOracle(Params):
    """Mean measured expression of the other test spots in the same image cluster.

    What a perfect reader of coarse tissue domains could reach. Clusters come from k-means on the
    section's colour features; those with fewer than 15 kept spots join the nearest larger one.

    Parameters
    ----------
    spots_per_cluster
        Average size aimed at.
    seed
        Of k-means.
    """

    name: ClassVar[str] = "domain_oracle"
    card: ClassVar[MethodCard] = MethodCard(summary="measured mean of the other test spots in the same image cluster")
    uses_truth: ClassVar[bool] = True
    scale_free: ClassVar[bool] = False
    spots_per_cluster: int = 30
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to learn
        """Remember the panel."""
        self.genes_ = train.genes
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the leave-one-out mean of each kept spot's cluster; the section's mean if there is only one."""
        self.check_fitted()
        y, kept = section.layer(keys.TARGET).astype(np.float64), section.kept
        x = embed_section(section, "color")[kept]
        x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
        label = _clusters(x, max(1, len(x) // self.spots_per_cluster), self.seed)
        mean = np.tile(y.mean(axis=0), (section.n_spots, 1))
        if len(np.unique(label)) < 2:  # what is left of one mean without the spot runs exactly against the spot
            return Prediction(mean, self.genes_)
        size = np.bincount(label)
        member = sparse.csr_matrix((np.ones(len(y)), (label, np.arange(len(y)))))  # (n_clusters, n_kept)
        others = (member @ y)[label] - y
        mean[kept] = others / np.maximum(size[label] - 1, 1)[:, None]
        return Prediction(mean, self.genes_)


CONTROLS: dict[str, type] = {c.name: c for c in (ShuffledPairs, DepthOracle, DomainOracle)}

RUNGS: dict[str, tuple[str, dict[str, object]]] = {
    "mean": ("mean", {}),
    "position": ("position", {}),
    "color_ridge": ("ridge", {"encoder": "color"}),
    "encoder_ridge": ("ridge", {}),
    "encoder_knn": ("knn", {}),
    "encoder_mlp": ("mlp", {}),
    "context_ridge": ("context", {}),
}
LADDER = (*RUNGS, *CONTROLS)


def create_model(name: str) -> Predictor:
    """Return a rung, a control or any registered predictor by name, with parameters behind colons: ``"knn:k=36"``.

    A name that ends with ``.py`` is a file with a predictor of your own.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    InputError
        If a parameter is no ``name=value``, or is none of the model's own; or see ``load_predictor``.

    Examples
    --------
    >>> create_model("encoder_knn:k=36").k
    36
    """
    method, given = split_params(name)
    if method.endswith(SUFFIX):
        own: Predictor = load_predictor(Path(method)).with_params(**given)  # type: ignore[attr-defined]
        return own
    if method in CONTROLS:
        control: Predictor = CONTROLS[method]().with_params(**given)
        return control
    if method in RUNGS:
        method, given = RUNGS[method][0], {**RUNGS[method][1], **given}
    if method in predictors:
        predictor: Predictor = create_component(predictors, method, given)
        return predictor
    known = ", ".join([*LADDER, *(p for p in predictors if p not in LADDER)])
    raise UnknownNameError(f"there is no model {method!r}; known: {known}")


def is_control(model: object) -> bool:
    """Return whether a model is one of this file's controls; nothing else may see the truth."""
    return type(model) in CONTROLS.values()


def _permute(section: Section, rng: np.random.Generator) -> Section:
    table, kept = section.table.copy(), np.flatnonzero(section.kept)
    values = table.layers[keys.TARGET].copy()
    values[kept] = values[rng.permutation(kept)]
    table.layers[keys.TARGET] = values
    return section.with_table(table)


def _clusters(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return a cluster for every row, none smaller than ``MIN_CLUSTER`` unless there is only one."""
    centre, label = (
        kmeans2(x, k, minit="++", rng=seed, missing="warn") if k > 1 else (x.mean(axis=0)[None], np.zeros(len(x), int))
    )
    size = np.bincount(label, minlength=len(centre))
    large = np.flatnonzero(size >= MIN_CLUSTER)
    if not len(large):
        return np.zeros(len(x), dtype=int)
    return large[vq(x, centre[large])[0]]
