"""Attention among the spots of a neighbourhood, where memory is linear in spots; and among all tokens of a sequence."""

import torch
from torch import Tensor, nn
from torch.nn import functional

N_HIDDEN = 16  # units between an offset and its bias


class OffsetBias(nn.Module):
    """What is added to the attention between two tokens, learned from where one lies of the other.

    Parameters
    ----------
    n_heads
        Biases of a pair.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.learned = nn.Sequential(nn.Linear(3, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, n_heads))

    def forward(self, points: Tensor, absent: Tensor) -> Tensor:
        """Return biases, -inf where the token that is asked is absent, shape ``(n, n_heads, n_tokens, n_tokens)``.

        Parameters
        ----------
        points
            Places of the tokens in pitches, shape ``(n, n_tokens, 2)``.
        absent
            True where there is no such token, shape ``(n, n_tokens)``.
        """
        offset = points[:, None] - points[:, :, None]  # (n, n_tokens, n_tokens, 2), from query to key
        offset = torch.cat([offset, torch.linalg.vector_norm(offset, dim=-1, keepdim=True)], dim=-1)
        bias: Tensor = self.learned(offset).masked_fill(absent[:, None, :, None], -torch.inf)
        return bias.permute(0, 3, 1, 2)


class NeighbourhoodAttention(nn.Module):
    """Layers of attention over the spots of one neighbourhood, of which only the centre is wanted.

    They normalise first. Where a neighbour lies enters as a bias of each head, learned from the offset.

    Parameters
    ----------
    n_dims, n_heads, n_layers
        Width of a token, heads of attention, layers.
    """

    def __init__(self, n_dims: int, *, n_heads: int, n_layers: int) -> None:
        super().__init__()
        self.place = OffsetBias(n_layers * n_heads)
        self.layers = nn.ModuleList(_Layer(n_dims, n_heads) for _ in range(n_layers))

    def forward(self, tokens: Tensor, points: Tensor, absent: Tensor) -> Tensor:
        """Return the centres, shape ``(n, n_dims)``.

        Parameters
        ----------
        tokens
            The centre and its neighbours, shape ``(n, n_tokens, n_dims)``.
        points
            Their places in pitches, shape ``(n, n_tokens, 2)``.
        absent
            True where there is no such neighbour, shape ``(n, n_tokens)``; never at the centre.
        """
        biases = self.place(points, absent).chunk(len(self.layers), dim=1)  # of each layer (n, n_heads, query, key)
        for layer, at in zip(self.layers[:-1], biases, strict=False):
            tokens = layer(tokens, tokens, at)
        return self.layers[-1](tokens[:, :1], tokens, biases[-1][:, :, :1])[:, 0]


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


class SequenceLayer(nn.Module):
    """Attention among all tokens of a sequence, and a feed-forward block, each on normalised tokens and added.

    Dropout is that of Dosovitskiy et al., ICLR 2021: of what is added, not of the attention, whose weights are
    therefore never held in memory.

    Parameters
    ----------
    n_dims
        Width of a token.
    n_heads, n_inner
        Heads of attention, and their widths together.
    n_feed
        Width inside of the feed-forward block.
    dropout
        Share of units left out in training.
    """

    def __init__(self, n_dims: int, *, n_heads: int, n_inner: int, n_feed: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before, self.between = nn.LayerNorm(n_dims), nn.LayerNorm(n_dims)
        self.query = nn.Linear(n_dims, n_inner, bias=False)
        self.key_value = nn.Linear(n_dims, 2 * n_inner, bias=False)
        self.out = nn.Linear(n_inner, n_dims)
        self.dropout = nn.Dropout(dropout)
        self.feed = nn.Sequential(
            nn.Linear(n_dims, n_feed), nn.GELU(), nn.Dropout(dropout), nn.Linear(n_feed, n_dims), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tensor, asking: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Return the asking tokens, changed by all tokens of their sequence.

        Parameters
        ----------
        tokens
            Shape ``(n_sequences, n_tokens, n_dims)``.
        asking
            Shape ``(n_sequences, n_asking, n_dims)``; the tokens themselves by default.
        bias
            Added to the scores, -inf where a token must not be seen; of a shape that broadcasts to
            ``(n_sequences, n_heads, n_asking, n_tokens)``.
        """
        asking = tokens if asking is None else asking
        query = self._split(self.query(self.before(asking)))
        key, value = (self._split(x) for x in self.key_value(self.before(tokens)).chunk(2, dim=-1))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        asking = asking + self.dropout(self.out(found.transpose(1, 2).flatten(2)))
        changed: Tensor = asking + self.feed(self.between(asking))
        return changed

    def _split(self, x: Tensor) -> Tensor:
        """Return ``(n_sequences, n_heads, n_tokens, width of a head)`` of ``(n_sequences, n_tokens, n_inner)``."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
