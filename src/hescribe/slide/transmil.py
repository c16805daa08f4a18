"""TransMIL: tiles that attend to each other, and a class token that attends to all.

Shao et al., NeurIPS 2021, arXiv:2106.00908. We differ: one bag is one sequence in the order of its file, as there, but
a place of the grid that no tile fills is left out instead of filled by the first tiles again; training is that of the
other networks here instead of Lookahead on RAdam.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import MethodCard
from hescribe.errors import InputError
from hescribe.slide._mil import MILModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True)
class TransMIL(MILModel):
    """Two layers of approximate attention among tiles, and convolutions over their grid between them.

    Parameters
    ----------
    n_heads
        Of the attention; they share ``n_hidden``.
    n_landmarks
        Means of neighbouring tiles through which attention goes; a bag that is not larger is attended to exactly.
    """

    name: ClassVar[str] = "transmil"
    card: ClassVar[MethodCard] = MethodCard(
        summary="attention among tiles by way of landmarks, and over their grid",
        paper="Shao et al., NeurIPS 2021, arXiv:2106.00908", code_licence="GPL-3.0",
        differs="empty places of the grid stay empty; trained as the other networks here",
    )  # fmt: skip
    reads_order: ClassVar[bool] = True  # tiles are laid on a square in the order of the file
    n_heads: int = 8
    n_landmarks: int = 64

    def pooling(self) -> "nn.Module":
        """Return the two layers.

        Raises
        ------
        InputError
            If the heads do not share the hidden units evenly.
        """
        from hescribe.slide._nystrom import TransformerPooling  # noqa: PLC0415 - imports torch

        self.check_between("n_landmarks", 1)
        self.check_between("n_heads", 1)
        if self.n_hidden % self.n_heads:
            raise InputError(
                f"n_hidden of TransMIL must be a multiple of n_heads ({self.n_heads}), not {self.n_hidden}"
            )
        return TransformerPooling(self.n_hidden, n_heads=self.n_heads, n_landmarks=self.n_landmarks)
