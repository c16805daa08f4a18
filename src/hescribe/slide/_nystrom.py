"""Attention among many tiles by way of a few landmarks, and the pooling of TransMIL on top of it.

Xiong et al., AAAI 2021, arXiv:2102.03902: softmax(Q K^T) V is taken for softmax(Q L^T) pinv(softmax(M L^T)) softmax(M
K^T) V, where M and L are means of neighbouring queries and keys, so that memory grows with the tiles and not with
their square.
"""

import math

import torch
from torch import Tensor, nn

N_INVERSE = 6  # steps of the iterative pseudo-inverse, the paper's
KERNELS = (7, 5, 3)  # of the convolutions over the grid
RESIDUAL = 33  # tiles along the sequence that a value is mixed with, the paper's


class NystromAttention(nn.Module):
    """Attention of a sequence to itself; exact if it is no longer than the landmarks.

    Parameters
    ----------
    n_dims, n_heads, n_landmarks
        Width of a token, heads that share it, landmarks.
    """

    def __init__(self, n_dims: int, *, n_heads: int, n_landmarks: int) -> None:
        super().__init__()
        self.n_heads, self.n_landmarks = n_heads, n_landmarks
        self.before = nn.LayerNorm(n_dims)
        self.query_key_value = nn.Linear(n_dims, 3 * n_dims, bias=False)
        self.out = nn.Linear(n_dims, n_dims)
        self.near = nn.Conv2d(n_heads, n_heads, (RESIDUAL, 1), padding=(RESIDUAL // 2, 0), groups=n_heads, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed tokens ``(n_tokens, n_dims)``, and how the first attends to all, ``(n_tokens,)``."""
        parts = self.query_key_value(self.before(tokens)).chunk(3, dim=-1)
        query, key, value = (x.unflatten(-1, (self.n_heads, -1)).transpose(0, 1) for x in parts)  # (heads, n, width)
        query = query / math.sqrt(query.shape[-1])
        if len(tokens) <= self.n_landmarks:
            weights = torch.softmax(query @ key.transpose(-1, -2), dim=-1)
            found, first = weights @ value, weights[:, 0]
        else:
            found, first = self._by_landmarks(query, key, value)
        found = found + self.near(value[None])[0]
        return tokens + self.out(found.transpose(0, 1).flatten(1)), first.mean(dim=0)

    def _by_landmarks(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        m, n = segment_means(query, self.n_landmarks), segment_means(key, self.n_landmarks).transpose(-1, -2)
        left = torch.softmax(query @ n, dim=-1)
        middle = pseudo_inverse(torch.softmax(m @ n, dim=-1))
        right = torch.softmax(m @ key.transpose(-1, -2), dim=-1)
        return left @ (middle @ (right @ value)), (left[:, :1] @ middle @ right)[:, 0]


def segment_means(x: Tensor, n: int) -> Tensor:
    """Return the means of ``n`` runs of neighbouring tokens whose lengths differ by one at most.

    Parameters
    ----------
    x
        Shape ``(n_heads, n_tokens, width)``, with at least ``n`` tokens.
    n
        Runs.

    Examples
    --------
    >>> segment_means(torch.tensor([[[1.0], [3.0], [5.0], [7.0]]]), 2).flatten().tolist()
    [2.0, 6.0]
    """
    run = torch.arange(x.shape[1], device=x.device) * n // x.shape[1]
    total = x.new_zeros(x.shape[0], n, x.shape[2]).index_add(1, run, x)
    return total / torch.bincount(run, minlength=n)[None, :, None]


def pseudo_inverse(a: Tensor) -> Tensor:
    """Return the pseudo-inverse of square matrices by iteration, which is fast and whose gradient is tame.

    Razavi et al., as in the paper's equation 12.
    """
    largest = a.abs().sum(dim=-2).amax(dim=-1) * a.abs().sum(dim=-1).amax(dim=-1)
    z = a.transpose(-1, -2) / largest[:, None, None]
    eye = torch.eye(a.shape[-1], device=a.device)
    for _ in range(N_INVERSE):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z


class GridPosition(nn.Module):
    """Tiles laid on a square in their order, and mixed with their neighbours there: where a tile is, is learned.

    Parameters
    ----------
    n_dims
        Width of a token.
    """

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(n_dims, n_dims, k, padding=k // 2, groups=n_dims) for k in KERNELS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens ``(n_tokens, n_dims)``, the first of which has no place and stays as it is."""
        tiles = tokens[1:]
        side = math.ceil(math.sqrt(len(tiles)))
        grid = nn.functional.pad(tiles, (0, 0, 0, side**2 - len(tiles))).T.unflatten(1, (side, side))[None]
        mixed = torch.stack([c(grid) for c in self.convolutions]).sum(dim=0)[0].flatten(1).T[: len(tiles)]
        return torch.cat([tokens[:1], tiles + mixed])


class TransformerPooling(nn.Module):
    """The pooling of TransMIL.

    Parameters
    ----------
    n_hidden, n_heads, n_landmarks
        Width of a tile; heads and landmarks of the attention.
    """

    def __init__(self, n_hidden: int, *, n_heads: int, n_landmarks: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, n_hidden) * 0.02)
        self.first, self.second = (
            NystromAttention(n_hidden, n_heads=n_heads, n_landmarks=n_landmarks) for _ in range(2)
        )
        self.position, self.after = GridPosition(n_hidden), nn.LayerNorm(n_hidden)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class token, and how it attends to the tiles in the second layer.

        The landmarks can make a weight negative; it then is 0.
        """
        tokens, _ = self.first(torch.cat([self.token, tiles]))
        tokens, weights = self.second(self.position(tokens))
        weights = weights[1:].clamp(min=0)
        return self.after(tokens[0]), weights / weights.sum().clamp(min=1e-12)
