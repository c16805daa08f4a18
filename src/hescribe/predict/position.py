"""Position only: a smooth surface over the section, without looking at the image."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.predict.base import Prediction
from hescribe.predict.ridge import ALPHAS, MIN_ALPHA, RidgePath
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose


@dataclass(kw_only=True)
class PositionPredictor(Params):
    """Ridge regression on polynomials of the place within the section.

    Parameters
    ----------
    degree
        Of the polynomial in x and y.
    alpha
        Penalty; None chooses by the inner rule.
    """

    name: ClassVar[str] = "position"
    card: ClassVar[MethodCard] = MethodCard(
        summary="polynomial of the place within the section, no image", reads_image=False
    )
    degree: int = 3
    alpha: float | None = None

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn the surface of every gene."""
        self.check_between("degree", 1)
        self.check_between("alpha", MIN_ALPHA)
        self.alpha_ = choose(train, ALPHAS, self._fit_path, val=val) if self.alpha is None else self.alpha
        scale, path = self._solve(train)
        self.genes_, self.coef_, self.y_mean_ = train.genes, path.coef(self.alpha_), path.y_mean
        self.x_mean_, self.x_sd_ = scale.mean, scale.sd
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        x = Scale(self.x_mean_, self.x_sd_).apply(self._terms(section))
        return Prediction(x @ self.coef_ + self.y_mean_, self.genes_)

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks: see ``GeneWise``."""
        self.check_fitted()
        parts = [self.with_params(alpha=float(self.alpha_)).fit(block) for block in blocks]
        wide = {
            "genes_": tuple(g for part in parts for g in part.genes_),
            "coef_": np.hstack([p.coef_ for p in parts]),
            "y_mean_": np.concatenate([p.y_mean_ for p in parts]),
        }
        return self.with_params().set_fitted({**self.get_fitted(), **wide})

    def _terms(self, section: Section) -> np.ndarray:
        """Return the polynomial's terms on coordinates scaled to the section, (n_spots, n_terms)."""
        xy = section.xy_um
        low, high = xy.min(axis=0), xy.max(axis=0)
        x, y = (2 * (xy - low) / np.maximum(high - low, 1.0) - 1).T
        return np.column_stack(
            [x**i * y**j for i in range(self.degree + 1) for j in range(self.degree + 1 - i) if i + j]
        )

    def _solve(self, train: Cohort) -> tuple[Scale, RidgePath]:
        x = np.concatenate([self._terms(s)[s.kept] for s in train])
        scale = Scale.of(x)
        return scale, RidgePath.fit(scale.apply(x), train.stack(keys.TARGET))

    def _fit_path(self, train: Cohort) -> PredictEach:
        scale, path = self._solve(train)
        return lambda section: path.predict_each(scale.apply(self._terms(section)), ALPHAS)
