"""The spot encoder of mclSTExp, corrected: what a spot expresses, read together with its neighbours and its place.

Min et al., "Multimodal contrastive learning for spatial gene expression prediction using histology images",
Briefings in Bioinformatics 2024, bbae551.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.data.section import Section
from hescribe.prep.graph import array_points, nearest_spots, relative_points
from hescribe.train.attention import NeighbourhoodAttention
from hescribe.train.contrastive import ProjectionHead

N_HIDDEN = 16  # units between a place and its token


class SpotEncoder(nn.Module):
    """Attention over a spot and its nearest neighbours of the same section.

    Parameters
    ----------
    n_values, n_dims
        Numbers that stand for the expression of a spot, its genes for one; and width of its embedding.
    n_token, n_heads, n_layers
        Width of a token, heads of attention, layers.
    place
        Whether a spot also knows its place in the section.
    dropout
        Share of values, and of units of the last block, left out in training.
    """

    def __init__(
        self,
        n_values: int,
        n_dims: int,
        *,
        n_token: int,
        n_heads: int,
        n_layers: int,
        place: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.values = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_values, n_token))
        self.place = nn.Sequential(nn.Linear(2, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, n_token)) if place else None
        self.attention = NeighbourhoodAttention(n_token, n_heads=n_heads, n_layers=n_layers)
        self.head = ProjectionHead(n_token, n_dims, dropout=dropout)

    def forward(self, values: Tensor, points: Tensor, place: Tensor, absent: Tensor) -> Tensor:
        """Return the embeddings of the centres, shape ``(n, n_dims)``.

        Parameters
        ----------
        values
            Of the centre and its neighbours, shape ``(n, n_tokens, n_values)``.
        points
            Their places in pitches, shape ``(n, n_tokens, 2)``.
        place
            Of the centre in its section, -1 to 1 along its longer side, shape ``(n, 2)``.
        absent
            True where there is no such neighbour, shape ``(n, n_tokens)``; never at the centre.
        """
        tokens = self.values(values)
        if self.place is not None:
            tokens = tokens + self.place(place)[:, None]
        return self.head(self.attention(tokens, points, absent))


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The kept spots of a cohort, and for each its neighbours of the same section.

    Parameters
    ----------
    values
        What stands for the expression of each, shape ``(n_spots, n_values)``.
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
    def of(cls, sections: Iterable[Section], values: np.ndarray, n_neighbours: int) -> "Surroundings":
        """Return the surroundings of the kept spots, to which ``values`` belong; the others are not read."""
        near, points, place, start = [], [], [], 0
        for section in sections:
            kept = section.with_table(section.table[section.kept])
            index, _ = nearest_spots(kept, n_neighbours)
            index = np.hstack([np.arange(len(index))[:, None], index])
            near.append(np.where(index < 0, -1, index + start))
            points.append(array_points(kept))
            place.append(relative_points(points[-1]))
            start += len(index)
        return cls(
            values=torch.from_numpy(np.asarray(values, dtype=np.float32)),
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
