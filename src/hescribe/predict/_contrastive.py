"""What contrastive predictors share: projection heads, a temperature, and the losses over pairs of a batch.

Of CLIP (Radford et al., ICML 2021, arXiv:2103.00020), with the heads and the soft targets of BLEEP (Xie et al.,
NeurIPS 2023, arXiv:2306.01859).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

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


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy; unlike torch's, the rows of the target may add up to anything."""
    return -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()
