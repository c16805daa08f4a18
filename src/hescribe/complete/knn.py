"""Nearest spots: a missing value takes the mean of its gene over the visible values around it."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.complete.mean import fit_gene_means
from hescribe.complete.section_mean import section_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params

PRIOR = 2.0  # values of 0 that a spot's offset is drawn to


@dataclass(kw_only=True)
class KNNCompleter(Params):
    """Mean over the nearest spots that show the gene; the section's mean where none does.

    Parameters
    ----------
    k
        Spots around a spot.
    spot_offset
        Whether the spot's own visible values say how far it lies above or below its neighbours.
    """

    name: ClassVar[str] = "knn"
    card: ClassVar[MethodCard] = MethodCard(summary="mean of the gene's visible values in the nearest spots")
    k: int = 18
    spot_offset: bool = False

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the train means, for genes that a section does not show."""
        self.check_between("k", 1)
        self.genes_, self.mean_ = train.genes, fit_gene_means(train)
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the mean around every spot."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        view = View.of(section)
        near = view.neighbours(self.k)
        count = near @ view.observed.astype(np.float32)
        around = (near @ view.values) / np.maximum(count, 1)
        mean = np.where(count > 0, around, section_means(view, self.mean_))
        return Completion(mean + spot_offsets(view, mean)[:, None] if self.spot_offset else mean)


def spot_offsets(view: View, mean: np.ndarray) -> np.ndarray:
    """Return how far each spot's visible values lie above ``mean``, drawn to 0, shape ``(n_spots,)``."""
    above = np.where(view.observed, view.values - mean, 0.0)
    return above.sum(axis=1) / (view.observed.sum(axis=1) + PRIOR)
