"""A multilayer perceptron on log counts, trained on what one half of the counts of a spot says of the other.

The layers are those of the "generic" encoder of HESCAPE (Gindra et al., 2025, arXiv:2508.01490), which trains them
together with the alignment alone. Halves, each count kept in one by a fair coin, are independent measurements of one
expression, so that noise cannot be learned (Batson and Royer, Noise2Self, ICML 2019, arXiv:1901.11365). We differ
also in the scaling: to the median total of the train spots, not to that of the batch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import GeneEncoderCard
from hescribe.encode.gene._learned import LearnedEncoder

if TYPE_CHECKING:
    from hescribe.encode.gene._panel_networks import PanelNetwork


@dataclass(kw_only=True)
class MLPEncoder(LearnedEncoder):
    """Four linear layers with batch normalisation.

    Parameters
    ----------
    n_dims
        Width of all layers and of the embedding.
    n_steps, lr, weight_decay, batch_size, seed
        Of the training.

    Examples
    --------
    >>> from hescribe.testing.cohorts import raw_colour_cohort
    >>> cohort = raw_colour_cohort()
    >>> encoder = MLPEncoder(n_dims=8, n_steps=5).fit(cohort)
    >>> encoder.encode(cohort[0].layer("counts"), cohort.genes).shape
    (49, 8)
    """

    name: ClassVar[str] = "mlp"
    keep_depth: ClassVar[bool] = False

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        return GeneEncoderCard(
            name=self.name, revision="fitted", n_dims=self.n_dims,
            scaling="each spot to the median total of the train spots, ln(1 + x), centred", sees_depth=False,
            licence="BSD-3-Clause", paper="Gindra et al., 2025, arXiv:2508.01490",
        )  # fmt: skip

    def build(self, n_genes: int, n_sections: int) -> "PanelNetwork":
        """Return the untrained network."""
        from hescribe.encode.gene._panel_networks import HalvesNetwork  # noqa: PLC0415 - imports torch

        del n_sections
        return HalvesNetwork(n_genes, self.n_dims)
