"""Spatial smoother: a missing value takes the weighted mean of its gene around it, near spots counting most."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.complete.centred import Centred
from hescribe.complete.knn import spot_offsets
from hescribe.complete.mean import fit_gene_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.prep.graph import nearest_spots

REACH = 3.0  # bandwidths, beyond which a weight is under .012
PRIOR = 1.0  # weight of the section's mean


@dataclass(kw_only=True)
class SmootherCompleter(Params):
    """Gaussian kernel over the section, drawn to the section's mean where few values are visible.

    Parameters
    ----------
    bandwidth
        Standard deviation of the kernel, in pitches.
    spot_offset
        As of ``knn``.
    """

    name: ClassVar[str] = "smoother"
    card: ClassVar[MethodCard] = MethodCard(summary="Gaussian kernel over the visible values around a spot")
    bandwidth: float = 2.0
    spot_offset: bool = True

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the train means, for genes that a section does not show."""
        self.check_between("bandwidth", 0.1, 20)
        self.genes_, self.mean_ = train.genes, fit_gene_means(train)
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the smoothed values."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        view = View.of(section)
        centred = Centred.of(view, self.mean_)
        near = self._kernel(section)
        weight = near @ view.observed.astype(np.float32) + PRIOR
        mean = centred.mean + (near @ centred.residual) / weight
        return Completion(mean + spot_offsets(view, mean)[:, None] if self.spot_offset else mean)

    def _kernel(self, section: Section) -> sparse.csr_matrix:
        """Return the weight of every other spot, shape ``(n_spots, n_spots)``."""
        radius = REACH * self.bandwidth
        index, distance = nearest_spots(section, int(np.ceil(np.pi * radius**2)), radius=radius)
        there = index >= 0
        weights = np.exp(-0.5 * (distance[there] / self.bandwidth) ** 2).astype(np.float32)
        return sparse.csr_matrix((weights, (np.nonzero(there)[0], index[there])), shape=(len(index), len(index)))
