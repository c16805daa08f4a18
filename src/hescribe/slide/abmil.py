"""Attention-based multiple instance learning, gated: tiles are weighed by what the slide's class makes of them.

Ilse, Tomczak and Welling, ICML 2018, arXiv:1802.04712, section 2.4. We differ: tiles are scaled by the train slides
and embedded by one layer, dropout is on, and each class weighs the same in the loss.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import MethodCard
from hescribe.slide._mil import MILModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True)
class ABMIL(MILModel):
    """Gated attention over tiles.

    Parameters
    ----------
    n_attention
        Width of the two layers that weigh a tile.
    """

    name: ClassVar[str] = "abmil"
    card: ClassVar[MethodCard] = MethodCard(
        summary="gated attention over tiles", paper="Ilse et al., ICML 2018, arXiv:1802.04712", code_licence="MIT",
        differs="scaled tiles, dropout, balanced classes; grades and survival beside classes",
    )  # fmt: skip
    n_attention: int = 64

    def pooling(self) -> "nn.Module":
        """Return the gated attention."""
        from hescribe.slide._mil_network import GatedAttention  # noqa: PLC0415 - imports torch

        self.check_between("n_attention", 1)
        return GatedAttention(self.n_hidden, self.n_attention)
