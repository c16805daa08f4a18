"""Patches as the input of a network, and a network of an image encoder and a linear layer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.data.section import Section
from hescribe.encode.trainable import TrainableEncoder
from hescribe.prep.spot_patches import section_patches


@dataclass(frozen=True)
class PatchesOfSection:
    """The patches of all spots of a section, on disk until they are asked for; see ``section_patches``."""

    pixels: np.ndarray

    @classmethod
    def of(cls, section: Section, side_um: float, px: int) -> "PatchesOfSection":
        """Return the patches of a section, cut once and cached."""
        return cls(section_patches(section, side_um, px))

    def take(self, rows: Tensor) -> tuple[Tensor]:
        """Return the patches of some spots, shape ``(n, px, px, 3)`` uint8."""
        return (torch.from_numpy(self.pixels[rows.numpy()]),)


class PatchNetwork(nn.Module):
    """An image encoder and a linear layer of zeros: before training it predicts the train mean.

    Parameters
    ----------
    encoder
        Trained with the rest.
    n_dims, n_genes
        Width of its embedding and of the answer.
    symmetric
        In use, average over the eight ways to turn and mirror a patch.
    """

    def __init__(self, encoder: TrainableEncoder, n_dims: int, n_genes: int, *, symmetric: bool) -> None:
        super().__init__()
        self.encoder, self.last, self.symmetric = encoder, nn.Linear(n_dims, n_genes), symmetric
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Return differences from the train mean, shape ``(n, n_genes)``."""
        if self.training or not self.symmetric:
            return self.last(self.encoder(patches))
        turned = [torch.rot90(flipped, k, (1, 2)) for flipped in (patches, patches.flip(2)) for k in range(4)]
        return torch.stack([self.last(self.encoder(t)) for t in turned]).mean(dim=0)
