"""SEPAL's network: what the patch of a spot says, corrected by the graph around it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.data.section import Section
from hescribe.predict._graph_layers import GCNConv, GraphConv, encode_offsets
from hescribe.prep.graph import array_points, local_graphs


class Layout(NamedTuple):
    """Widths of a SEPAL network.

    Parameters
    ----------
    joins
        Whether a node's position stands beside its features, or is added to them.
    before
        Width of a layer on each node before the graph; None: none.
    graph
        Widths of the graph layers; None stands for the number of genes.
    kind
        Of the graph layers.
    """

    joins: bool
    before: int | None
    graph: tuple[int | None, ...]
    kind: type[nn.Module]


LAYOUTS = {
    "paper": Layout(joins=True, before=512, graph=(256, 128), kind=GCNConv),  # its best on Visium
    "small": Layout(joins=False, before=None, graph=(None,), kind=GraphConv),  # its best on legacy ST
}


@dataclass(frozen=True)
class LocalGraphs:
    """The graph around every spot of a section.

    Parameters
    ----------
    x
        Features of all spots, shape ``(n_spots, n_dims)``.
    points
        Their places in pitches, shape ``(n_spots, 2)``.
    nodes, edges
        See ``local_graphs``.
    """

    x: np.ndarray
    points: np.ndarray
    nodes: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, section: Section, x: np.ndarray, n_hops: int) -> "LocalGraphs":
        """Return the graphs of a section."""
        return cls(x, array_points(section).astype(np.float32), *local_graphs(section, n_hops))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features, offsets from the centre, edges and presence of the nodes around some spots."""
        nodes = self.nodes[rows.numpy()]
        there = nodes >= 0
        offset = np.where(there[..., None], self.points[nodes] - self.points[nodes[:, :1]], 0)
        x = np.where(there[..., None], self.x[nodes], 0)
        edges = self.edges[rows.numpy()].astype(np.float32)
        return tuple(torch.from_numpy(a) for a in (x, offset, edges, there))  # type: ignore[return-value]


class SepalNetwork(nn.Module):
    """A linear layer on the centre's features, and a correction by the graph around it.

    Parameters
    ----------
    n_dims, n_genes
        Width of the features and of the answer.
    layout
        Widths of the correction.
    floor
        As published: an exponential unit after the last graph layer too, so that no correction falls below -1.
    top_node
        As published: the node of highest score stands for the graph, whichever it is; else the centre.
    """

    def __init__(self, n_dims: int, n_genes: int, layout: Layout, *, floor: bool, top_node: bool) -> None:
        super().__init__()
        self.layout, self.floor, self.n_position = layout, floor, n_dims - n_dims % 4
        self.first = nn.Linear(n_dims, n_genes)
        width = n_dims + self.n_position if layout.joins else n_dims
        self.before = nn.Identity() if layout.before is None else nn.Linear(width, layout.before)
        widths = [layout.before or width, *(w or n_genes for w in layout.graph)]
        self.graph = nn.ModuleList(layout.kind(a, b) for a, b in pairwise(widths))
        self.score = GraphConv(widths[-1], 1) if top_node else None
        self.last = nn.Linear(widths[-1], n_genes) if layout.graph[-1] is not None else nn.Identity()

    def forward(self, x: Tensor, offset: Tensor, edges: Tensor, there: Tensor) -> Tensor:
        """Return differences from the train mean, shape ``(n, n_genes)``."""
        return self.say(x) + self.correct(x, offset, edges, there)

    def say(self, x: Tensor) -> Tensor:
        """Return what the centre's patch alone says."""
        said: Tensor = self.first(x[:, 0])
        return said

    def correct(self, x: Tensor, offset: Tensor, edges: Tensor, there: Tensor) -> Tensor:
        """Return what the surroundings change, shape ``(n, n_genes)``."""
        position = encode_offsets(offset, self.n_position)
        if self.layout.joins:
            nodes = torch.cat([x, position], dim=-1)
        else:
            nodes = x + functional.pad(position, (0, x.shape[-1] - self.n_position))
        nodes = functional.elu(self.before(nodes)) if self.layout.before else nodes
        for i, layer in enumerate(self.graph):
            nodes = layer(nodes * there[..., None], edges)
            if self.floor or i < len(self.graph) - 1:
                nodes = functional.elu(nodes)
        corrected: Tensor = self.last(self._read(nodes, edges, there))
        return corrected

    def _read(self, nodes: Tensor, edges: Tensor, there: Tensor) -> Tensor:
        """Return the node that stands for the graph, shape ``(n, width)``."""
        if self.score is None:
            return nodes[:, 0]
        score = self.score(nodes * there[..., None], edges)[..., 0].masked_fill(~there, -torch.inf)
        top = score.argmax(dim=1)
        rows = torch.arange(len(nodes), device=nodes.device)
        return nodes[rows, top] * torch.tanh(score[rows, top])[:, None]


def two_stage_loss(network: nn.Module, inputs: tuple[Tensor, ...], answers: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    """Return the squared error of what the patch says, plus that of the correction, which cannot change the former."""
    said, (wanted, *_) = network.say(inputs[0])[rows], answers  # type: ignore[operator]
    corrected = said.detach() + network.correct(*inputs)[rows]  # type: ignore[operator]
    return functional.mse_loss(said, wanted) + functional.mse_loss(corrected, wanted)
