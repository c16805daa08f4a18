"""The spot encoders of mclSTExp: what a spot expresses, read together with other spots and their places.

Min et al., "Multimodal contrastive learning for spatial gene expression prediction using histology images",
Briefings in Bioinformatics 2024, bbae551.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.prep.counts import TARGET_SUM
from hescribe.prep.graph import array_points, nearest_spots, relative_points
from hescribe.prep.scale import Scale
from hescribe.train.attention import NeighbourhoodAttention, SequenceLayer
from hescribe.train.contrastive import ProjectionHead

N_HEADS, HEAD_DIMS, N_BLOCKS = 8, 64, 2  # of the published encoder
N_HIDDEN = 16  # units between a place and its token


class SpotEncoder(nn.Module):
    """Attention over a spot and its nearest neighbours of the same section.

    Parameters
    ----------
    n_genes, n_dims
        Genes of a spot, and width of its embedding.
    n_token, n_heads, n_layers
        Width of a token, heads of attention, layers.
    place
        Whether a spot also knows its place in the section.
    dropout
        Share of genes, and of units of the last block, left out in training.
    """

    def __init__(
        self,
        n_genes: int,
        n_dims: int,
        *,
        n_token: int,
        n_heads: int,
        n_layers: int,
        place: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.genes = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_genes, n_token))
        self.place = nn.Sequential(nn.Linear(2, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, n_token)) if place else None
        self.attention = NeighbourhoodAttention(n_token, n_heads=n_heads, n_layers=n_layers)
        self.head = ProjectionHead(n_token, n_dims, dropout=dropout)

    def forward(self, values: Tensor, points: Tensor, place: Tensor, absent: Tensor) -> Tensor:
        """Return the embeddings of the centres, shape ``(n, n_dims)``.

        Parameters
        ----------
        values
            Of the centre and its neighbours, shape ``(n, n_tokens, n_genes)``.
        points
            Their places in pitches, shape ``(n, n_tokens, 2)``.
        place
            Of the centre in its section, -1 to 1 along its longer side, shape ``(n, 2)``.
        absent
            True where there is no such neighbour, shape ``(n, n_tokens)``; never at the centre.
        """
        tokens = self.genes(values)
        if self.place is not None:
            tokens = tokens + self.place(place)[:, None]
        return self.head(self.attention(tokens, points, absent))


class BatchSpotEncoder(nn.Module):
    """The published encoder: the spots of a batch are one sequence, whatever sections they come from.

    A token is as wide as the panel. To the values of a spot are added a row of a table for its x and one for its y,
    which all sections share. So an embedding depends on which spots lie beside it in the batch.

    Parameters
    ----------
    n_genes, n_dims
        Genes of a spot, and width of its embedding.
    n_x, n_y
        Rows of the tables. The published ones have 65,536, of which a spot array reaches some dozens.

    Examples
    --------
    >>> network = BatchSpotEncoder(785, 256, n_x=1, n_y=1)
    >>> sum(p.numel() for p in network.blocks.parameters())
    5691250
    """

    def __init__(self, n_genes: int, n_dims: int, *, n_x: int, n_y: int) -> None:
        super().__init__()
        self.x, self.y = nn.Embedding(n_x, n_genes), nn.Embedding(n_y, n_genes)  # drawn from N(0, 1)
        self.blocks = nn.ModuleList(
            SequenceLayer(n_genes, n_heads=N_HEADS, n_inner=N_HEADS * HEAD_DIMS, n_feed=n_genes)
            for _ in range(N_BLOCKS)
        )
        self.head = ProjectionHead(n_genes, n_dims)

    def forward(self, values: Tensor, place: Tensor) -> Tensor:
        """Return embeddings, shape ``(n, n_dims)``.

        Parameters
        ----------
        values
            Shape ``(n, n_genes)``.
        place
            Rows of the tables, int64, shape ``(n, 2)``.
        """
        tokens = (values + self.x(place[:, 0]) + self.y(place[:, 1]))[None]
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[0])


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The kept spots of a cohort, and for each its neighbours of the same section.

    Parameters
    ----------
    values
        Standardised expression, shape ``(n_spots, n_genes)``.
    near
        Row of the spot itself and of its neighbours, nearest first, shape ``(n_spots, 1 + n_neighbours)``; -1 where
        it has fewer.
    points
        Place in pitches, shape ``(n_spots, 2)``; comparable within a section only.
    place
        From the middle of the section, in halves of its longer side, shape ``(n_spots, 2)``.
    """

    values: Tensor
    near: Tensor
    points: Tensor
    place: Tensor

    @classmethod
    def of(cls, train: Cohort, n_neighbours: int) -> "Surroundings":
        """Return the surroundings of the kept spots; the others are not read."""
        y = train.stack(keys.TARGET)
        near, points, place, start = [], [], [], 0
        for section in train:
            kept = section.with_table(section.table[section.kept])
            index, _ = nearest_spots(kept, n_neighbours)
            index = np.hstack([np.arange(len(index))[:, None], index])
            near.append(np.where(index < 0, -1, index + start))
            points.append(array_points(kept))
            place.append(relative_points(points[-1]))
            start += len(index)
        return cls(
            values=torch.from_numpy(Scale.of(y).apply(y).astype(np.float32)),
            near=torch.from_numpy(np.concatenate(near)),
            points=torch.from_numpy(np.concatenate(points).astype(np.float32)),
            place=torch.from_numpy(np.concatenate(place).astype(np.float32)),
        )

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what ``SpotEncoder`` reads of some spots."""
        near = self.near[rows]
        absent = near < 0
        near = torch.where(absent, rows[:, None], near)
        return self.values[near], self.points[near], self.place[rows], absent


def published_spots(train: Cohort) -> tuple[Tensor, Tensor]:
    """Return what the published encoder reads of the kept spots of a cohort.

    Returns
    -------
    log10(1 + 1e4 * count / the spot's counts over the panel), shape ``(n_spots, n_genes)``; and the rows of the tables,
    shape ``(n_spots, 2)``: x and y of the array, without an array the pixel, numbered from 0 in the order of those
    that occur. The other rows of the published tables are never read: a place is only read of train spots.
    """
    counts = train.stack(keys.COUNTS).astype(np.float64)
    values = np.log10(1 + TARGET_SUM * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    place = np.concatenate([_published_place(s)[s.kept] for s in train])
    number = [np.unique(axis, return_inverse=True)[1] for axis in place.T]
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(np.stack(number, axis=1).astype(np.int64))


def _published_place(section: Section) -> np.ndarray:
    obs = section.table.obs
    if keys.ARRAY_ROW in obs:
        return obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy(dtype=np.int64)
    return np.asarray(section.table.obsm[keys.SPATIAL]).astype(np.int64)
