"""A network on tiles whose embeddings are pooled by their mean: what attention must beat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import MethodCard
from hescribe.slide._mil import MILModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True)
class MeanPool(MILModel):
    """Each tile weighs the same: abmil without attention."""

    name: ClassVar[str] = "mean_pool"
    card: ClassVar[MethodCard] = MethodCard(summary="each tile weighs the same: abmil without attention")

    def pooling(self) -> "nn.Module":
        """Return the mean."""
        from hescribe.slide._mil_network import MeanPooling  # noqa: PLC0415 - imports torch

        return MeanPooling()
