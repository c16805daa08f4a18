"""Deep sets of image features: a spot, the tiles of its patch, and the spots around it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from hescribe.data.section import Section
from hescribe.predict._network import Batch
from hescribe.prep.graph import rings
from hescribe.prep.scale import Scale

Pool = Literal["sum", "max"]
OUTPUT_DROPOUT = 0.1  # of what each rho says, as published


class DeepSet(nn.Module):
    """Sets of vectors through one small network, pooled, and side by side through another.

    Both are ensembles: the median over several ``phi`` is pooled, and the mean over several ``rho`` is said.

    Parameters
    ----------
    n_dims
        Length of a vector.
    pools
        How each of the sets is pooled.
    sd
        Spread of each gene in train, shape ``(n_genes,)``: the unit in which expression is learned. 0 of a constant
        gene, of which nothing but the mean is said.
    n_hidden, n_ensemble
        Width of a ``phi``, and number of ``phi`` and of ``rho``.
    dropout
        Share of hidden units left out in training.

    Examples
    --------
    >>> network = DeepSet(4, ("sum", "max"), torch.ones(3), n_hidden=8, n_ensemble=2, dropout=0.3)
    >>> network(torch.zeros(5, 1, 4), torch.zeros(5, 6, 4)).shape
    torch.Size([5, 3])
    """

    sd: Tensor

    def __init__(
        self, n_dims: int, pools: tuple[Pool, ...], sd: Tensor, *, n_hidden: int, n_ensemble: int, dropout: float
    ) -> None:
        super().__init__()
        n_pooled = len(pools) * n_hidden
        self.phi = nn.ModuleList(nn.Linear(n_dims, n_hidden) for _ in range(n_ensemble))
        self.rho = nn.ModuleList(nn.Linear(n_pooled, len(sd)) for _ in range(n_ensemble))
        self.pools, self.hidden, self.said = pools, nn.Dropout(dropout), nn.Dropout(OUTPUT_DROPOUT)
        self.register_buffer("sd", sd)

    def forward(self, *sets: Tensor) -> Tensor:
        """Return differences from the train mean for sets ``(n, size of the set, n_dims)``, shape ``(n, n_genes)``."""
        pooled = torch.cat([self._pool(x, pool) for x, pool in zip(sets, self.pools, strict=True)], dim=1)
        # Published with a ReLU after the dropout, which changes nothing: sums and maxima of ReLUs are not negative.
        answers = [self.said(rho(self.hidden(pooled))) for rho in self.rho]
        return torch.stack(answers).mean(dim=0) * self.sd

    def _pool(self, x: Tensor, pool: Pool) -> Tensor:
        answers = torch.stack([functional.relu(self.hidden(phi(x))) for phi in self.phi], dim=-1)
        middle = answers.median(dim=-1).values  # of an even number the lower of the two in the middle
        return middle.sum(dim=1) if pool == "sum" else middle.amax(dim=1)


def error_in_sd(network: nn.Module, inputs: Batch, answers: Batch, rows: Tensor) -> Tensor:
    """Return the mean squared error of a ``DeepSet``, each gene in units of its spread: see ``squared_error``."""
    assert isinstance(network, DeepSet)
    unit = torch.where(network.sd > 0, network.sd, 1.0)
    return functional.mse_loss(network(*inputs)[rows] / unit, answers[0] / unit)


@dataclass(frozen=True)
class Sets:
    """The sets of every spot of a section.

    Parameters
    ----------
    spots
        Scaled features, shape ``(n_spots + 1, n_dims)``; the last row is zero.
    tiles
        Features of the tiles of each patch as they were computed, shape ``(n_spots, n_tiles, n_dims)``; None if they
        are not read.
    scales
        What is done to them, in this order.
    around
        Rows of the spots around each, shape ``(n_spots, n_places)``; None if they are not read.
    """

    spots: np.ndarray
    tiles: np.ndarray | None
    scales: tuple[Scale, ...]
    around: np.ndarray | None

    def take(self, rows: Tensor) -> Batch:
        """Return the sets of some spots, each of shape ``(n, size of the set, n_dims)`` float32."""
        at = rows.numpy()
        sets = [self.spots[at][:, None]]
        if self.tiles is not None:
            tiles = self.tiles[at]
            for scale in self.scales:
                tiles = scale.apply(tiles)
            sets.append(np.asarray(tiles, dtype=np.float32))
        if self.around is not None:
            sets.append(self.spots[self.around[at]])
        return tuple(torch.from_numpy(x) for x in sets)


def spots_around(section: Section, n_rings: int) -> list[np.ndarray]:
    """Return the rows of the spots in the rings around each spot, without itself."""
    joint = sum(rings(section, n_rings))
    joint = sparse.csr_matrix(joint - sparse.diags(joint.diagonal()))  # the spot stands for a ring without spots
    joint.eliminate_zeros()
    return np.split(joint.indices, joint.indptr[1:-1])


def places_around(around: list[np.ndarray], n_places: int, *, blank: bool) -> np.ndarray:
    """Return the spots around each spot as an array, which has room for the most of them and for ``n_places``.

    Parameters
    ----------
    around
        See ``spots_around``.
    n_places
        Least width.
    blank
        Fill what is left with the row after the last one; else with a spot that is there already, which changes no
        maximum, or with the spot itself if it is alone.

    Examples
    --------
    >>> places_around([np.array([1, 2]), np.array([0]), np.array([], int)], 1, blank=False).tolist()
    [[1, 2], [0, 0], [2, 2]]
    """
    width = max([n_places, *(len(a) for a in around)])
    filled = np.empty((len(around), width), dtype=np.int64)
    for row, found in enumerate(around):
        rest = len(around) if blank else (found[0] if len(found) else row)
        filled[row] = np.pad(found, (0, width - len(found)), constant_values=rest)
    return filled
