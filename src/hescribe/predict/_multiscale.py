"""The network of TRIPLEX: a patch, the spots around it and the whole section, each by itself and fused.

Chung et al., Accurate Spatial Gene Expression Prediction by Integrating Multi-Resolution Features, CVPR 2024,
arXiv:2403.07592. See ``triplex``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.data.section import Section
from hescribe.encode.accelerate import Network
from hescribe.encode.trainable import TrainableEncoder
from hescribe.errors import InputError
from hescribe.predict._network import Batch
from hescribe.predict._patches import PatchesOfSection
from hescribe.prep.graph import array_points, grid_cells, nearest_spots
from hescribe.train.attention import OffsetBias, SequenceLayer

N_AROUND, N_CELLS = 24, 9  # of 5 x 5 places without the centre; of a kernel of 3 x 3
REACH = {"hex": 2.0}  # pitches: two rings; the corner of 5 x 5 places elsewhere
CORNER = 8**0.5
TEACHING = 0.3  # share that a branch learns of the fused answer


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Depth, heads, feed-forward block in widths of a token, and dropout of a stack of attention."""

    n_layers: int
    n_heads: int
    feed: int
    dropout: float

    def layers(self, n_dims: int) -> nn.ModuleList:
        """Return the layers for tokens of a width."""
        return nn.ModuleList(
            SequenceLayer(n_dims, n_heads=self.n_heads, n_inner=n_dims, n_feed=self.feed * n_dims, dropout=self.dropout)
            for _ in range(self.n_layers)
        )


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Width of a token and the three stacks."""

    n_dims: int
    fusion: Branch
    whole: Branch
    around: Branch


@dataclass(frozen=True)
class ThreeScales:
    """What is read of a section.

    Parameters
    ----------
    patches
        Of its spots, for an encoder that is trained; None if the features stand for them.
    x
        Features, shape ``(n_spots, n_inputs)``.
    near
        Rows of a spot itself and of the spots within two places, shape ``(n_spots, 25)``; -1 where there is none.
    points
        Places in pitches, shape ``(n_spots, 2)``.
    cell, beside
        See ``cells_beside``.
    """

    patches: PatchesOfSection | None
    x: Tensor
    near: Tensor
    points: Tensor
    cell: Tensor
    beside: Tensor

    @classmethod
    def of(cls, section: Section, x: np.ndarray, patches: PatchesOfSection | None) -> "ThreeScales":
        """Return what is read of a section with features ``(n_spots, n_inputs)``."""
        near, _ = nearest_spots(section, N_AROUND, radius=REACH.get(section.card.technology.grid or "", CORNER))
        near = np.hstack([np.arange(len(near))[:, None], near])
        points = array_points(section).astype(np.float32)
        cell, beside = cells_beside(grid_cells(section))
        return cls(patches, *(torch.from_numpy(a) for a in (x, near, points, cell, beside)))

    def take(self, rows: Tensor) -> Batch:
        """Return what ``MultiscaleNetwork`` reads of some spots."""
        target = self.x[rows] if self.patches is None else self.patches.take(rows)[0]
        near = self.near[rows]
        absent = near < 0
        near = torch.where(absent, rows[:, None], near)
        return target, self.x, self.cell, self.beside, rows, near, self.points[near], absent


def cells_beside(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which spots share a cell of a grid, and the cells of its 3 x 3 surroundings.

    Parameters
    ----------
    cells
        Cell of each spot, shape ``(n_spots, 2)`` int64.

    Returns
    -------
    Number of the cell of each spot, shape ``(n_spots,)``; and of the cells around each cell, row by row, -1 where no
    spot lies, shape ``(n_cells, 9)``.

    Examples
    --------
    >>> cell, beside = cells_beside(np.array([[5, 5], [5, 6], [9, 9]]))
    >>> beside[cell].tolist()[0]
    [-1, -1, -1, -1, 0, 1, -1, -1, -1]
    """
    held, cell = np.unique(cells, axis=0, return_inverse=True)
    number = {place: i for i, place in enumerate(map(tuple, held.tolist()))}
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    beside = [[number.get((a + i, b + j), -1) for i, j in steps] for a, b in held.tolist()]
    return cell.reshape(-1), np.array(beside, dtype=np.int64).reshape(-1, N_CELLS)


