"""The networks of SpaCKLE: attention over a spot's surroundings, and the published one over a batch."""

import torch
from torch import Tensor, nn

N_HIDDEN = 16  # units between an offset and its bias
PUBLISHED_FEED = 2048  # width of the published feed-forward layers, torch's default


class NeighbourhoodNetwork(nn.Module):
    """What a spot's hidden values are, from the spot and those around it.

    Attention runs over the spots of one neighbourhood, in layers that normalise first. Only the centre is
    asked of the last layer.

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
        self.place = nn.Sequential(nn.Linear(3, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, n_layers * n_heads))
        self.layers = nn.ModuleList(_Layer(n_dims, n_heads) for _ in range(n_layers))
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
        offset = points[:, None] - points[:, :, None]  # (n, n_tokens, n_tokens, 2), from query to key
        offset = torch.cat([offset, torch.linalg.vector_norm(offset, dim=-1, keepdim=True)], dim=-1)
        bias = self.place(offset).masked_fill(absent[:, None, :, None], -torch.inf)
        biases = bias.permute(0, 3, 1, 2).chunk(len(self.layers), dim=1)  # of each layer (n, n_heads, query, key)
        for layer, at in zip(self.layers[:-1], biases, strict=False):
            tokens = layer(tokens, tokens, at)
        centre = self.layers[-1](tokens[:, :1], tokens, biases[-1][:, :, :1])
        return self.head(self.norm(centre[:, 0]))


class _Layer(nn.Module):
    """Attention and a feed-forward block, each on normalised tokens and added to what came in."""

    def __init__(self, n_dims: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before, self.between = nn.LayerNorm(n_dims), nn.LayerNorm(n_dims)
        self.query, self.key_value = nn.Linear(n_dims, n_dims), nn.Linear(n_dims, 2 * n_dims)
        self.out = nn.Linear(n_dims, n_dims)
        self.feed = nn.Sequential(nn.Linear(n_dims, 2 * n_dims), nn.GELU(), nn.Linear(2 * n_dims, n_dims))

    def forward(self, asking: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        """Return the asking tokens, changed by all tokens of their neighbourhood."""
        query = self._split(self.query(self.before(asking)))
        key, value = (self._split(x) for x in self.key_value(self.before(tokens)).chunk(2, dim=-1))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        found = torch.softmax(scores + bias, dim=-1).to(value) @ value
        asking = asking + self.out(found.transpose(1, 2).flatten(2))
        return asking + self.feed(self.between(asking))

    def _split(self, x: Tensor) -> Tensor:
        """Return ``(n, n_heads, n_tokens, n_dims / n_heads)`` of ``(n, n_tokens, n_dims)``."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


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
