"""BLEEP's loss: spots that are alike in image and expression share the target, so that they need not be told apart.

Xie et al., NeurIPS 2023, arXiv:2306.01859. We differ: embeddings have length 1, the temperature is learned, and targets
are given, not trained; ``legacy`` is the published way. The predictor of this name retrieves expression with this loss.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from hescribe.align._towers import TowerAligner
from hescribe.cards import MethodCard

if TYPE_CHECKING:
    from torch import nn

    from hescribe.train.contrastive import Loss, Towers


@dataclass(kw_only=True)
class BleepAligner(TowerAligner):
    """Two heads, a learned temperature, and cross-entropy to the similarities of the batch.

    Parameters
    ----------
    legacy
        As published: the heads of BLEEP, which end in a layer norm, compared by dot product at temperature 1, with
        targets that are trained too. Embeddings are brought to length 1 only when they are used.
    **others
        See ``TowerAligner``.

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

    legacy: bool = False

    @property
    def unit(self) -> bool:
        """Whether embeddings have length 1 in training too, and the temperature is learned."""
        return not self.legacy

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits or has no effect."""
        super().check_params()
        if self.legacy:
            self.check_unchanged(("head", "gene_head"), given="legacy=True, whose heads are BLEEP's")

    def loss_of(self, network: "Towers") -> "Loss":  # noqa: ARG002 - it learns nothing of its own
        """Return the loss of a batch."""
        from hescribe.train.contrastive import soft_pair_loss  # noqa: PLC0415 - imports torch

        return partial(soft_pair_loss, legacy=True) if self.legacy else soft_pair_loss

    def image_head(self, n_in: int) -> "nn.Module":
        """Return an untrained head on image features."""
        return self._published(n_in) if self.legacy else super().image_head(n_in)

    def expression_head(self, n_in: int) -> "nn.Module":
        """Return an untrained head on the embedding of expression."""
        return self._published(n_in) if self.legacy else super().expression_head(n_in)

    def _published(self, n_in: int) -> "nn.Module":
        from hescribe.train.contrastive import ProjectionHead  # noqa: PLC0415 - imports torch

        return ProjectionHead(n_in, self.n_dims, dropout=self.dropout)
