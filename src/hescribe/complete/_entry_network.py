"""The second step of ``stacked``: a network from what is known about one entry to its value and its spread."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from hescribe.complete.base import PER_MILLION, View
from hescribe.complete.centred import Centred
from hescribe.train.loop import Recipe, seeded, train_steps

NEAR = (6, 18, 36, 72)  # spots around a spot
N_HIDDEN, BATCH, N_PASSES = 64, 4096, 15
LIMIT = 6.0  # sd, as in the first step
NLL_WEIGHT = 0.1  # of the spread beside the squared error
TINY = 1e-3  # counts


def find_wide_near(view: View) -> tuple[sparse.csr_matrix, ...]:
    """Return the neighbour matrices of a section."""
    return tuple(view.neighbours(k) for k in NEAR)


class EntryFeatures:
    """What is known about the entries of a section, block of genes by block of genes.

    The features are the first step's residual; the section's mean of the gene and its spread, how often it is visible
    there, and its pooled rate; how far the spot lies above the section and how deep it is; and for four
    neighbourhoods the mean residual, how often the gene is visible, its pooled rate, and how far the spots lie above
    the section; last the gene's mean and spread in training.

    Parameters
    ----------
    centred
        The visible section.
    near
        Its neighbours, from ``find_wide_near``.
    first
        Residual of every entry after the first step, shape ``(n_spots, n_genes)``.
    gene_mean, gene_sd
        In training, shape ``(n_genes,)``.
    """

    N = 11 + 4 * len(NEAR)

    def __init__(
        self,
        centred: Centred,
        near: tuple[sparse.csr_matrix, ...],
        first: np.ndarray,
        gene_mean: np.ndarray,
        gene_sd: np.ndarray,
    ) -> None:
        view = centred.view
        self.centred, self.near, self.first = centred, near, first
        self.by_gene = (gene_mean, gene_sd)
        self.seen = view.observed.astype(np.float32)
        self.depth = np.maximum(view.depth, 1).astype(np.float32)
        self.offset = centred.offset.astype(np.float32)
        self.spot = [self.offset, np.log2(1 + PER_MILLION / self.depth), self.seen.mean(axis=1)]
        rate = view.counts.sum(axis=0) / self.depth.sum()
        spread = np.sqrt((centred.residual**2).sum(axis=0) / np.maximum(self.seen.sum(axis=0), 1))
        self.gene = [centred.mean, self.seen.mean(axis=0), spread, np.log2(1 + PER_MILLION * rate)]
        self.rate = rate
        self.around = [self._sum_around(m) for m in near]

    def _sum_around(self, matrix: sparse.csr_matrix) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray, np.ndarray]:
        n_near = np.maximum(np.diff(matrix.indptr), 1).astype(np.float32)
        return matrix, n_near, np.maximum(matrix @ self.depth, 1), (matrix @ self.offset) / n_near

    def of(self, genes: slice) -> np.ndarray:
        """Return the features of a block of genes, shape ``(n_spots, n_block, n_features)`` float32."""
        view, seen = self.centred.view, self.seen[:, genes]
        out = np.empty((*seen.shape, self.N), dtype=np.float32)
        out[:, :, 0] = self.first[:, genes]
        for i, spot in enumerate(self.spot, start=1):
            out[:, :, i] = spot[:, None]
        for i, gene in enumerate((*self.gene, *self.by_gene), start=4):
            out[:, :, i] = gene[genes]
        out[:, :, 10] = np.log2(TINY + self.rate[genes] * self.depth[:, None])
        level = self.centred.residual[:, genes] - self.offset[:, None] * seen
        for k, (matrix, n_near, depth, offset) in enumerate(self.around):
            count = matrix @ seen
            at = 11 + 4 * k
            out[:, :, at] = (matrix @ level) / np.maximum(count, 1)
            out[:, :, at + 1] = count / n_near[:, None]
            out[:, :, at + 2] = np.log2(1 + PER_MILLION * (matrix @ view.counts[:, genes]) / depth[:, None])
            out[:, :, at + 3] = offset[:, None]
        return out


@dataclass(frozen=True)
class EntryNetwork:
    """A trained network, as arrays.

    Parameters
    ----------
    mean, sd
        Of the features, shape ``(n_features,)``.
    weights
        By the names of the network.
    """

    mean: np.ndarray
    sd: np.ndarray
    weights: dict[str, np.ndarray]

    @classmethod
    def train(cls, x: np.ndarray, y: np.ndarray, seed: int) -> "EntryNetwork":
        """Return the network trained on features (n_entries, n_features) and residuals (n_entries,)."""
        mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        inputs, answers = torch.from_numpy(np.clip((x - mean) / sd, -LIMIT, LIMIT)), torch.from_numpy(y)
        with seeded(seed):
            network = _network(x.shape[1])

        def loss(rows: Tensor, wanted: Tensor) -> Tensor:
            value, log_variance = network(rows).T
            squared = (value - wanted) ** 2
            spread = squared.detach() * torch.exp(-log_variance) + log_variance
            return squared.mean() + NLL_WEIGHT * spread.mean()

        weights = train_steps(
            network, loss, lambda rows, _: (inputs[rows], answers[rows]),
            Recipe(batch_size=BATCH, lr=3e-3, weight_decay=1e-2, seed=seed, schedule="cosine"),
            n_rows=len(x), n_steps=max(N_PASSES * (len(x) // BATCH), 200),
        )  # fmt: skip
        return cls(mean, sd, {k: v.numpy() for k, v in weights.items()})

    def infer(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return residual and standard deviation of entries with features of shape ``(n_entries, n_features)``."""
        network = _network(len(self.mean))
        network.load_state_dict({k: torch.from_numpy(v) for k, v in self.weights.items()}, strict=True)
        with torch.inference_mode():
            scaled = torch.from_numpy(x).sub(torch.from_numpy(self.mean)).div(torch.from_numpy(self.sd))
            value, log_variance = network.eval()(scaled.clamp(-LIMIT, LIMIT)).numpy().T
        return value, np.exp(log_variance / 2)


def _network(n_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_features, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, 2)
    )
