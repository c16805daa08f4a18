"""Ridge regression on frozen image features: the rung that published heads rarely beat.

One penalty serves all genes. It is chosen by the inner rule, for which all penalties are fitted
from one eigendecomposition; the smaller of the spots' and the features' Gram matrix is used.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from scipy import linalg

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict._bank import Bank, name_heaviest
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

ALPHAS = tuple(10.0 ** (k / 2) for k in range(15, -3, -1))  # 10^7.5 ... 0.1, strongest first
MIN_ALPHA = 1e-6  # without a penalty a constant input has no solution


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition of the inputs, from which ridge solutions follow for any targets and penalty.

    Parameters
    ----------
    basis
        Directions in the space of the inputs, shape ``(n_dims, rank)``.
    power
        Eigenvalues, shape ``(rank,)``.
    left
        The inputs themselves, or the directions in the space of the spots if there are fewer spots than inputs.
    by_inputs
        Which of the two.
    """

    basis: np.ndarray
    power: np.ndarray
    left: np.ndarray
    by_inputs: bool

    @classmethod
    def of(cls, x: np.ndarray) -> "Spectrum":
        """Decompose standardised inputs, shape ``(n_spots, n_dims)``."""
        if x.shape[1] <= len(x):
            power, basis = linalg.eigh(x.T @ x, driver="evd")
            return cls(basis, np.maximum(power, 0.0), x, by_inputs=True)
        power, u = linalg.eigh(x @ x.T, driver="evd")
        return cls(x.T @ u, np.maximum(power, 0.0), u, by_inputs=False)

    def loads(self, y: np.ndarray) -> np.ndarray:
        """Return what centred targets, shape ``(n_spots, n_genes)``, have of each direction, ``(rank, n_genes)``."""
        onto = self.left.T @ y
        return self.basis.T @ onto if self.by_inputs else onto

    def weights(self, x: np.ndarray, alpha: float) -> np.ndarray:
        """Return what every training spot weighs in the predictions for inputs ``x``, shape ``(len(x), n_spots)``.

        A ridge prediction is y_mean + weights @ (y - y_mean), whatever the targets y, for it is a linear smoother with
        the weights x' (X'X + alpha I)^-1 X' (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning,
        Springer 2009, section 5.4.1). Yeh et al. (NeurIPS 2018, arXiv:1811.09720) read such weights as explanations.

        Examples
        --------
        >>> x, y = np.array([[-1.0], [0.0], [1.0]]), np.array([[0.0], [1.0], [5.0]])
        >>> Spectrum.of(x).weights(np.array([[1.0]]), alpha=2.0).round(6) + 0.0  # 1 / (2 + 2) * x
        array([[-0.25,  0.  ,  0.25]])
        """
        scores = (x @ self.basis) / (self.power + alpha)
        return np.asarray((scores @ self.basis.T) @ self.left.T if self.by_inputs else scores @ self.left.T)


@dataclass(frozen=True)
class RidgePath:
    """Ridge solutions for every penalty, from one eigendecomposition."""

    basis: np.ndarray  # (n_dims, rank)
    power: np.ndarray  # (rank,) eigenvalues
    loads: np.ndarray  # (rank, n_genes)
    y_mean: np.ndarray  # (n_genes,)

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> "RidgePath":
        """Return the solutions for standardised inputs ``(n_spots, n_dims)`` and targets ``(n_spots, n_genes)``."""
        return cls.solve(Spectrum.of(x), y)

    @classmethod
    def solve(cls, spectrum: Spectrum, y: np.ndarray) -> "RidgePath":
        """Return the solutions for targets ``(n_spots, n_genes)``; the intercept is not penalised."""
        y_mean = y.mean(axis=0)
        return cls(spectrum.basis, spectrum.power, spectrum.loads(y - y_mean), y_mean)

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
    keep_spots
        Whether to keep the inputs of the training spots, which ``explain`` needs: 4 bytes a spot and dimension.
    """

    name: ClassVar[str] = "ridge"
    card: ClassVar[MethodCard] = MethodCard(summary="ridge regression on frozen image features")
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    alpha: float | None = None
    keep_spots: bool = False

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
        path = RidgePath.fit(x, train.stack(keys.TARGET))  # noqa: PD013 - a cohort's, not pandas'
        self.genes_, self.coef_ = train.genes, path.coef(self.alpha_)
        self.x_mean_, self.x_sd_, self.y_mean_ = scale.mean, scale.sd, path.y_mean
        self.novelty_ = vars(Novelty.fit(x))
        if self.keep_spots:
            self.bank_ = Bank.of(train, x).state()
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        x = Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read(section))
        mean = x @ self.coef_
        mean += self.y_mean_
        return Prediction(mean, self.genes_, ood=Novelty(**self.novelty_).score(x))

    def explain(self, section: Section) -> pd.DataFrame:
        """Return the training spots that weigh most in the prediction of every spot: see ``Explains``."""
        self.check_fitted()
        if not hasattr(self, "bank_"):
            raise InputError("this ridge kept no training spots, so that it cannot name them; fit it with keep_spots")
        bank = Bank.restore(self.bank_)
        spectrum = Spectrum.of(bank.vectors)
        x = Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read(section))
        return name_heaviest(bank, x, section.table.obs_names, lambda part: spectrum.weights(part, self.alpha_))

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks, from one decomposition: see ``GeneWise``."""
        self.check_fitted()
        spectrum, coef, y_mean = None, [], []
        genes: list[str] = []
        for block in blocks:
            if spectrum is None:  # the spots are the same in every block
                spectrum = Spectrum.of(Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read_kept(block)))
            path = RidgePath.solve(spectrum, block.stack(keys.TARGET))  # noqa: PD013 - a cohort's, not pandas'
            genes += block.genes
            coef.append(path.coef(self.alpha_))
            y_mean.append(path.y_mean)
        wide = {"genes_": tuple(genes), "coef_": np.hstack(coef), "y_mean_": np.concatenate(y_mean)}
        return self.with_params().set_fitted({**self.get_fitted(), **wide})

    def _inputs(self) -> SpotInputs:
        return SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise=self.standardise)

    def _fit_path(self, train: Cohort) -> PredictEach:
        inputs = self._inputs()
        x = inputs.read_kept(train)
        scale = Scale.of(x)
        path = RidgePath.fit(scale.apply(x), train.stack(keys.TARGET))  # noqa: PD013 - a cohort's, not pandas'
        return lambda section: path.predict_each(scale.apply(inputs.read(section)), ALPHAS)
