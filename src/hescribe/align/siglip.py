"""SigLIP: each two halves are told to belong together or not, whatever else is in the batch.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv:2303.15343; scale and offset start at 10
and -10 as there, where HESCAPE starts at 14.3 and -10.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.align._towers import TowerAligner
from hescribe.cards import MethodCard

if TYPE_CHECKING:
    from hescribe.train.contrastive import Loss, Towers

SCALE, OFFSET = 10.0, -10.0


@dataclass(kw_only=True)
class SigLIPAligner(TowerAligner):
    """Two heads, a learned temperature and offset, and a yes or no for each two halves.

    Its parameters are those of ``TowerAligner``.

    Examples
    --------
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = SigLIPAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1).fit(cohort)
    >>> aligner.embed_expression(cohort[0]).shape
    (49, 128)
    """

    name: ClassVar[str] = "siglip"
    card: ClassVar[MethodCard] = MethodCard(
        summary="SigLIP on frozen features: each two halves told to belong together or not",
        paper="Zhai et al., ICCV 2023, arXiv:2303.15343",
    )

    def loss_of(self, network: "Towers") -> "Loss":
        """Return the loss of a batch, and give the network its scale and offset to start from."""
        import torch  # noqa: PLC0415 - heavy
        from torch import Tensor, nn  # noqa: PLC0415 - heavy

        from hescribe.train.contrastive import sigmoid_pair_loss  # noqa: PLC0415 - imports torch

        network.log_scale.data.fill_(math.log(SCALE))
        offset = nn.Parameter(torch.tensor(OFFSET))
        network.register_parameter("offset", offset)

        def loss(image: Tensor, expression: Tensor, scale: Tensor | float) -> Tensor:
            return sigmoid_pair_loss(image, expression, scale, offset)

        return loss
