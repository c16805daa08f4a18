"""The network and the loss of Hist2ST: a mixer on patches, attention among all spots, a graph, and counts.

Zeng et al., Spatial transcriptomics prediction from histology jointly through Transformer and graph neural networks,
Briefings in Bioinformatics 2022, bbac297. See ``hist2st``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.data.section import Section
from hescribe.encode.trainable import augment
from hescribe.errors import InputError
from hescribe.predict._network import Batch
from hescribe.predict._sequence import WHITE, PlacedPatches, PlaceTables
from hescribe.prep.graph import nearest_spots
from hescribe.train.attention import SequenceLayer

N_NEIGHBOURS, REACH = 4, 2.0  # nearest spots, and the farthest of them in pitches
SQUEEZE = 8  # channels of a mixer that become one
LOG_MEAN = (-11.5, 13.8)  # of the expected count: 1e-5 to 1e6
DISPERSION = (1e-4, 1e4)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Side of a patch and of a cell in pixels, channels, layers of mixer, attention and graph, heads of attention."""

    px: int
    cell: int
    n_channels: int
    n_mixers: int
    n_layers: int
    n_hops: int
    n_heads: int

    @property
    def n_dims(self) -> int:
        """Width of a token."""
        return (self.px // self.cell) ** 2 * self.n_channels // SQUEEZE


@dataclass(frozen=True)
class GraphOfSection:
    """Patches, places and neighbours of all spots of a section; ``near`` has shape ``(n_spots, 5)``, -1 for none."""

    placed: PlacedPatches
    near: Tensor

    def take(self, rows: Tensor) -> Batch:
        """Return what ``Hist2stNetwork`` reads of a whole section."""
        return *self.placed.take(rows), self.near[rows]


def neighbours(section: Section, *, alone: bool) -> Tensor:
    """Return rows of a spot and of its four nearest others within two pitches, shape ``(n_spots, 5)``.

    Parameters
    ----------
    section
        -1 stands where a spot has fewer.
    alone
        As published, the spot itself is not among them.

    Raises
    ------
    InputError
        If ``alone`` and a spot has no neighbour: its mean is not defined.
    """
    index, _ = nearest_spots(section, N_NEIGHBOURS, radius=REACH)
    lonely = (index < 0).all(axis=1)
    if alone and lonely.any():
        where = section.table.obs_names[lonely][0]
        raise InputError(
            f"spot {where} of section {section.id} has no neighbour within {REACH:g} pitches, over which legacy_graph "
            "divides; leave it off"
        )
    own = np.full((len(index), 1), -1) if alone else np.arange(len(index))[:, None]
    return torch.from_numpy(np.hstack([own, index]))


class Mixer(nn.Module):
    """Two convolutions in each channel, added to what came in, and one across the channels (ConvMixer, TMLR 2023)."""

    def __init__(self, n_channels: int, *, kernel: int = 5) -> None:
        super().__init__()
        within = [
            layer
            for _ in range(2)
            for layer in (
                nn.Conv2d(n_channels, n_channels, kernel, groups=n_channels, padding="same"),
                nn.BatchNorm2d(n_channels),
                nn.GELU(),
            )
        ]
        self.within = nn.Sequential(*within)
        self.across = nn.Sequential(nn.Conv2d(n_channels, n_channels, 1), nn.GELU(), nn.BatchNorm2d(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape, ``(n, n_channels, side, side)``."""
        out: Tensor = self.across(x + self.within(x))
        return out


class GraphStep(nn.Module):
    """A linear layer on the mean over the neighbourhood of a spot, rectified.

    The mean is that of normalised tokens, and what is found is added to the spot.

    Parameters
    ----------
    n_dims
        Width of a token.
    bare
        As published (and in GraphSAGE), what is found stands for the spot, at length 1.
    """

    def __init__(self, n_dims: int, *, bare: bool) -> None:
        super().__init__()
        self.bare, self.weights = bare, nn.Linear(n_dims, n_dims, bias=False)
        nn.init.xavier_uniform_(self.weights.weight)

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        """Return ``(n_spots, n_dims)`` for rows of neighbours ``(n_spots, n_near)``, -1 where there is none."""
        there = (near >= 0).to(x)[..., None]
        seen = x if self.bare else normed(x)
        mean = (seen[near] * there).sum(dim=1) / there.sum(dim=1)
        found = torch.relu(self.weights(mean))
        return functional.normalize(found, dim=1) if self.bare else x + found


def normed(x: Tensor) -> Tensor:
    """Return tokens of mean 0 and variance 1."""
    return functional.layer_norm(x, x.shape[-1:])


@dataclass(frozen=True)
class Said:
    """What the network says of the spots of a section.

    Parameters
    ----------
    mean
        Differences from the train mean, shape ``(n_spots, n_genes)``.
    count, dispersion, empty
        Of a count of a spot of usual depth: the logarithm of its mean, its dispersion before the softplus and the
        logit of the chance that it is missed, same shape.
    weight
        Of this view among others of the same spot, before the softmax, shape ``(n_spots, 1)``.
    """

    mean: Tensor
    count: Tensor
    dispersion: Tensor
    empty: Tensor
    weight: Tensor


class Hist2stNetwork(nn.Module):
    """Mixer, attention among all spots of a section, graph, and a recurrent network over the steps of the graph.

    Parameters
    ----------
    layout
        Of the network.
    log_count
        Logarithm of the mean count of each gene at usual depth, from which the counts start.
    dropout
        Share of units left out in training.
    bare
        Of the steps of the graph; as published, the recurrent network does not read what was there before them either.
    """

    def __init__(self, layout: Layout, log_count: np.ndarray, *, dropout: float, bare: bool) -> None:
        super().__init__()
        n_dims, n_channels, n_genes = layout.n_dims, layout.n_channels, len(log_count)
        self.bare = bare
        self.cells = nn.Conv2d(3, n_channels, layout.cell, stride=layout.cell)
        self.dropped = nn.Dropout(dropout)
        self.mixers = nn.Sequential(*(Mixer(n_channels) for _ in range(layout.n_mixers)))
        self.squeeze = nn.Conv2d(n_channels, n_channels // SQUEEZE, 1)
        self.places = PlaceTables(n_dims)
        self.layers = nn.ModuleList(
            SequenceLayer(n_dims, n_heads=layout.n_heads, n_inner=n_dims, n_feed=n_dims, dropout=dropout)
            for _ in range(layout.n_layers)
        )
        self.hops = nn.ModuleList(GraphStep(n_dims, bare=bare) for _ in range(layout.n_hops))
        self.jumps = nn.LSTM(n_dims, n_dims, 2)
        self.norm, self.last = nn.LayerNorm(n_dims), nn.Linear(n_dims, n_genes)
        counts = [nn.Linear(n_dims, n_genes) for _ in range(3)]
        self.counts = nn.ModuleList(counts)
        self.weigh = nn.Sequential(nn.Linear(n_dims, n_dims), nn.ReLU(), nn.Linear(n_dims, 1))
        for head in (self.last, *counts):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        counts[0].bias.data.copy_(torch.from_numpy(log_count))

    def forward(self, patches: Tensor, rows: Tensor, near: Tensor) -> Tensor:
        """Return differences from the train mean of the spots of one section, shape ``(n_spots, n_genes)``."""
        return self.say(patches, rows, near).mean

    def say(self, patches: Tensor, rows: Tensor, near: Tensor) -> Said:
        """Return all that is said of patches ``(n_spots, px, px, 3)``, rows of the tables and neighbours."""
        pixels = patches.permute(0, 3, 1, 2).float() / WHITE - 0.5
        x = self.squeeze(self.mixers(self.dropped(self.cells(pixels)))).flatten(1)
        tokens = (x + self.places(rows))[None]
        for layer in self.layers:
            tokens = layer(tokens)
        x = self.norm(self._spread(tokens[0], near))
        count, dispersion, empty = (head(x) for head in self.counts)
        return Said(self.last(x), count, dispersion, empty, self.weigh(x))

    def _spread(self, x: Tensor, near: Tensor) -> Tensor:
        """Return what the recurrent network makes of the steps of the graph, shape ``(n_spots, n_dims)``."""
        steps = [x]
        for hop in self.hops:
            steps.append(hop(steps[-1], near))
        read = torch.stack(steps[1:]) if self.bare else normed(torch.stack(steps))
        found: Tensor = self.jumps(read)[0].mean(dim=0)
        return found


@dataclass(frozen=True, kw_only=True)
class JointLoss:
    """Squared error, plus the likelihood of the counts, plus the distance from what altered views say together.

    Parameters
    ----------
    counts, views
        Weights of the two additions.
    n_views
        Altered views of each section; none if their weight is 0.
    jitter
        Of their colours: see ``augment``.
    """

    counts: float
    views: float
    n_views: int
    jitter: float

    def __call__(self, network: nn.Module, inputs: Batch, answers: Batch, rows: Tensor) -> Tensor:
        """Return the loss; ``answers`` are differences, counts of the panel, and depths relative to the usual one."""
        assert isinstance(network, Hist2stNetwork)
        said, (difference, count, depth) = network.say(*inputs), answers
        loss = functional.mse_loss(said.mean[rows], difference)
        if self.counts:
            parts = (said.count[rows], said.dispersion[rows], said.empty[rows])
            loss = loss + self.counts * zero_inflated(count, *parts, depth)
        if self.views:
            patches, *where = inputs
            views = [network.say(augment(patches, self.jitter), *where) for _ in range(self.n_views)]
            weight = torch.softmax(torch.stack([v.weight for v in views]), dim=0)
            together = (weight * torch.stack([v.mean for v in views])).sum(dim=0)
            loss = loss + self.views * functional.mse_loss(together, said.mean)
        return loss


def zero_inflated(count: Tensor, log_mean: Tensor, dispersion: Tensor, empty: Tensor, depth: Tensor) -> Tensor:
    """Return the mean negative log likelihood of counts under a zero-inflated negative binomial.

    Parameters
    ----------
    count
        Shape ``(n, n_genes)``.
    log_mean, dispersion, empty
        As in ``Said``.
    depth
        By which the mean is multiplied, shape ``(n, 1)``.
    """
    mean = log_mean.clamp(*LOG_MEAN).exp() * depth
    size = functional.softplus(dispersion).clamp(*DISPERSION)
    log_share = size * (size.log() - (size + mean).log())  # of a zero that was counted
    counted = torch.lgamma(count + size) - torch.lgamma(size) - torch.lgamma(count + 1) + log_share
    counted = counted + count * (mean.log() - (size + mean).log())
    present = functional.logsigmoid(-empty)
    zero = torch.logaddexp(functional.logsigmoid(empty), present + log_share)
    return -torch.where(count > 0, present + counted, zero).mean()
