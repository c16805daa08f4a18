"""SigLIP: each two halves are told to belong together or not, whatever else is in the batch.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv:2303.15343; scale and offset start at 10
and -10 as there, where HESCAPE starts at 14.3 and -10.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from hescribe.align._towers import TowerAligner
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort

if TYPE_CHECKING:
    from torch import Tensor

    from hescribe.train.contrastive import Loss, Towers

Negatives = Literal["batch", "section"]
SCALE, OFFSET = 10.0, -10.0


@dataclass(kw_only=True)
class SigLIPAligner(TowerAligner):
    """Two heads, a learned temperature and offset, and a yes or no for each two halves.

    Parameters
    ----------
    negatives
        ``"batch"`` tells a half from those of all spots of a batch, ``"section"`` from those of its own section, where
        neither stain nor depth of a slide gives the answer away.
    **others
        See ``TowerAligner``.

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
    negatives: Negatives = "batch"

    def loss_of(self, network: "Towers") -> "Loss":
        """Return the loss of a batch, and give the network its scale and offset to start from."""
        import torch  # noqa: PLC0415 - heavy
        from torch import nn  # noqa: PLC0415 - heavy

        from hescribe.train.contrastive import sigmoid_pair_loss  # noqa: PLC0415 - imports torch

        network.log_scale.data.fill_(math.log(SCALE))
        offset = nn.Parameter(torch.tensor(OFFSET))
        network.register_parameter("offset", offset)

        return partial(sigmoid_pair_loss, bias=offset)

    def group_of(self, train: Cohort) -> "Tensor | None":
        """Return the section of each kept spot, if spots are told from those of their section alone."""
        if self.negatives == "batch":
            return None
        import torch  # noqa: PLC0415 - heavy

        n_kept = torch.tensor([int(s.kept.sum()) for s in train])
        return torch.arange(len(n_kept)).repeat_interleave(n_kept)
