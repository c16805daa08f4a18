"""Principal components of log counts: the encoder without weights that every other must beat."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import GeneEncoderCard
from hescribe.data.cohort import Cohort
from hescribe.encode.gene._panel import PanelScale
from hescribe.encode.gene.base import Coverage, donors_of
from hescribe.errors import InputError
from hescribe.params import Params


@dataclass(kw_only=True)
class PCAEncoder(Params):
    """Leading directions in which train spots differ.

    Parameters
    ----------
    n_dims
        Number of components; fewer than genes and train spots.

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

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        return GeneEncoderCard(
            name=self.name, revision="fitted", n_dims=self.n_dims,
            scaling="each spot to the median total of the train spots, ln(1 + x), centred", sees_depth=False,
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
                f"spots, got {self.n_dims}"
            )
        x = scale.transform(counts).astype(np.float64)
        _, directions = np.linalg.eigh(x.T @ x)
        leading = directions[:, : -self.n_dims - 1 : -1]
        self.components_ = (leading * np.sign(leading.sum(axis=0) + 1e-12)).astype(
            np.float32
        )  # a sign to be found again
        self.genes_, self.total_, self.mean_, self.donors_ = scale.genes, scale.total, scale.mean, donors_of(train)
        return self

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return which genes of a panel were fitted: see ``PanelScale.coverage``."""
        return self._scale().coverage(genes, self.name)

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return the scores of spots on the components, shape ``(n_spots, n_dims)`` float32."""
        return self._scale().apply(counts, genes, self.name) @ self.components_

    def _scale(self) -> PanelScale:
        self.check_fitted()
        return PanelScale(self.genes_, self.total_, self.mean_)
