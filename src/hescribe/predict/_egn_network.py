"""EGN's network: a vision transformer whose tokens and exemplars inform each other."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hescribe.encode.trainable import augment
from hescribe.predict._exemplars import Exemplars, ResidualAttention
from hescribe.predict._patches import PatchesOfSection
from hescribe.train.attention import SequenceLayer

WHITE = 255.0


class Shape(NamedTuple):
    """Widths of an EGN network: side of a token in pixels, tokens, layers, and layers between two bridges."""

    token_px: int
    n_dims: int
    n_layers: int
    n_heads: int
    n_feed: int
    n_between: int


@dataclass(frozen=True)
class ShownPatches:
    """The patches of a section, and the exemplars of each spot.

    Parameters
    ----------
    patches
        On disk until they are asked for.
    exemplars, found
        Those of each spot by their number, shape ``(n_spots, k)``.
    """

    patches: PatchesOfSection
    exemplars: Exemplars
    found: Tensor

    def take(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return pixels, and features and expression of the exemplars, of some spots."""
        at = self.found[rows].numpy()
        return *self.patches.take(rows), torch.from_numpy(self.exemplars.x[at]), torch.from_numpy(self.exemplars.y[at])


class EgnNetwork(nn.Module):
    """Tokens of a patch attend to each other, and every few layers to the exemplars, which attend to them first.

    Parameters
    ----------
    px, n_features, n_genes
        Side of a patch, width of an exemplar's features, and of the answer.
    shape
        Of the transformer.
    jitter
        Largest relative change of the colours of a patch in training; it is also turned and mirrored.
    """

    def __init__(self, px: int, n_features: int, n_genes: int, shape: Shape, *, jitter: float) -> None:
        super().__init__()
        self.shape, self.jitter = shape, jitter
        n_tokens = (px // shape.token_px) ** 2
        self.token = nn.Linear(3 * shape.token_px**2, shape.n_dims)
        self.place = nn.Parameter(torch.randn(n_tokens, shape.n_dims) * 0.02)
        self.exemplar = nn.Linear(n_features + n_genes, shape.n_dims)
        self.layers = nn.ModuleList(self._layer() for _ in range(shape.n_layers))
        n_bridges = shape.n_layers // shape.n_between
        self.to_exemplars = nn.ModuleList(self._layer() for _ in range(n_bridges))
        self.to_tokens = nn.ModuleList(self._layer() for _ in range(n_bridges))
        self.pool = ResidualAttention(shape.n_dims, n_genes)

    def forward(self, patches: Tensor, exemplar_x: Tensor, exemplar_y: Tensor) -> Tensor:
        """Return differences from the train mean of uint8 patches ``(n, px, px, 3)``, shape ``(n, n_genes)``."""
        pixels = augment(patches, self.jitter) if self.training else patches.float()
        side = self.shape.token_px
        squares = pixels.unfold(1, side, side).unfold(2, side, side)  # (n, down, across, 3, side, side)
        tokens = self.token(squares.flatten(1, 2).flatten(2) / WHITE * 2 - 1) + self.place
        others = self.exemplar(torch.cat([exemplar_x, exemplar_y], dim=-1))
        for i, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens)
            if i % self.shape.n_between == 0:
                bridge = i // self.shape.n_between - 1
                others = self.to_exemplars[bridge](tokens, asking=others)
                tokens = self.to_tokens[bridge](others, asking=tokens)
        answer: Tensor = self.pool(tokens)
        return answer

    def _layer(self) -> SequenceLayer:
        s = self.shape
        return SequenceLayer(s.n_dims, n_heads=s.n_heads, n_inner=s.n_dims, n_feed=s.n_feed)
