"""Context ridge: the spot and two rings of neighbours, standardised within the section.

The surroundings are the one ingredient with repeated support in published comparisons, and
standardising by the section's own image removes much of a slide's stain. It reads all of the
test section's image, and no expression: it is transductive.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import pandas as pd

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.predict.base import Prediction
from hescribe.predict.ridge import RidgePredictor


@dataclass(kw_only=True)
class ContextPredictor(Params):
    """Ridge regression on the features of a spot and of the rings around it.

    Parameters
    ----------
    encoder, fov_um, n_rings, alpha, keep_spots
        As in ``RidgePredictor``.
    """

    name: ClassVar[str] = "context"
    card: ClassVar[MethodCard] = MethodCard(
        summary="ridge regression on the spot and two rings of neighbours", transductive=True
    )
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 2
    alpha: float | None = None
    keep_spots: bool = False

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn the weights of every gene."""
        self.set_fitted(self._ridge().fit(train, val=val).get_fitted())
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        return self._fitted().predict(section)

    def explain(self, section: Section) -> pd.DataFrame:
        """Return the training spots that weigh most in the prediction of every spot: see ``Explains``."""
        self.check_fitted()
        return self._fitted().explain(section)

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks: see ``GeneWise``."""
        self.check_fitted()
        return self.with_params().set_fitted(self._fitted().fit_blocks(blocks).get_fitted())

    def _fitted(self) -> RidgePredictor:
        return self._ridge().set_fitted(self.get_fitted())

    def _ridge(self) -> RidgePredictor:
        return RidgePredictor(
            encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise="section", alpha=self.alpha,
            keep_spots=self.keep_spots,
        )  # fmt: skip
