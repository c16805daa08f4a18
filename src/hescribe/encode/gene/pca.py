"""Principal components of log counts: the encoder without weights that every other must beat.

Shrinking scores by their noise is Wiener's filter (1949); the noise is measured on halves of the counts, as in count
splitting (Neufeld et al., Biostatistics 2023, doi:10.1093/biostatistics/kxac047).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import GeneEncoderCard
from hescribe.data.cohort import Cohort
from hescribe.encode.gene._panel import PanelScale
from hescribe.encode.gene.base import Coverage, donors_of
from hescribe.errors import InputError
from hescribe.params import Params

LEAST = 0.02  # share of the variance of a score that counts as signal even where all of it looks like noise


@dataclass(kw_only=True)
class PCAEncoder(Params):
    """Leading directions in which train spots differ.

    Parameters
    ----------
    n_dims
        Number of components; fewer than genes and train spots.
    shrink
        Scale each score by the share of its variance that is no noise in a spot of that depth: a shallow spot is told
        by the few components that it can still show.

    Examples
    --------
    >>> from hescribe.testing.cohorts import raw_colour_cohort
    >>> cohort = raw_colour_cohort()
    >>> encoder = PCAEncoder(n_dims=4).fit(cohort)
    >>> encoder.encode(cohort[0].layer("counts"), cohort.genes).shape
    (49, 4)
    """

    name: ClassVar[str] = "pca"
    n_dims: int = 64
    shrink: bool = False

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        return GeneEncoderCard(
            name=self.name, revision="fitted", n_dims=self.n_dims,
            scaling="each spot to the median total of the train spots, ln(1 + x), centred", sees_depth=self.shrink,
            licence="BSD-3-Clause", paper="Pearson, Philosophical Magazine 1901, doi:10.1080/14786440109462720",
        )  # fmt: skip

    def fit(self, train: Cohort) -> Self:
        """Find the components of the kept train spots.

        Raises
        ------
        InputError
            If there are not more genes and more spots than components.
        """
        self.check_between("n_dims", 1)
        scale, counts = PanelScale.fit(train, keep_depth=False)
        if self.n_dims >= min(counts.shape):
            raise InputError(
                f"n_dims of PCAEncoder must be below the {counts.shape[1]} genes and the {counts.shape[0]} train "
                f"spots, got {self.n_dims}; set it lower (gene_encoder.n_dims of an aligner)"
            )
        x = scale.transform(counts).astype(np.float64)
        _, directions = np.linalg.eigh(x.T @ x)
        leading = directions[:, : -self.n_dims - 1 : -1]
        self.components_ = (leading * np.sign(leading.sum(axis=0) + 1e-12)).astype(
            np.float32
        )  # a sign to be found again
        self.genes_, self.total_, self.mean_, self.donors_ = scale.genes, scale.total, scale.mean, donors_of(train)
        if self.shrink:
            self.signal_, self.noise_ = self._measure_noise(counts)
        return self

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return which genes of a panel were fitted: see ``PanelScale.coverage``."""
        return self._scale().coverage(genes, self.name)

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return the scores of spots on the components, shape ``(n_spots, n_dims)`` float32."""
        scores: np.ndarray = self._scale().apply(counts, genes, self.name) @ self.components_
        if not self.shrink:
            return scores
        noise = self.noise_ / _totals(counts)
        return np.asarray(scores * self.signal_ / (self.signal_ + noise), dtype=np.float32)

    def _measure_noise(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of each score that is signal, and its noise in a spot of one count, of train spots.

        Both halves of a spot's counts have the same signal, and each has the noise of a spot of half the depth.
        """
        half = np.random.default_rng(0).binomial(counts.astype(np.int64), 0.5)
        one, other = (self._scale().transform(h) @ self.components_ for h in (half, counts - half))
        per_count = 2 / _totals(counts)  # noise of a half is this times that of one count
        noise = (per_count * (one - other) ** 2 / 2).sum(axis=0) / np.square(per_count).sum()
        variance = (self._scale().transform(counts) @ self.components_).var(axis=0)
        signal = np.maximum(variance - noise * (1 / _totals(counts)).mean(), LEAST * variance)
        return signal.astype(np.float32), noise.astype(np.float32)

    def _scale(self) -> PanelScale:
        self.check_fitted()
        return PanelScale(self.genes_, self.total_, self.mean_)


def _totals(counts: np.ndarray) -> np.ndarray:
    """Return the counts of each spot as a column, at least 1."""
    return np.asarray(np.maximum(counts.sum(axis=1, keepdims=True), 1.0))
