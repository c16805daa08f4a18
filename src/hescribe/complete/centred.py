"""Values as differences from the section's own level: what carries over from donor to donor.

On her2st a completer that is centred on its training donors loses to the plain mean of the section.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from hescribe.complete.base import View
from hescribe.complete.knn import PRIOR
from hescribe.complete.section_mean import section_means


@dataclass(frozen=True)
class Centred:
    """A section's visible values less the mean of each gene in it.

    Parameters
    ----------
    view
        What is visible.
    mean
        Mean visible value of each gene in the section, shape ``(n_genes,)``.
    residual
        Visible values less the mean, 0 where nothing is visible, shape ``(n_spots, n_genes)``.
    """

    view: View
    mean: np.ndarray
    residual: np.ndarray

    @classmethod
    def of(cls, view: View, otherwise: np.ndarray) -> "Centred":
        """Return the centred section; a gene that is never visible has the mean ``otherwise``."""
        mean = section_means(view, otherwise).astype(np.float32)
        return cls(view, mean, np.where(view.observed, view.values - mean, 0).astype(np.float32))

    @cached_property
    def offset(self) -> np.ndarray:
        """How far each spot's visible values lie above the section's means, drawn to 0, shape ``(n_spots,)``."""
        return self.residual.sum(axis=1) / (self.view.observed.sum(axis=1) + PRIOR)

    @cached_property
    def seen(self) -> np.ndarray:
        """1 where a value is visible, else 0, shape ``(n_spots, n_genes)`` float32."""
        return self.view.observed.astype(np.float32)

    @cached_property
    def level(self) -> np.ndarray:
        """Residuals less the offset of their spot, 0 where nothing is visible, shape ``(n_spots, n_genes)``."""
        return self.residual - self.offset[:, None].astype(np.float32) * self.seen

    @cached_property
    def seen_of_gene(self) -> np.ndarray:
        """Share of the spots in which each gene is visible, shape ``(n_genes,)``."""
        return self.seen.mean(axis=0)

    def around(self, near: sparse.csr_matrix, residual: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean visible residual among neighbours, 0 where none is visible, and the share that is visible.

        Parameters
        ----------
        near
            Rows are 1 at a spot's neighbours, shape ``(n_rows, n_spots)``.
        residual
            Taken in place of ``self.residual``, 0 where nothing is visible.
        """
        count = near @ self.seen
        total = near @ (self.residual if residual is None else residual)
        n_near = np.maximum(np.diff(near.indptr), 1)[:, None]
        return total / np.maximum(count, 1), (count / n_near).astype(np.float32)
