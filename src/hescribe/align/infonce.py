"""InfoNCE, the loss of CLIP: each half of a pair must find the other among those of the batch.

Radford et al., ICML 2021, arXiv:2103.00020, as HESCAPE (Gindra et al., 2025, arXiv:2508.01490) aligns with it. We
differ from HESCAPE: embeddings have length 1 in training as in use, and no head leaves out parts of what comes out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.align._towers import TowerAligner
from hescribe.cards import MethodCard

if TYPE_CHECKING:
    from hescribe.train.contrastive import Loss, Towers


@dataclass(kw_only=True)
class InfoNCEAligner(TowerAligner):
    """Two heads, a learned temperature, and cross-entropy over the batch in both directions.

    Its parameters are those of ``TowerAligner``.

    Examples
    --------
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = InfoNCEAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1).fit(cohort)
    >>> aligner.embed_image(cohort[0].blind()).shape
    (49, 128)
    """

    name: ClassVar[str] = "infonce"
    card: ClassVar[MethodCard] = MethodCard(
        summary="InfoNCE on frozen features: pairs told apart within a batch", paper="Radford et al., arXiv:2103.00020"
    )

    def loss_of(self, network: "Towers") -> "Loss":  # noqa: ARG002 - it learns nothing of its own
        """Return the loss of a batch."""
        from hescribe.train.contrastive import pair_loss  # noqa: PLC0415 - imports torch

        return pair_loss
