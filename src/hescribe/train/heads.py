"""A projection head of attention: pieces of a vector are tokens that look at each other."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.train.attention import SequenceLayer

N_TOKENS, N_LAYERS, N_HEADS = 16, 2, 4


class TransformerHead(nn.Module):
    """Attention among the pieces of a vector and a token of its own, which becomes the embedding.

    HESCAPE (Gindra et al., 2025, arXiv:2508.01490) gives its transformer head the whole vector as one token, so that
    there is nothing to attend to. Here a vector is cut into equal pieces, each with a map of its own to a token.

    Parameters
    ----------
    n_in, n_dims
        Width of what comes in, and of the embedding and of every token.
    dropout
        Share of the inputs, and of the units of each layer, left out in training.

    Examples
    --------
    >>> TransformerHead(50, 8, dropout=0.0)(torch.zeros(3, 50)).shape  # 12 pieces of 4 and one of 2
    torch.Size([3, 8])
    """

    def __init__(self, n_in: int, n_dims: int, *, dropout: float) -> None:
        super().__init__()
        self.width = math.ceil(n_in / N_TOKENS)
        n_pieces = math.ceil(n_in / self.width)
        self.n_missing = n_pieces * self.width - n_in
        self.dropout = nn.Dropout(dropout)
        limit = self.width**-0.5  # as torch draws a linear layer
        self.weight = nn.Parameter(torch.empty(n_pieces, self.width, n_dims).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(1 + n_pieces, n_dims).uniform_(-limit, limit))  # the first: own token
        n_heads = math.gcd(n_dims, N_HEADS)
        self.layers = nn.ModuleList(
            SequenceLayer(n_dims, n_heads=n_heads, n_inner=n_dims, n_feed=2 * n_dims, dropout=dropout)
            for _ in range(N_LAYERS)
        )
        self.last = nn.Sequential(nn.LayerNorm(n_dims), nn.Linear(n_dims, n_dims))

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding of vectors ``(n, n_in)``, shape ``(n, n_dims)``."""
        pieces = functional.pad(self.dropout(x), (0, self.n_missing)).unflatten(1, (-1, self.width))
        tokens = torch.einsum("npw,pwd->npd", pieces, self.weight)
        tokens = functional.pad(tokens, (0, 0, 1, 0)) + self.bias
        for layer in self.layers[:-1]:
            tokens = layer(tokens)
        found: Tensor = self.last(self.layers[-1](tokens, tokens[:, :1])[:, 0])
        return found
