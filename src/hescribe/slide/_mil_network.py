"""The network of a bag, its poolings, and its training with one bag in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.slide._outcome import Outcome
from hescribe.train.loop import Recipe, train_steps

KEPT_TILES = 1024  # a bag up to this size stays in memory until its gradient is taken; a larger one is read again


class MILNetwork(nn.Module):
    """Embed each tile, pool, read the outcome off.

    Parameters
    ----------
    n_dims, n_hidden, n_outputs
        Of a tile, of its embedding, of the outcome.
    pooling
        Of embedded tiles ``(n_tiles, n_hidden)`` to the slide ``(n_hidden,)`` and each tile's weight ``(n_tiles,)``.
    dropout
        Share of the units left out in training.
    """

    def __init__(self, n_dims: int, n_hidden: int, n_outputs: int, *, pooling: nn.Module, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(n_dims, n_hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.pooling = pooling
        self.head = nn.Linear(n_hidden, n_outputs)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs ``(n_outputs,)`` and weights of the tiles ``(n_tiles,)``."""
        pooled, weights = self.pooling(self.embed(tiles))
        return self.head(pooled), weights


class MeanPooling(nn.Module):
    """Each tile weighs the same."""

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean, and equal weights."""
        return tiles.mean(dim=0), tiles.new_full((len(tiles),), 1 / len(tiles))


class MaxPooling(nn.Module):
    """Of each unit the largest value."""

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima, and the share of units in which a tile is the largest."""
        pooled = tiles.amax(dim=0)
        is_largest = (tiles == pooled).float()  # several are where a unit is silent in all
        return pooled, (is_largest / is_largest.sum(dim=0)).mean(dim=1)


class GatedAttention(nn.Module):
    """Tiles weighed by two small layers that are multiplied, one of which gates the other.

    Parameters
    ----------
    n_hidden, n_attention
        Width of a tile and of either layer.
    """

    def __init__(self, n_hidden: int, n_attention: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(n_hidden, n_attention), nn.Linear(n_hidden, n_attention)
        self.score = nn.Linear(n_attention, 1)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean, and the weights."""
        scores = self.score(torch.tanh(self.content(tiles)) * torch.sigmoid(self.gate(tiles)))
        weights = torch.softmax(scores[:, 0], dim=0)
        return weights @ tiles, weights


def train_on_bags(
    network: nn.Module,
    readers: Sequence[Callable[[], np.ndarray]],
    outcome: Outcome,
    encoded: tuple[Tensor, Tensor],
    recipe: Recipe,
    *,
    n_steps: int,
    n_tiles: int | None,
) -> nn.Module:
    """Train a network, and return it on the CPU in evaluation mode.

    Of a batch of bags the outputs are computed one bag after the other; a large bag is read and computed once more
    when its gradient is due, so that memory holds one large bag whatever the loss compares.

    Parameters
    ----------
    network
        Of one bag.
    readers
        What reads the tiles of each bag, ``(n_tiles, n_dims)`` float32.
    outcome, encoded
        The loss, and what it compares with.
    recipe
        Batch size, step size, seed.
    n_steps
        Batches to learn from.
    n_tiles
        Tiles drawn of a bag at a step, at most; None: all.
    """

    def draw(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        seeds = torch.randint(2**31, rows.shape, generator=generator)
        return rows, seeds, *(part[rows] for part in encoded)

    def loss(rows: Tensor, seeds: Tensor, first: Tensor, second: Tensor) -> Tensor:
        outputs = [
            _output(network, readers[row], n_tiles, seed)
            for row, seed in zip(rows.tolist(), seeds.tolist(), strict=True)
        ]
        return outcome.loss(torch.stack(outputs), first, second)

    train_steps(network, loss, draw, recipe, n_rows=len(readers), n_steps=n_steps)
    return network.cpu().eval()


def _output(network: nn.Module, read: Callable[[], np.ndarray], n_tiles: int | None, seed: int) -> Tensor:
    """Return the outputs of a bag, of which ``n_tiles`` at most are taken."""

    def compute(tiles: np.ndarray) -> Tensor:
        x = torch.from_numpy(tiles)
        if n_tiles is not None and len(x) > n_tiles:
            x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:n_tiles]]
        outputs: Tensor = network(x.to(next(network.parameters()).device))[0]
        return outputs

    def compute_alike() -> Tensor:
        with torch.random.fork_rng():  # the same units are left out when the bag is computed once more
            torch.manual_seed(seed)
            return compute(read())

    tiles = read()
    if len(tiles) <= KEPT_TILES:
        return compute(tiles)
    del tiles
    with torch.no_grad():
        value = compute_alike()
    return _Again.apply(value.requires_grad_(), compute_alike)


class _Again(torch.autograd.Function):
    """A value that is known and whose way is not kept: it is gone once more when the gradient is due."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Return the value."""
        ctx.compute = compute
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        """Compute again, and send the gradient on to the weights."""
        with torch.enable_grad():
            ctx.compute().backward(gradient)
        return None, None


@torch.inference_mode()
def apply(network: nn.Module, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs ``(n_outputs,)`` and attention ``(n_tiles,)`` of a bag."""
    outputs, weights = network(torch.from_numpy(tiles))
    return outputs.numpy(), weights.numpy().astype(np.float64)
