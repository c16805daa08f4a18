"""DRVI: a variational autoencoder of raw counts whose decoder adds up what each latent dimension says alone.

Moinfar and Theis, "Unsupervised deep disentangled representation of single-cell omics", bioRxiv 2024,
doi:10.1101/2024.11.06.622266; our own code. As HESCAPE uses it: ln(1 + counts) with their depth in, sections as a
covariate of the decoder, the mean of the posterior out. We differ: it is trained on the train donors of a fold and on
nothing else; the decoder is told the total of a spot, since dimensions that add up must else all hold it, and hold
little beside; it is smaller (16 dimensions) and trained for fewer steps.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import GeneEncoderCard
from hescribe.encode.gene._learned import LearnedEncoder

if TYPE_CHECKING:
    from hescribe.encode.gene._panel_networks import PanelNetwork


@dataclass(kw_only=True)
class DRVIEncoder(LearnedEncoder):
    """The mean of the posterior.

    Parameters
    ----------
    n_dims
        Latent dimensions, each decoded apart.
    n_steps, lr, weight_decay, batch_size, seed
        Of the training; in its first half the weight of the divergence from the prior rises to 1.

    Examples
    --------
    >>> from hescribe.testing.cohorts import raw_colour_cohort
    >>> cohort = raw_colour_cohort()
    >>> encoder = DRVIEncoder(n_dims=4, n_steps=2).fit(cohort)
    >>> encoder.encode(cohort[0].layer("counts"), cohort.genes).shape
    (49, 4)
    """

    name: ClassVar[str] = "drvi"
    keep_depth: ClassVar[bool] = True
    n_dims: int = 16
    lr: float = 3e-3

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        return GeneEncoderCard(
            name=self.name, revision="fitted", n_dims=self.n_dims, scaling="ln(1 + x), centred", sees_depth=True,
            licence="BSD-3-Clause", paper="Moinfar and Theis, bioRxiv 2024, doi:10.1101/2024.11.06.622266",
        )  # fmt: skip

    def build(self, n_genes: int, n_sections: int) -> "PanelNetwork":
        """Return the untrained network."""
        from hescribe.encode.gene._panel_networks import SplitNetwork  # noqa: PLC0415 - imports torch

        return SplitNetwork(n_genes, self.n_dims, n_sections)
