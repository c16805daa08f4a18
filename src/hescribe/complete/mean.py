"""Gene mean: a missing value takes the mean of its gene over the measured train values."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params


@dataclass(kw_only=True)
class MeanCompleter(Params):
    """Mean of the gene's measured values over all train spots; 0 for a gene that was never measured."""

    name: ClassVar[str] = "mean"
    card: ClassVar[MethodCard] = MethodCard(summary="mean of the gene's measured values in training")

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the mean of every gene."""
        self.genes_, self.mean_ = train.genes, fit_gene_means(train)
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the train mean of every gene."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        return Completion(np.tile(self.mean_, (len(View.of(section).counts), 1)))


def fit_gene_means(train: Cohort) -> np.ndarray:
    """Return the mean measured value of each gene over all train spots, shape ``(n_genes,)``."""
    views = [View.of(s) for s in train]
    count = np.sum([v.observed.sum(axis=0) for v in views], axis=0)
    return np.sum([v.values.sum(axis=0, dtype=np.float64) for v in views], axis=0) / np.maximum(count, 1)
