"""What encoders that are fitted on a panel share: its genes, and the scaling of counts learned of train spots."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.encode.gene.base import MIN_COVERAGE, Coverage, check_counts, find_genes, stack_counts
from hescribe.errors import PanelError


@dataclass(frozen=True)
class PanelScale:
    """Log counts of a panel, centred.

    Parameters
    ----------
    genes
        The panel that was fitted.
    total
        Each spot is brought to so many counts before the logarithm; 0 leaves its depth as it is.
    mean
        Of the log counts of the train spots, shape ``(n_genes,)``.
    """

    genes: tuple[str, ...]
    total: float
    mean: np.ndarray

    @classmethod
    def fit(cls, train: Cohort, *, keep_depth: bool) -> tuple[Self, np.ndarray]:
        """Return the scaling of a cohort, and the raw counts of its kept spots, shape ``(n_spots, n_genes)``."""
        counts = stack_counts(train)
        total = 0.0 if keep_depth else max(float(np.median(counts.sum(axis=1))), 1.0)
        scale = cls(train.genes, total, np.zeros(len(train.genes), dtype=np.float32))
        return cls(train.genes, total, scale.transform(counts).mean(axis=0)), counts

    def transform(self, counts: np.ndarray) -> np.ndarray:
        """Return centred log counts of the panel as it was fitted, shape ``(n_spots, n_genes)`` float32."""
        if self.total:
            counts = counts * (self.total / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))
        return (np.log1p(counts) - self.mean).astype(np.float32)

    def coverage(self, genes: tuple[str, ...], encoder: str) -> Coverage:
        """Return which genes of a panel were fitted.

        Raises
        ------
        PanelError
            If they are less than half of the panel, or less than half of those that were fitted.
        """
        found = find_genes(genes, self.genes, encoder=encoder)
        if len(found.columns) < MIN_COVERAGE * len(self.genes):
            raise PanelError(
                f"gene encoder {encoder} was fitted on {len(self.genes)} genes and the panel has "
                f"{len(found.columns)} of them, less than half; fit it on this panel"
            )
        return found

    def apply(self, counts: np.ndarray, genes: tuple[str, ...], encoder: str) -> np.ndarray:
        """Return centred log counts of any panel in the order that was fitted; 0, the train mean, where a gene lacks.

        Raises
        ------
        InputError
            If they are no counts.
        PanelError
            See ``coverage``.
        """
        counts, found = check_counts(counts, genes), self.coverage(genes, encoder)
        placed = np.zeros((len(counts), len(self.genes)), dtype=np.float32)
        placed[:, found.places] = counts[:, found.columns]
        x = self.transform(placed)
        x[:, np.setdiff1d(np.arange(len(self.genes)), found.places)] = 0
        return x
