"""EGGN's network: spots that hear their neighbours and their exemplars, layer by layer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.data.section import Section
from hescribe.predict._exemplars import Exemplars, ResidualAttention
from hescribe.prep.graph import nearest_spots
from hescribe.train.attention import SequenceLayer

N_NEAR = 3  # exemplars that an exemplar hears, of those of its spot


@dataclass(frozen=True)
class SectionGraph:
    """A section with its neighbours and exemplars.

    Parameters
    ----------
    x
        Features of all spots, shape ``(n_spots, n_dims)``.
    near
        Neighbours of each spot, -1 where it has fewer, shape ``(n_spots, n_neighbours)``.
    exemplars, found
        Those of each spot by their number, shape ``(n_spots, k)``.
    """

    x: np.ndarray
    near: np.ndarray
    exemplars: Exemplars
    found: np.ndarray

    @classmethod
    def of(
        cls, section: Section, x: np.ndarray, exemplars: Exemplars, *, k: int, n_neighbours: int, radius: float
    ) -> "SectionGraph":
        """Return the graph of a section; neighbours lie within a radius in pitches."""
        return cls(x, nearest_spots(section, n_neighbours, radius=radius)[0], exemplars, exemplars.find(section, x, k))

    def take(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return features, neighbours, and features and expression of the exemplars; ``rows`` are all spots."""
        at = rows.numpy()
        of_spots = self.found[at]
        arrays = (self.x[at], self.near[at], self.exemplars.x[of_spots], self.exemplars.y[of_spots])
        return tuple(torch.from_numpy(a) for a in arrays)


class EggnNetwork(nn.Module):
    """Layers in which spots hear their neighbours and exemplars, and exemplars each other and their spot.

    Parameters
    ----------
    n_dims, n_genes
        Width of the features and of the answer.
    width, n_layers, n_heads
        Of the layers.
    """

    def __init__(self, n_dims: int, n_genes: int, *, width: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        self.spot, self.exemplar = nn.Linear(n_dims, width), nn.Linear(n_dims + n_genes, width)
        self.layers = nn.ModuleList(_Layer(width, n_heads) for _ in range(n_layers))
        self.pool = ResidualAttention(width, n_genes)

    def forward(self, x: Tensor, near: Tensor, exemplar_x: Tensor, exemplar_y: Tensor) -> Tensor:
        """Return differences from the train mean, shape ``(n_spots, n_genes)``."""
        spots, others = self.spot(x), self.exemplar(torch.cat([exemplar_x, exemplar_y], dim=-1))
        alike = torch.cdist(exemplar_x, exemplar_x).topk(min(N_NEAR + 1, exemplar_x.shape[1]), largest=False).indices
        for layer in self.layers:
            spots, others = layer(spots, near, others, alike)
        return self.pool(torch.cat([spots[:, None], others], dim=1))


class _Layer(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.among_spots, self.among_exemplars = _Sage(width), _Sage(width)
        self.bridge = SequenceLayer(width, n_heads=n_heads, n_inner=width, n_feed=width)
        self.back = nn.Linear(width, width, bias=False)

    def forward(self, spots: Tensor, near: Tensor, others: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
        n = len(spots)
        there = (near >= 0)[..., None].float()
        around = (spots[near.clamp(min=0)] * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        heard = others[torch.arange(n, device=spots.device)[:, None, None], alike].mean(dim=2)
        spots, others = self.among_spots(spots, around), self.among_exemplars(others, heard) + self.back(spots)[:, None]
        return self.bridge(others, asking=spots[:, None])[:, 0], others


class _Sage(nn.Module):
    """A node and the mean of those that it hears (Hamilton et al., NeurIPS 2017), added to the node."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.own, self.others = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        changed: Tensor = x + torch.relu(self.own(self.norm(x)) + self.others(self.norm(heard)))
        return changed
