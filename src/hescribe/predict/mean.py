"""The mean of the training spots: the floor every model must beat."""

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


@dataclass(kw_only=True)
class MeanPredictor(Params):
    """Predict every spot by the train mean. Its correlation is undefined, and counted as such."""

    name: ClassVar[str] = "mean"
    card: ClassVar[MethodCard] = MethodCard(summary="mean of the training spots", reads_image=False)

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the mean of each gene."""
        self.genes_, self.mean_ = train.genes, train.stack(keys.TARGET).mean(axis=0)
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the same values for every spot."""
        self.check_fitted()
        return Prediction(np.tile(self.mean_, (section.n_spots, 1)), self.genes_)

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks: see ``GeneWise``."""
        self.check_fitted()
        parts = [self.with_params().fit(block) for block in blocks]
        genes = tuple(g for part in parts for g in part.genes_)
        return self.with_params().set_fitted({"genes_": genes, "mean_": np.concatenate([p.mean_ for p in parts])})
