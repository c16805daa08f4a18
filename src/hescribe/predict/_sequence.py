"""A whole section as one sequence of spots: tables of places, and the network of HisToGene."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hescribe import keys
from hescribe.data.section import Section
from hescribe.encode.trainable import augment
from hescribe.errors import InputError
from hescribe.predict._patches import PatchesOfSection
from hescribe.prep.graph import array_points, relative_points
from hescribe.train.attention import SequenceLayer

N_ROWS = 64  # of a table of places, one for x and one for y
WHITE = 255.0


class PlaceTables(nn.Module):
    """One row for each x and one for each y; between two rows lies their mixture.

    Parameters
    ----------
    n_dims
        Width of a row.

    Examples
    --------
    >>> tables = PlaceTables(4)
    >>> half = tables(torch.tensor([[2.5, 0.0]])) - tables.y.weight[0]
    >>> bool(torch.allclose(half, tables.x.weight[2:4].mean(dim=0)))
    True
    """

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        self.x, self.y = nn.Embedding(N_ROWS, n_dims), nn.Embedding(N_ROWS, n_dims)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the sum of both tables at rows ``(n, 2)`` from 0 to 63, shape ``(n, n_dims)``."""
        below = rows.floor().clamp(0, N_ROWS - 2).long()
        share = (rows - below)[..., None]  # (n, 2, 1)
        low = torch.stack([self.x(below[:, 0]), self.y(below[:, 1])], dim=1)
        high = torch.stack([self.x(below[:, 0] + 1), self.y(below[:, 1] + 1)], dim=1)
        return torch.lerp(low, high, share).sum(dim=1)


def relative_rows(section: Section) -> np.ndarray:
    """Return rows of the tables by the place in the section, whose longer side spans a table: ``(n_spots, 2)``.

    Raises
    ------
    InputError
        If a spot has no finite place.
    """
    points = array_points(section)
    lost = ~np.isfinite(points).all(axis=1)
    if lost.any():
        where = section.table.obs_names[lost][0]
        raise InputError(f"spot {where} of section {section.id} has no finite place; give it one or leave it out")
    return ((relative_points(points) + 1) / 2 * (N_ROWS - 1)).astype(np.float32)


def array_rows(section: Section) -> np.ndarray:
    """Return rows of the tables by the place on the capture array, as published: ``(n_spots, 2)``.

    Raises
    ------
    InputError
        If the section has no array, or a spot lies beyond the tables.
    """
    obs, names = section.table.obs, [keys.ARRAY_COL, keys.ARRAY_ROW]
    if not set(names) <= set(obs):
        raise InputError(f"section {section.id} has no places on an array, which legacy_table reads; leave it off")
    rows = obs[names].to_numpy(dtype=np.float64)
    beyond = ~((rows >= 0) & (rows <= N_ROWS - 1) & (rows == np.rint(rows))).all(axis=1)
    if beyond.any():
        (col, row), where = rows[beyond][0], section.table.obs_names[beyond][0]
        raise InputError(
            f"spot {where} of section {section.id} is at column {col:g} and row {row:g} of its array, and legacy_table "
            f"has whole places from 0 to {N_ROWS - 1}; leave it off"
        )
    return rows.astype(np.float32)


@dataclass(frozen=True)
class PlacedPatches:
    """Patches and rows of the tables of all spots of a section."""

    patches: PatchesOfSection
    rows: np.ndarray

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches of some spots, shape ``(n, px, px, 3)`` uint8, and their rows of the tables."""
        return *self.patches.take(rows), torch.from_numpy(self.rows[rows.numpy()])


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Widths and depth of a sequence network.

    Parameters
    ----------
    n_dims, n_layers, n_heads, n_feed
        Width of a token, layers, heads of attention, width of the feed-forward blocks.
    """

    n_dims: int
    n_layers: int
    n_heads: int
    n_feed: int


class PixelTransformer(nn.Module):
    """A spot is a token: a linear layer on the pixels of its patch, and its place; attention among all of a section.

    Parameters
    ----------
    px, n_genes
        Side of a patch, and width of the answer.
    shape
        Of the network.
    dropout
        Share of units left out in training.
    jitter
        Of the colours in training: see ``augment``.
    """

    def __init__(self, px: int, n_genes: int, shape: Shape, *, dropout: float, jitter: float) -> None:
        super().__init__()
        self.jitter = jitter
        self.pixels = nn.Linear(3 * px * px, shape.n_dims)
        self.places = PlaceTables(shape.n_dims)
        self.layers = nn.ModuleList(
            SequenceLayer(
                shape.n_dims, n_heads=shape.n_heads, n_inner=shape.n_dims, n_feed=shape.n_feed, dropout=dropout
            )
            for _ in range(shape.n_layers)
        )
        self.norm, self.last = nn.LayerNorm(shape.n_dims), nn.Linear(shape.n_dims, n_genes)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, patches: Tensor, rows: Tensor) -> Tensor:
        """Return differences from the train mean of the spots of one section, shape ``(n, n_genes)``."""
        pixels = augment(patches, self.jitter) if self.training else patches.float()
        tokens = (self.pixels(pixels.flatten(1) / WHITE - 0.5) + self.places(rows))[None]
        for layer in self.layers:
            tokens = layer(tokens)
        answer: Tensor = self.last(self.norm(tokens[0]))
        return answer
