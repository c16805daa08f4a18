"""Graph convolutions on small graphs of equal size, padded with absent nodes, and where their nodes lie."""

import math

import torch
from torch import Tensor, nn

WAVELENGTH = 10_000.0  # of the slowest wave of a position, as Vaswani et al. have it


class GraphConv(nn.Module):
    """``W1 x_i + W2 sum_j x_j`` over the neighbours of a node (Morris et al., AAAI 2019)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(n_in, n_out), nn.Linear(n_in, n_out, bias=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Return the nodes, shape ``(n, n_nodes, n_out)``.

        Parameters
        ----------
        x
            Nodes, shape ``(n, n_nodes, n_in)``; those that are absent are 0.
        edges
            1 where two nodes touch, shape ``(n, n_nodes, n_nodes)``.
        """
        out: Tensor = self.own(x) + self.others(edges @ x)
        return out


class GCNConv(nn.Module):
    """``W sum_j x_j / sqrt(degree_i degree_j)`` over a node and its neighbours (Kipf and Welling, ICLR 2017)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weights = nn.Linear(n_in, n_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Return the nodes; see ``GraphConv``."""
        with_self = edges + torch.eye(edges.shape[-1], device=edges.device)
        scale = with_self.sum(dim=-1).rsqrt()
        out: Tensor = (scale[..., None] * with_self * scale[..., None, :]) @ self.weights(x) + self.bias
        return out


def encode_offsets(offset: Tensor, n_dims: int) -> Tensor:
    """Return sines and cosines of two-dimensional offsets, half of the dimensions for each axis.

    Parameters
    ----------
    offset
        In pitches, shape ``(..., 2)``.
    n_dims
        A multiple of 4.

    Examples
    --------
    >>> encode_offsets(torch.zeros(1, 2), 8).tolist()  # sines, then cosines, of each axis
    [[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]]
    """
    n_waves = n_dims // 4
    speed = torch.exp(-math.log(WAVELENGTH) * torch.arange(n_waves, device=offset.device) / n_waves)
    angle = offset[..., None] * speed
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)
