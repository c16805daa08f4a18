"""The second step of ``stacked``: a network from what is known about one entry to its value and its spread."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.complete._gene_network import GeneNetwork, Near
from hescribe.complete.base import PER_MILLION
from hescribe.complete.centred import Centred
from hescribe.train.loop import Recipe, seeded, train_steps

NEAR = (6, 18, 36, 72)  # spots around a spot
FIRST, OFFSET, SHARE = 0, 1, 3  # places among the features
LEVELS = tuple(11 + 4 * k for k in range(len(NEAR)))
N_HIDDEN, BATCH, N_PASSES = 64, 4096, 15
CHUNK = 2**13  # entries inferred at once: what the layers pass on stays in the cache, four times as fast
LIMIT = 6.0  # sd, as in the first step
NLL_WEIGHT = 0.1  # of the spread beside the squared error
TINY = 1e-3  # counts


class EntryFeatures:
    """What is known about the entries of a section, some spots at a time.

    The features are the first step's residual; how far the spot lies above the section, how deep it is and how much
    of it is visible; the section's mean of the gene, how often it is visible there, its spread and its pooled rate;
    the gene's mean and spread in training; the count that the pooled rate expects; and for four neighbourhoods the
    mean residual, how often the gene is visible, its pooled rate, and how far the spots lie above the section.

    Parameters
    ----------
    centred
        The visible section.
    near
        Its neighbours: see ``View.neighbourhoods``.
    first
        The first step.
    gene_mean, gene_sd
        In training, shape ``(n_genes,)``.
    """

    N = 11 + 4 * len(NEAR)

    def __init__(
        self, centred: Centred, near: Near, first: GeneNetwork, gene_mean: np.ndarray, gene_sd: np.ndarray
    ) -> None:
        self.centred, self.near, self.first = centred, near, first
        counts, seen = centred.view.counts, centred.seen
        self.depth = np.maximum(centred.view.depth, 1).astype(np.float32)
        self.rate = counts.sum(axis=0) / self.depth.sum()
        spread = np.sqrt((centred.residual**2).sum(axis=0) / np.maximum(seen.sum(axis=0), 1))
        self.of_gene = (centred.mean, centred.seen_of_gene, spread, _log_rate(self.rate), gene_mean, gene_sd)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of all genes in some spots, shape ``(n_features, n_rows, n_genes)`` float32."""
        centred, depth = self.centred, self.depth[rows, None]
        own, counts = centred.seen[rows], centred.view.counts
        out = np.empty((self.N, *own.shape), dtype=np.float32)
        out[FIRST] = self.first.infer(centred, self.near, rows)
        out[1:4] = centred.offset[rows, None], _log_rate(1 / depth), own.mean(axis=1, keepdims=True)
        for i, of_gene in enumerate(self.of_gene, start=4):
            out[i] = of_gene
        out[10] = np.log2(TINY + self.rate * depth)
        for at, k in zip(LEVELS, NEAR, strict=True):
            matrix = self.near[k][rows]
            n_near = np.maximum(np.diff(matrix.indptr), 1)[:, None]
            out[at], out[at + 1] = centred.around(matrix, centred.level)
            out[at + 2] = _log_rate((matrix @ counts) / np.maximum(matrix @ self.depth, 1)[:, None])
            out[at + 3] = (matrix @ centred.offset)[:, None] / n_near
        return out


def _log_rate(rate: np.ndarray) -> np.ndarray:
    return np.log2(1 + PER_MILLION * rate)


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
        """Return the network trained on features (n_features, n_entries) and residuals (n_entries,)."""
        mean, sd = x.mean(axis=1), np.maximum(x.std(axis=1), 1e-6)
        scaled = np.clip((x.T - mean) / sd, -LIMIT, LIMIT)
        inputs, answers = torch.from_numpy(np.ascontiguousarray(scaled)), torch.from_numpy(y)
        with seeded(seed):
            network = _network(len(x))

        def loss(rows: Tensor, wanted: Tensor) -> Tensor:
            value, log_variance = network(rows).T
            squared = (value - wanted) ** 2
            spread = squared.detach() * torch.exp(-log_variance) + log_variance
            return squared.mean() + NLL_WEIGHT * spread.mean()

        weights = train_steps(
            network, loss, lambda rows, _: (inputs[rows], answers[rows]),
            Recipe(batch_size=BATCH, lr=3e-3, weight_decay=1e-2, seed=seed, schedule="cosine"),
            n_rows=len(y), n_steps=max(N_PASSES * (len(y) // BATCH), 200),
        )  # fmt: skip
        return cls(mean, sd, {k: v.numpy() for k, v in weights.items()})

    def infer(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return residual and standard deviation of entries with features of shape ``(n_features, n_entries)``."""
        out = np.empty((2, x.shape[1]), dtype=np.float32)
        mean, sd = (torch.from_numpy(v)[:, None] for v in (self.mean, self.sd))
        with torch.inference_mode():
            for start in range(0, x.shape[1], CHUNK):
                part = torch.from_numpy(x[:, start : start + CHUNK]).sub(mean).div_(sd).clamp_(-LIMIT, LIMIT)
                out[:, start : start + CHUNK] = self._network(part.T).numpy().T
        return out[0], np.exp(out[1] / 2)

    @cached_property
    def _network(self) -> nn.Sequential:
        network = _network(len(self.mean))
        network.load_state_dict({k: torch.from_numpy(v) for k, v in self.weights.items()}, strict=True)
        return network.eval()


def _network(n_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_features, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, N_HIDDEN), nn.GELU(), nn.Linear(N_HIDDEN, 2)
    )
