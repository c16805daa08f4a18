"""Two towers on pairs: projection heads, a temperature, the losses over the pairs of a batch, and their training.

Of CLIP (Radford et al., ICML 2021, arXiv:2103.00020), with the heads and the soft targets of BLEEP (Xie et al.,
NeurIPS 2023, arXiv:2306.01859) and the loss of SigLIP (Zhai et al., ICCV 2023, arXiv:2303.15343).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.train.dist import gather
from hescribe.train.loop import Recipe, train_network

# Gives what stands for the expression of some kept spots of a cohort, by their rows: what the second tower reads.
Take = Callable[[Tensor], tuple[Tensor, ...]]
# Of the embeddings of a batch and one over the temperature; and of the group of each spot, where groups are given.
Loss = Callable[..., Tensor]

CHUNK = 2048  # spots embedded at once
START = 0.07  # temperature at the start, as CLIP's
LOWEST = 0.01  # CLIP's limit: below it single pairs decide the gradient


class ProjectionHead(nn.Module):
    """Linear map, and a residual block on it that ends in a layer norm.

    Parameters
    ----------
    n_in, n_dims
        Width of what comes in and of the embedding.
    dropout
        Share of units of the block left out in training.

    Examples
    --------
    >>> sum(p.numel() for p in ProjectionHead(1024, 256).parameters())
    328704
    """

    def __init__(self, n_in: int, n_dims: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.project, self.block = nn.Linear(n_in, n_dims), nn.Linear(n_dims, n_dims)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(n_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding, shape ``(n, n_dims)``."""
        projected = self.project(x)
        return self.norm(self.dropout(self.block(functional.gelu(projected))) + projected)


class Towers(nn.Module):
    """Two embeddings of one space: of what a spot looks like, and of what it expresses.

    Parameters
    ----------
    image, expression
        Networks whose last axis is the embedding. The second gets what stands for the expression of a spot: its
        values, or those of its surroundings too.
    unit
        Scale embeddings to length 1 and learn the temperature. The published networks do neither: their temperature
        is 1.
    """

    def __init__(self, image: nn.Module, expression: nn.Module, *, unit: bool) -> None:
        super().__init__()
        self.image, self.expression, self.unit = image, expression, unit
        if unit:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(START)))

    def embed_image(self, x: Tensor) -> Tensor:
        """Return the embedding of image features, shape ``(n, n_dims)``."""
        return self._scaled(self.image(x))

    def embed_expression(self, *of_spots: Tensor) -> Tensor:
        """Return the embedding of spots by their expression, shape ``(n, n_dims)``."""
        return self._scaled(self.expression(*of_spots))

    def scale(self) -> Tensor | float:
        """Return one over the temperature."""
        return self.log_scale.clamp(max=-math.log(LOWEST)).exp() if self.unit else 1.0

    def temperature(self) -> float:
        """Return the temperature that the training has arrived at."""
        return max(math.exp(-self.log_scale.item()), LOWEST) if self.unit else 1.0

    def _scaled(self, embedding: Tensor) -> Tensor:
        return functional.normalize(embedding, dim=-1) if self.unit else embedding


def pair_loss(image: Tensor, expression: Tensor, scale: Tensor | float) -> Tensor:
    """Return the loss of CLIP: each spot must find its own other half among those of the batch, both ways.

    Parameters
    ----------
    image, expression
        Embeddings, row by row of the same spots, shape ``(n, n_dims)``.
    scale
        One over the temperature.

    Examples
    --------
    >>> round(pair_loss(torch.zeros(4, 2), torch.zeros(4, 2), 1.0).item(), 4)  # no better than chance: ln 4
    1.3863
    """
    logits = scale * expression @ image.T
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def soft_pair_loss(image: Tensor, expression: Tensor, scale: Tensor | float, *, legacy: bool = False) -> Tensor:
    """Return the loss of BLEEP: spots that are alike share the target, so that they need not be told apart.

    The target of a spot is the softmax of the mean of its similarities to the others, in images and in expression.

    Parameters
    ----------
    image, expression, scale
        As for ``pair_loss``.
    legacy
        As published: gradients flow through the targets too, and the targets of the second direction are those of
        the first, transposed, whose rows do not add up to 1.

    Examples
    --------
    >>> alike = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> round(soft_pair_loss(alike, alike, 1.0).item(), 4)  # two spots that nothing tells apart: ln 2
    0.6931
    """
    logits = scale * expression @ image.T
    similarity = scale * (image @ image.T + expression @ expression.T) / 2
    target = torch.softmax(similarity if legacy else similarity.detach(), dim=-1)
    back = target.T if legacy else target  # similarity is symmetric: the same target serves both directions
    return (_cross_entropy(logits, target) + _cross_entropy(logits.T, back)) / 2


