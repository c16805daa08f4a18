"""BLEEP's loss: spots that are alike in image and expression share the target, so that they need not be told apart.

Xie et al., NeurIPS 2023, arXiv:2306.01859. We differ: embeddings have length 1, the temperature is learned, and targets
are given, not trained. The predictor of this name retrieves expression with the same loss.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.align._towers import TowerAligner
from hescribe.cards import MethodCard

if TYPE_CHECKING:
    from hescribe.train.contrastive import Loss, Towers


@dataclass(kw_only=True)
class BleepAligner(TowerAligner):
    """Two heads, a learned temperature, and cross-entropy to the similarities of the batch.

    Its parameters are those of ``TowerAligner``.

    Examples
    --------
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = BleepAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1).fit(cohort)
    >>> aligner.embed_image(cohort[0].blind()).shape
    (49, 128)
    """

    name: ClassVar[str] = "bleep"
    card: ClassVar[MethodCard] = MethodCard(
        summary="BLEEP's soft targets on frozen features: like spots need not be told apart",
        paper="Xie et al., NeurIPS 2023, arXiv:2306.01859",
    )

    def loss_of(self, network: "Towers") -> "Loss":  # noqa: ARG002 - it learns nothing of its own
        """Return the loss of a batch."""
        from hescribe.train.contrastive import soft_pair_loss  # noqa: PLC0415 - imports torch

        return soft_pair_loss