class GridConvolution(nn.Module):
    """APEG, the atypical position encoding generator: a 3 x 3 convolution over the grid of spots, channel by channel.

    The grid is never laid out: cells without a spot are 0, and nothing is asked of them. So its size is no state.
    """

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.empty(N_CELLS, n_dims)), nn.Parameter(torch.empty(n_dims))
        for weight in (self.kernel, self.bias):  # as torch draws a convolution's
            nn.init.uniform_(weight, -1 / N_CELLS**0.5, 1 / N_CELLS**0.5)

    def forward(self, x: Tensor, cell: Tensor, beside: Tensor) -> Tensor:
        """Return the tokens of a section with their places added, shape ``(n_spots, n_dims)``."""
        held = x.new_zeros(len(beside), x.shape[1]).index_add(0, cell, x)
        around = held[beside] * (beside >= 0)[..., None]  # (n_cells, 9, n_dims)
        placed: Tensor = x + (torch.einsum("ckd,kd->cd", around, self.kernel) + self.bias)[cell]
        return placed


class WholeSection(nn.Module):
    """Attention among all spots of a section, with their places after the first layer.

    ``noisy`` leaves dropout on in use, as published.
    """

    def __init__(self, branch: Branch, n_dims: int, *, noisy: bool) -> None:
        super().__init__()
        self.noisy = noisy
        self.layers, self.place, self.norm = branch.layers(n_dims), GridConvolution(n_dims), nn.LayerNorm(n_dims)

    def train(self, mode: bool = True) -> "WholeSection":  # noqa: FBT002 - torch's signature
        """Set the mode."""
        super().train(mode or self.noisy)
        return self

    def forward(self, x: Tensor, cell: Tensor, beside: Tensor) -> Tensor:
        """Return one token a spot, shape ``(n_spots, n_dims)``."""
        tokens = self.layers[0](x[None])
        tokens = self.place(tokens[0], cell, beside)[None]
        for layer in self.layers[1:]:
            tokens = layer(tokens)
        normed: Tensor = self.norm(tokens[0])
        return normed


class SpotsAround(nn.Module):
    """Attention among the spots within two places of a spot, biased by where they lie."""

    def __init__(self, branch: Branch, n_dims: int) -> None:
        super().__init__()
        self.layers, self.norm = branch.layers(n_dims), nn.LayerNorm(n_dims)
        self.place = OffsetBias(branch.n_layers * branch.n_heads)

    def forward(self, tokens: Tensor, points: Tensor, absent: Tensor) -> Tensor:
        """Return the tokens, shape ``(n, 25, n_dims)``; those that are absent mean nothing."""
        biases = self.place(points, absent).chunk(len(self.layers), dim=1)
        for layer, bias in zip(self.layers, biases, strict=True):
            tokens = layer(tokens, bias=bias)
        normed: Tensor = self.norm(tokens)
        return normed


