"""The networks of encoders that are fitted on a panel, and their training."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.errors import InputError
from hescribe.train.loop import Recipe, train_steps

N_HIDDEN = 128
LEAST = 1e-3  # counts; a gene that no train spot has
WARM_UP = 0.5  # share of the steps in which the weight of the divergence rises to 1


class PanelNetwork(nn.Module, ABC):
    """What is trained on the log counts of spots and embeds them."""

    halves: bool = False  # whether it reads one half of the counts in training

    def start(self, mean: Tensor) -> None:
        """Set out from the mean raw count of each gene in the train spots, shape ``(n_genes,)``."""
        del mean

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding of centred log counts, shape ``(n, n_dims)``."""

    @abstractmethod
    def loss(self, x: Tensor, counts: Tensor, other: Tensor, section: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        x
            Centred log counts of what is read, shape ``(n, n_genes)``.
        counts
            Raw counts of the spots, same shape.
        other
            Centred log counts of the half of the counts that is not read, same shape.
        section
            Number of each spot's section, shape ``(n,)``.
        weight
            Of the divergence from the prior.
        """


class HalvesNetwork(PanelNetwork):
    """A multilayer perceptron that says one half of the counts from the other, and a linear map that reads it.

    Parameters
    ----------
    n_genes, n_dims
        Width of what comes in and of the embedding.
    """

    halves = True

    def __init__(self, n_genes: int, n_dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(n_genes, n_dims)]
        for _ in range(3):
            layers += [nn.BatchNorm1d(n_dims), nn.ReLU(), nn.Dropout(0.1), nn.Linear(n_dims, n_dims)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm1d(n_dims), nn.ReLU())
        self.say = nn.Linear(n_dims, n_genes)

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding, shape ``(n, n_dims)``."""
        found: Tensor = self.layers(x)
        return found

    def loss(self, x: Tensor, counts: Tensor, other: Tensor, section: Tensor, weight: Tensor) -> Tensor:
        """Return the mean squared error of what is said of the other half."""
        del counts, section, weight
        return functional.mse_loss(self.say(self.embed(x)), other)


def _block(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ELU())


class SplitNetwork(PanelNetwork):
    """A variational autoencoder whose decoder reads each latent dimension apart and adds up what they say of a gene.

    The sum is that of a spot with the mean total of the train spots, and is scaled to the spot's own.

    Parameters
    ----------
    n_genes, n_dims, n_sections
        Width of what comes in and of the embedding; sections, which only the decoder is told.
    """

    log_total: Tensor

    def __init__(self, n_genes: int, n_dims: int, n_sections: int) -> None:
        super().__init__()
        self.read = nn.Sequential(_block(n_genes, N_HIDDEN), _block(N_HIDDEN, N_HIDDEN))
        self.to_mean, self.to_log_var = nn.Linear(N_HIDDEN, n_dims), nn.Linear(N_HIDDEN, n_dims)
        self.split = nn.Parameter(torch.randn(n_dims, n_dims) / math.sqrt(n_dims))
        self.section = nn.Embedding(n_sections, n_dims)
        self.say = nn.Sequential(_block(2 * n_dims, N_HIDDEN), _block(N_HIDDEN, N_HIDDEN))
        self.to_genes = nn.Linear(N_HIDDEN, n_genes)
        self.log_dispersion = nn.Parameter(torch.ones(n_genes))
        self.register_buffer("log_total", torch.tensor(0.0))

    def start(self, mean: Tensor) -> None:
        """Let the sum over the dimensions begin at the mean: levels would take thousands of steps to be learned."""
        with torch.no_grad():
            self.to_genes.bias.copy_(torch.log(mean + LEAST) - math.log(len(self.split)))
            self.log_total.copy_(torch.log(mean.sum().clamp(min=1.0)))

    def embed(self, x: Tensor) -> Tensor:
        """Return the mean of the posterior, shape ``(n, n_dims)``."""
        found: Tensor = self.to_mean(self.read(x))
        return found

    def log_rate(self, z: Tensor, section: Tensor, total: Tensor) -> Tensor:
        """Return the logarithm of the expected counts of spots, shape ``(n, n_genes)``: of a sum over the dimensions.

        Parameters
        ----------
        z
            Latent, shape ``(n, n_dims)``.
        section
            Number of each spot's section, shape ``(n,)``.
        total
            Counts of each spot, shape ``(n,)``.
        """
        parts = z[:, :, None] * self.split  # (n, n_dims, n_dims): one row of inputs for each dimension
        told = self.section(section)[:, None, :].expand(-1, parts.shape[1], -1)
        of_mean_spot = torch.logsumexp(self.to_genes(self.say(torch.cat([parts, told], dim=2))), dim=1)
        return of_mean_spot + (torch.log(total.clamp(min=1.0)) - self.log_total)[:, None]

    def loss(self, x: Tensor, counts: Tensor, other: Tensor, section: Tensor, weight: Tensor) -> Tensor:
        """Return the mean over spots of minus the log likelihood and the weighed divergence from the prior."""
        del other
        hidden = self.read(x)
        mean, log_var = self.to_mean(hidden), self.to_log_var(hidden).clamp(-12, 6)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        log_rate = self.log_rate(z, section, counts.sum(dim=1))
        likelihood = log_negative_binomial(counts, log_rate, self.log_dispersion).sum(dim=1)
        divergence = (mean**2 + log_var.exp() - 1 - log_var).sum(dim=1) / 2
        return (weight * divergence - likelihood).mean()


def log_negative_binomial(counts: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """Return the log probability of counts with a mean and a variance of ``mean + mean**2 / dispersion``.

    Everything stays in logarithms, so that a mean of almost 0 does no harm.

    Examples
    --------
    >>> one = log_negative_binomial(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0))  # mean 1, dispersion 1
    >>> round(one.exp().item(), 6)
    0.5
    """
    r = log_dispersion.exp()
    ways = torch.lgamma(counts + r) - torch.lgamma(counts + 1) - torch.lgamma(r)
    odds = log_mean - log_dispersion
    return ways - counts * functional.softplus(-odds) - r * functional.softplus(odds)


def train_panel(
    network: PanelNetwork,
    transform: Callable[[np.ndarray], np.ndarray],
    counts: np.ndarray,
    section: np.ndarray,
    recipe: Recipe,
    *,
    n_steps: int,
) -> dict[str, np.ndarray]:
    """Return the trained weights of a network.

    Parameters
    ----------
    network
        Trained in place.
    transform
        Raw counts to centred log counts, shape ``(n, n_genes)``.
    counts
        Raw counts of the train spots, shape ``(n_spots, n_genes)``.
    section
        Number of each spot's section, shape ``(n_spots,)``.
    recipe, n_steps
        Of the training.

    Raises
    ------
    InputError
        If there is one spot only.
    TrainingError
        If the loss is not finite.
    """
    if len(counts) < 2:
        raise InputError(f"a network needs at least 2 train spots to learn from, got {len(counts)}")
    network.start(torch.from_numpy(counts.mean(axis=0, dtype=np.float64)).float())
    steps = iter(range(n_steps))
    rng = np.random.default_rng(recipe.seed)
    whole = transform(counts)

    def draw(rows: Tensor, _: torch.Generator) -> tuple[Tensor, ...]:
        of_batch = counts[rows.numpy()]
        read, other = whole[rows.numpy()], whole[rows.numpy()]
        if network.halves:
            half = rng.binomial(of_batch.astype(np.int64), 0.5)
            read, other = transform(half), transform(of_batch - half)
        weight = min((next(steps) + 1) / (WARM_UP * n_steps), 1.0)
        arrays = (read, of_batch, other, section[rows.numpy()], np.float32(weight))
        return tuple(torch.as_tensor(a) for a in arrays)

    weights = train_steps(network, network.loss, draw, recipe, n_rows=len(counts), n_steps=n_steps)
    return {name: value.numpy() for name, value in weights.items()}
