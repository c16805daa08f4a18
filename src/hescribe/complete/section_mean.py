"""Section mean: a missing value takes the mean of its gene over the section's visible values."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.complete.mean import fit_gene_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params


@dataclass(kw_only=True)
class SectionMeanCompleter(Params):
    """Mean of the gene's visible values in the section; the train mean for a gene that is never visible."""

    name: ClassVar[str] = "section_mean"
    card: ClassVar[MethodCard] = MethodCard(summary="mean of the gene's visible values in the section")

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the train means, for genes that a section does not show."""
        self.genes_, self.mean_ = train.genes, fit_gene_means(train)
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the section's mean of every gene."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        view = View.of(section)
        return Completion(np.tile(section_means(view, self.mean_), (len(view.counts), 1)))


def section_means(view: View, otherwise: np.ndarray) -> np.ndarray:
    """Return the mean visible value of each gene, shape ``(n_genes,)``; ``otherwise`` where none is visible."""
    count = view.observed.sum(axis=0)
    return np.where(count > 0, view.values.sum(axis=0) / np.maximum(count, 1), otherwise)
