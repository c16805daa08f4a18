"""Ridge regression on frozen image features: the rung that published heads rarely beat.

One penalty serves all genes. It is chosen by the inner rule, for which all penalties are fitted
from one eigendecomposition; the smaller of the spots' and the features' Gram matrix is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import linalg

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.predict._inputs import SpotInputs, Standardise
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

ALPHAS = tuple(10.0 ** (k / 2) for k in range(15, -3, -1))  # 10^7.5 ... 0.1, strongest first
MIN_ALPHA = 1e-6  # without a penalty a constant input has no solution


@dataclass(frozen=True)
class RidgePath:
    """Ridge solutions for every penalty, from one eigendecomposition.

    Parameters
    ----------
    x
        Standardised inputs, shape ``(n_spots, n_dims)``.
    y
        Targets, shape ``(n_spots, n_genes)``.
    """

    basis: np.ndarray  # (n_dims, rank)
    power: np.ndarray  # (rank,) eigenvalues
    loads: np.ndarray  # (rank, n_genes)
    y_mean: np.ndarray  # (n_genes,)

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> "RidgePath":
        """Decompose once; the intercept is not penalised."""
        y_mean = y.mean(axis=0)
        centred = y - y_mean
        if x.shape[1] <= len(x):
            power, basis = linalg.eigh(x.T @ x, driver="evd")
            loads = basis.T @ (x.T @ centred)
        else:
            power, u = linalg.eigh(x @ x.T, driver="evd")
            basis, loads = x.T @ u, u.T @ centred
        return cls(basis, np.maximum(power, 0.0), loads, y_mean)

    def coef(self, alpha: float) -> np.ndarray:
        """Return the weights, shape ``(n_dims, n_genes)``."""
        return self.basis @ (self.loads / (self.power + alpha)[:, None])

    def predict_each(self, x: np.ndarray, alphas: tuple[float, ...]) -> Iterator[np.ndarray]:
        """Yield the prediction for each penalty, shape ``(n_spots, n_genes)``."""
        scores = x @ self.basis
        for alpha in alphas:
            yield (scores / (self.power + alpha)) @ self.loads + self.y_mean


@dataclass(kw_only=True)
class RidgePredictor(Params):
    """Linear map from image features to expression.

    Parameters
    ----------
    encoder, fov_um, n_rings, standardise
        What is read of the image: see ``SpotInputs``.
    alpha
        Penalty; None chooses among 10^-1 to 10^7.5 in half decades by the inner rule. It is chosen
        for correlation, so that the squared error of a strongly shrunk fit is not calibrated.
    """

    name: ClassVar[str] = "ridge"
    card: ClassVar[MethodCard] = MethodCard(summary="ridge regression on frozen image features")
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    alpha: float | None = None

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn the weights of every gene."""
        self.check_between("alpha", MIN_ALPHA)
        if self.alpha is None:
            view_um = self._inputs().view_um(train)
            self.alpha_ = choose(train, ALPHAS, self._fit_path, view_um=view_um, val=val)
        else:
            self.alpha_ = self.alpha
        x = self._inputs().read_kept(train)
        scale = Scale.of(x)
        x = scale.apply(x)
        path = RidgePath.fit(x, train.stack(keys.TARGET))
        self.genes_, self.coef_ = train.genes, path.coef(self.alpha_)
        self.x_mean_, self.x_sd_, self.y_mean_ = scale.mean, scale.sd, path.y_mean
        self.novelty_ = vars(Novelty.fit(x))
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        x = Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read(section))
        return Prediction(x @ self.coef_ + self.y_mean_, self.genes_, ood=Novelty(**self.novelty_).score(x))

    def _inputs(self) -> SpotInputs:
        return SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise=self.standardise)

    def _fit_path(self, train: Cohort) -> PredictEach:
        inputs = self._inputs()
        x = inputs.read_kept(train)
        scale = Scale.of(x)
        path = RidgePath.fit(scale.apply(x), train.stack(keys.TARGET))
        return lambda section: path.predict_each(scale.apply(inputs.read(section)), ALPHAS)
