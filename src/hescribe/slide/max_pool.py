"""A network on tiles whose embeddings are pooled by their maximum: what attention must beat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import MethodCard
from hescribe.slide._mil import MILModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True)
class MaxPool(MILModel):
    """Of each hidden unit the largest tile."""

    name: ClassVar[str] = "max_pool"
    card: ClassVar[MethodCard] = MethodCard(summary="of each hidden unit the largest tile")

    def pooling(self) -> "nn.Module":
        """Return the maximum."""
        from hescribe.slide._mil_network import MaxPooling  # noqa: PLC0415 - imports torch

        return MaxPooling()
