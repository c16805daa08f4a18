"""mclSTExp's space: a spot is read together with its neighbours, and told from the others of its batch.

Min et al., "Multimodal contrastive learning for spatial gene expression prediction using histology images", Briefings
in Bioinformatics 2024, bbae551. We differ as the predictor of this name does: neighbours are the nearest spots of the
section, where the original reads whatever else is in the batch, embeddings have length 1 and the temperature is
learned. What is read of a spot is the vector of a gene encoder, as in other aligners, where the original reads genes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hescribe.align._towers import TowerAligner
from hescribe.cards import MethodCard
from hescribe.data.section import Section
from hescribe.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from hescribe.train.contrastive import Loss, Take, Towers

N_TOKEN = 128  # width of a token


@dataclass(kw_only=True)
class MclstexpAligner(TowerAligner):
    """A head on the image, attention over a spot and its neighbours, and InfoNCE.

    Its other parameters are those of ``TowerAligner``; attention takes the place of ``gene_head``.

    Parameters
    ----------
    n_neighbours
        Nearest spots of the same section that a spot is read with.
    n_layers, n_heads
        Of the attention among them.
    place
        Whether the place of the spot in its section is read too, from its middle, in halves of its longer side.

    Examples
    --------
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = MclstexpAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1).fit(cohort)
    >>> aligner.embed_expression(cohort[0]).shape
    (49, 128)
    """

    name: ClassVar[str] = "mclstexp"
    card: ClassVar[MethodCard] = MethodCard(
        summary="mclSTExp's spot transformer beside an image head: expression read with its neighbours",
        paper="Min et al., Briefings in Bioinformatics 2024, bbae551",
    )
    n_neighbours: int = 8
    n_layers: int = 2
    n_heads: int = 4
    place: bool = False

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits or has no effect."""
        super().check_params()
        for name, low in (("n_neighbours", 0), ("n_layers", 1), ("n_heads", 1)):
            self.check_between(name, low)
        if N_TOKEN % self.n_heads:
            raise InputError(f"n_heads of MclstexpAligner must divide {N_TOKEN}, got {self.n_heads}")
        self.check_unchanged(("gene_head",), given="the attention of mclstexp")

    def loss_of(self, network: "Towers") -> "Loss":  # noqa: ARG002 - it learns nothing of its own
        """Return the loss of a batch."""
        from hescribe.train.contrastive import pair_loss  # noqa: PLC0415 - imports torch

        return pair_loss

    def expression_head(self, n_in: int) -> "nn.Module":
        """Return the untrained attention over a spot and its neighbours."""
        from hescribe.train.spot_encoder import SpotEncoder  # noqa: PLC0415 - imports torch

        return SpotEncoder(
            n_in, self.n_dims, n_token=N_TOKEN, n_heads=self.n_heads, n_layers=self.n_layers, place=self.place,
            dropout=self.dropout,
        )  # fmt: skip

    def expression_of(self, sections: Sequence[Section], y: np.ndarray) -> "Take":
        """Return what it reads of the kept spots of sections: their vectors and those of their neighbours."""
        from hescribe.train.spot_encoder import Surroundings  # noqa: PLC0415 - imports torch

        return Surroundings.of(sections, y, self.n_neighbours).take
