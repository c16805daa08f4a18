"""The networks of SpaCKLE: attention over a spot's surroundings, and the published one over a batch."""

import torch
from torch import Tensor, nn

from hescribe.train.attention import NeighbourhoodAttention

PUBLISHED_FEED = 2048  # width of the published feed-forward layers, torch's default


class NeighbourhoodNetwork(nn.Module):
    """What a spot's hidden values are, from the spot and those around it.

    Parameters
    ----------
    n_genes, n_image
        Numbers of genes and of image features of a spot.
    n_dims, n_heads, n_layers
        Width of a token, heads of attention, layers.
    """

    def __init__(self, n_genes: int, n_image: int, *, n_dims: int, n_heads: int, n_layers: int) -> None:
        super().__init__()
        self.missing = nn.Parameter(torch.zeros(n_genes))  # stands for a value that is not visible
        self.embed = nn.Linear(2 * n_genes + n_image, n_dims)
        self.attention = NeighbourhoodAttention(n_dims, n_heads=n_heads, n_layers=n_layers)
        self.norm, self.head = nn.LayerNorm(n_dims), nn.Linear(n_dims, n_genes)
        # A gene that is never asked for in training keeps the answer 0: the level it is centred on.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def tokens(self, values: Tensor, visible: Tensor, image: Tensor) -> Tensor:
        """Return one token for each spot, shape ``(..., n_dims)``.

        Parameters
        ----------
        values, visible
            Shape ``(..., n_genes)``; a value counts only where it is visible.
        image
            Shape ``(..., n_image)``.
        """
        return self.embed(torch.cat([torch.where(visible, values, self.missing), visible.to(values), image], dim=-1))

    def forward(self, tokens: Tensor, points: Tensor, absent: Tensor) -> Tensor:
        """Return the values of the centres, shape ``(n, n_genes)``.

        Parameters
        ----------
        tokens
            The centre and its neighbours, shape ``(n, n_tokens, n_dims)``.
        points
            Their places in pitches, shape ``(n, n_tokens, 2)``.
        absent
            True where there is no such neighbour, shape ``(n, n_tokens)``; never at the centre.
        """
        return self.head(self.norm(self.attention(tokens, points, absent)))


class BatchAttentionNetwork(nn.Module):
    """The published network, whose attention runs over the spots of a batch instead of a neighbourhood.

    Torch's transformer layers take the first axis for the sequence unless told otherwise, and the published
    code gives them (spots of the batch, tokens, genes). So a token sees the tokens of the same place in the
    other neighbourhoods of the batch, and none of its own.

    Parameters
    ----------
    n_genes
        Also the width of a token.

    Examples
    --------
    >>> sum(p.numel() for p in BatchAttentionNetwork(128).parameters())
    1219072
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(n_genes, nhead=1, dim_feedforward=PUBLISHED_FEED, dropout=0.1)
        self.embed, self.head = nn.Linear(n_genes, n_genes), nn.Linear(n_genes, n_genes)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return values of all tokens, shape ``(n, n_tokens, n_genes)`` as they came."""
        return self.head(self.encoder(self.embed(values)))
