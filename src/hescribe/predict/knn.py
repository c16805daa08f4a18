"""Nearest neighbours in feature space: the mean expression of the k most similar training spots.

Retrieval predictors also average training spots, so this is the floor that they must beat.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict._inputs import SpotInputs, Standardise
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

KS = (200, 100, 50, 20, 10, 5)  # smoothest first
MAX_PAIRS = 2**24  # query and bank spots compared at once: 64 MB of cosines


@dataclass(kw_only=True)
class KNNPredictor(Params):
    """Average the k training spots whose image features have the highest cosine.

    Parameters
    ----------
    encoder, fov_um, n_rings, standardise
        What is read of the image: see ``SpotInputs``.
    k
        Number of neighbours; None chooses among 5 to 200 by the inner rule.
    """

    name: ClassVar[str] = "knn"
    card: ClassVar[MethodCard] = MethodCard(summary="mean of the training spots that look most alike")
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    k: int | None = None

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Store the bank of training spots."""
        x = self._inputs().read_kept(train)
        if self.k is not None and not 1 <= self.k <= len(x):
            raise InputError(f"k must be between 1 and the {len(x)} training spots, got {self.k}")
        view_um = self._inputs().view_um(train)
        self.k_ = choose(train, KS, self._fit_path, view_um=view_um, val=val) if self.k is None else self.k
        scale = Scale.of(x)
        x = scale.apply(x)
        self.genes_, self.bank_, self.y_ = train.genes, _unit(x), train.stack(keys.TARGET)
        self.x_mean_, self.x_sd_, self.novelty_ = scale.mean, scale.sd, vars(Novelty.fit(x))
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        x = Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read(section))
        mean = next(_neighbour_means(_unit(x), self.bank_, self.y_, (self.k_,)))
        return Prediction(mean, self.genes_, ood=Novelty(**self.novelty_).score(x))

    def _inputs(self) -> SpotInputs:
        return SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise=self.standardise)

    def _fit_path(self, train: Cohort) -> PredictEach:
        x, y = self._inputs().read_kept(train), train.stack(keys.TARGET)
        scale = Scale.of(x)
        bank = _unit(scale.apply(x))
        return lambda section: _neighbour_means(_unit(scale.apply(self._inputs().read(section))), bank, y, KS)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _neighbour_means(x: np.ndarray, bank: np.ndarray, y: np.ndarray, ks: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the mean of the k nearest for each k (at most the bank), shape ``(n_spots, n_genes)``."""
    most = min(max(ks), len(bank))
    chunk = max(1, MAX_PAIRS // len(bank))
    nearest = np.concatenate([_nearest(x[i : i + chunk], bank, most) for i in range(0, len(x), chunk)])
    for k in ks:
        mean = np.zeros((len(x), y.shape[1]), dtype=np.float64)
        for column in nearest[:, :k].T:
            mean += y[column]
        yield mean / min(k, most)


def _nearest(x: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the bank with the highest cosine, best first, shape ``(n, k)``."""
    cosine = x @ bank.T
    part = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(cosine, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)
