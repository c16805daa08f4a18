"""PEKA: image features that are adapted to say what gene embeddings say, and a ridge on them.

Adapting image features through knowledge distillation from gene embeddings, MICCAI 2025, arXiv:2504.07061. The
published code has no licence that we know of; this is our own, from the equations. We differ: clusters, classifier and
student see the train spots of a fold alone, where the original fits them on all spots and tests on spots of the same
slides; the teacher is a principal component analysis of the train spots' expression until gene encoders are here; the
change to the image encoder is one of low rank on its cached features, where the original changes the attention of every
block; the penalty of the ridge is chosen by the inner rule, where the original takes 1; and steps are AdamW's at one
size.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.params import Params
from hescribe.predict._deep import Features
from hescribe.predict.base import Prediction
from hescribe.predict.ridge import ALPHAS, MIN_ALPHA, RidgePath
from hescribe.train.inner import PredictEach, choose

LIMITS = (("n_teacher", 1), ("n_clusters", 1), ("rank", 1), ("n_components", 1), ("epochs", 1), ("lr", 0), ("seed", 0))


@dataclass(kw_only=True)
class PekaPredictor(Params):
    """A ridge on image features that a teacher of gene embeddings has adapted.

    Parameters
    ----------
    encoder, fov_um, standardise
        What is read of the image: see ``SpotInputs``.
    reads
        What the ridge reads: the adapted features, or the features as they are and the adapted ones side by side.
    n_teacher
        Components of the train spots' expression that are the teacher's embedding.
    n_clusters
        Of these embeddings.
    rank
        Width of the change to the features.
    temperature, share
        Of the distillation: see ``Distillation``.
    n_components
        Components of the adapted features that the ridge reads.
    alpha
        Penalty of the ridge; None chooses it by the inner rule, in which clusters and student are trained anew.
    epochs, lr, weight_decay, batch_size, seed
        Of classifier and student.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = PekaPredictor(encoder="color", alpha=10.0, epochs=2).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "peka"
    card: ClassVar[MethodCard] = MethodCard(
        summary="PEKA: ridge on image features adapted to clusters of gene embeddings",
        paper="MICCAI 2025, arXiv:2504.07061",
        code_licence="unknown",
        differs="fitted on the fold's train spots alone; components of the expression teach in place of scFoundation; "
        "the change is of low rank on cached features, not in the encoder's attention",
    )
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    standardise: Standardise = "train"
    reads: Literal["adapted", "both"] = "adapted"
    n_teacher: int = 64
    n_clusters: int = 100
    rank: int = 64
    temperature: float = 2.0
    share: float = 0.5
    n_components: int = 256
    alpha: float | None = None
    epochs: int = 20
    lr: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 32
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Cluster the expression, adapt the features, and learn the weights of every gene.

        Raises
        ------
        InputError
            If a parameter is out of its limits.
        TrainingError
            If a loss is not finite.
        """
        for name, low in LIMITS:
            self.check_between(name, low)
        self.check_between("alpha", MIN_ALPHA)
        self.check_between("temperature", 1e-3)
        self.check_between("share", 0, 1)
        features = self._features()
        if self.alpha is None:
            self.alpha_ = choose(train, ALPHAS, self._fit_path, view_um=features.inputs.view_um(train), val=val)
        else:
            self.alpha_ = self.alpha
        self.look_, self.adapter_, self.basis_, path = self._learn(train)
        self.genes_, self.coef_, self.y_mean_ = train.genes, path.coef(self.alpha_), path.y_mean
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        features = self._features()
        z = self._adapted(features.read(section, self.look_), self.adapter_) @ self.basis_
        return Prediction(z @ self.coef_ + self.y_mean_, self.genes_, ood=features.ood(section, self.look_))

    def _features(self) -> Features:
        return Features(SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=0, standardise=self.standardise))

    def _learn(self, train: Cohort) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray, RidgePath]:
        """Return scaling, adapter, components of the adapted features and the ridge on them."""
        from hescribe.predict._distil import Distillation  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import Recipe  # noqa: PLC0415 - imports torch

        features = self._features()
        look = features.start(train)
        x = np.concatenate([features.read(s, look)[s.kept] for s in train])
        y = train.stack(keys.TARGET)
        recipe = Recipe(batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, seed=self.seed)
        distillation = Distillation(
            n_clusters=self.n_clusters, rank=self.rank, temperature=self.temperature, share=self.share,
            epochs=self.epochs, recipe=recipe,
        )  # fmt: skip
        adapter = distillation.fit(x, leading(y - y.mean(axis=0), self.n_teacher)[1])
        basis, z = leading(self._adapted(x, adapter), self.n_components)
        return look, adapter, basis, RidgePath.fit(z, y)

    def _adapted(self, x: np.ndarray, adapter: dict[str, np.ndarray]) -> np.ndarray:
        from hescribe.predict._distil import adapt  # noqa: PLC0415 - imports torch

        adapted = adapt(x, adapter)
        return np.hstack([x, adapted]) if self.reads == "both" else adapted

    def _fit_path(self, train: Cohort) -> PredictEach:
        features = self._features()
        look, adapter, basis, path = self._learn(train)
        return lambda section: path.predict_each(self._adapted(features.read(section, look), adapter) @ basis, ALPHAS)


def leading(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading directions of values ``(n_rows, n_columns)``, and the values along them; at most n.

    Examples
    --------
    >>> leading(np.array([[3.0, 0.0], [-3.0, 0.0]]), 5)[1].shape
    (2, 1)
    """
    _, spread, directions = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    rank = max(min(n, int((spread > 1e-6 * spread[0]).sum())), 1)
    basis = directions[:rank].T.astype(np.float32)
    return basis, np.asarray(x @ basis, dtype=np.float32)