def sigmoid_pair_loss(
    image: Tensor, expression: Tensor, scale: Tensor | float, bias: Tensor | float, *, group: Tensor | None = None
) -> Tensor:
    """Return the loss of SigLIP: each two halves are told to belong together or not, whatever else is in the batch.

    Parameters
    ----------
    image, expression, scale
        As for ``pair_loss``.
    bias
        Added to all similarities; negative at the start, since most halves do not belong together.
    group
        Of each spot, shape ``(n,)``: halves of different groups are not compared; None compares all.

    Examples
    --------
    >>> round(sigmoid_pair_loss(torch.zeros(3, 2), torch.zeros(3, 2), 1.0, 0.0).item(), 4)  # 3 ln 2 a spot
    2.0794
    """
    logits = scale * expression @ image.T + bias
    belongs = 2 * torch.eye(len(logits), device=logits.device) - 1
    each = -functional.logsigmoid(belongs * logits)
    if group is not None:
        each = each * (group[:, None] == group)
    return each.sum(dim=1).mean()


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy; unlike torch's, the rows of the target may add up to anything."""
    return -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def train_towers(
    network: Towers,
    x: np.ndarray,
    take: Take,
    loss: Loss,
    recipe: Recipe,
    *,
    snapshots: tuple[int, ...],
    group: Tensor | None = None,
    balance: np.ndarray | None = None,
) -> list[dict[str, Tensor]]:
    """Return the weights after chosen epochs of training on pairs; processes that share it compare all of a batch.

    Parameters
    ----------
    network
        Trained in place.
    x
        What the image tower reads, shape ``(n_spots, n_dims)``.
    take
        The other half of the pairs.
    loss, recipe
        See ``pair_loss`` and ``train.loop``.
    snapshots
        Ascending numbers of epochs.
    group
        Of each spot, shape ``(n_spots,)``, for a loss that reads it.
    balance
        See ``train.loop.train_network``.
    """

    def of_batch(image: Tensor, rows: Tensor) -> Tensor:
        spots = (part.to(image.device) for part in take(rows.cpu()))
        more = {} if group is None else {"group": gather(group[rows.cpu()].to(image.device))}
        halves = network.embed_image(image), network.embed_expression(*spots)
        return loss(*map(gather, halves), network.scale(), **more)

    pairs = torch.from_numpy(x), torch.arange(len(x))
    return train_network(network, of_batch, pairs, recipe, snapshots=snapshots, shared=True, balance=balance)


def embed_spots(network: Towers, take: Take, n_spots: int, *, chunk: int = CHUNK) -> np.ndarray:
    """Return the embeddings of all train spots by their expression, shape ``(n_spots, n_dims)`` float32."""
    return in_chunks(network.embed_expression, take, n_spots, chunk=chunk)


@torch.inference_mode()
def in_chunks(embed: Callable[..., Tensor], take: Take, n_spots: int, *, chunk: int = CHUNK) -> np.ndarray:
    """Return what a network makes of spots, some at a time, shape ``(n_spots, n_dims)`` float32."""
    return torch.cat([embed(*take(rows)) for rows in torch.arange(n_spots).split(chunk)]).numpy()