class MultiscaleNetwork(nn.Module):
    """Three branches, and their fusion: the section's token of a spot asks those of its patch and of the spots around.

    Parameters
    ----------
    target
        Gives the tokens of a patch, shape ``(n, n_tokens, n_dims)``, of what is read of it.
    n_inputs, n_genes
        Length of the frozen features, and width of the answer.
    scales
        Widths and depths.
    noisy
        See ``WholeSection``.
    """

    def __init__(self, target: nn.Module, n_inputs: int, n_genes: int, scales: Scales, *, noisy: bool) -> None:
        super().__init__()
        n_dims = scales.n_dims
        self.target = target
        self.fit = nn.Identity() if n_inputs == n_dims else nn.Linear(n_inputs, n_dims)
        self.whole, self.around = WholeSection(scales.whole, n_dims, noisy=noisy), SpotsAround(scales.around, n_dims)
        self.fusion, self.norm = scales.fusion.layers(n_dims), nn.LayerNorm(n_dims)
        self.heads = nn.ModuleList(nn.Linear(n_dims, n_genes) for _ in range(4))
        for head in self.heads:  # before training the answer is the train mean
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return differences from the train mean by the fused branches, shape ``(n, n_genes)``."""
        return self.answers(*inputs)[0]

    def answers(  # noqa: PLR0917 - what is read at three scales
        self,
        target: Tensor,
        x: Tensor,
        cell: Tensor,
        beside: Tensor,
        rows: Tensor,
        near: Tensor,
        points: Tensor,
        absent: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the differences by the fused branches, by the patch, by the spots around and by the section.

        Parameters
        ----------
        target
            What is read of the patches of some spots of a section.
        x, cell, beside
            Of all its spots: see ``ThreeScales``.
        rows
            Which spots are asked for.
        near, points, absent
            Rows of the spots around each, their places, and True where there is none.
        """
        x = self.fit(x)
        section = self.whole(x, cell, beside)[rows]
        around, patch = self.around(x[near], points, absent), self.target(target)
        hidden = torch.zeros_like(absent, dtype=x.dtype).masked_fill(absent, -torch.inf)[:, None, None]
        fused = self._fuse(section, patch) + self._fuse(section, around, hidden)
        there = (~absent)[..., None].to(x)
        nearby = (around * there).sum(dim=1) / there.sum(dim=1)
        said = (self.norm(fused), patch.mean(dim=1), nearby, section)
        return tuple(head(tokens) for head, tokens in zip(self.heads, said, strict=True))

    def _fuse(self, asking: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        asking = asking[:, None]
        for layer in self.fusion:
            asking = layer(tokens, asking, bias)
        return asking[:, 0]


class FeatureToken(nn.Module):
    """One token of the frozen features of a patch."""

    def __init__(self, n_inputs: int, n_dims: int) -> None:
        super().__init__()
        self.fit = nn.Linear(n_inputs, n_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of features ``(n, n_inputs)``, shape ``(n, 1, n_dims)``."""
        fitted: Tensor = self.fit(x)
        return fitted[:, None]


class MapTokens(nn.Module):
    """The places of the last feature map of a convolutional network, trained with the rest.

    Parameters
    ----------
    network
        A residual network of torchvision: its layers follow one another up to the pooling.
    jitter
        See ``TrainableEncoder``.

    Raises
    ------
    InputError
        If the network has no pooling.
    """

    def __init__(self, network: Network, *, jitter: float) -> None:
        super().__init__()
        layers = list(network.module.children())
        pooling = [i for i, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d)]
        if not pooling:
            raise InputError("the target encoder has no pooling after its feature map; give one like resnet18")
        trunk = nn.Sequential(*layers[: pooling[0]])
        self.encoder = TrainableEncoder(network._replace(module=trunk), jitter=jitter)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the tokens of patches ``(n, px, px, 3)`` uint8, shape ``(n, n_places, n_channels)``."""
        return self.encoder(patches).flatten(2).transpose(1, 2)


def supervise_branches(network: nn.Module, inputs: Batch, answers: Batch, rows: Tensor) -> Tensor:
    """Return the loss: of the fused answer, and of each branch 0.7 by the truth and 0.3 by the fused answer.

    Parameters
    ----------
    network, inputs, answers, rows
        As for ``squared_error``.
    """
    assert isinstance(network, MultiscaleNetwork)
    fused, *branches = (said[rows] for said in network.answers(*inputs))
    loss = functional.mse_loss(fused, answers[0])
    for said in branches:
        of_truth, of_fused = functional.mse_loss(said, answers[0]), functional.mse_loss(said, fused)
        loss = loss + (1 - TEACHING) * of_truth + TEACHING * of_fused
    return loss
