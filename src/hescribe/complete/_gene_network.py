"""The first step of ``stacked``: a network from all genes of a spot and of its surroundings to every gene."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from hescribe.complete.base import View
from hescribe.complete.centred import Centred
from hescribe.complete.hiding import DepthSeen, Missing, draw_lesson, learned_shares
from hescribe.data.section import Section
from hescribe.train.loop import Recipe, seeded, train_steps

NEAR = (8, 36)  # spots around a spot whose means are inputs
SHARES = (0.1, 0.8)  # of the measured counts that a lesson hides, least and most
MAX_SPOTS = 20_000  # in one pass: 700 MB of inputs at 1,000 genes
Near = dict[int, sparse.csr_matrix]  # neighbours by their number: see ``View.neighbourhoods``
LIMIT = 6.0  # sd; an input that hardly varied in training must not shout in a new section


@dataclass(frozen=True)
class Pupil:
    """A train section and the spots of it that may be learned from.

    Parameters
    ----------
    section
        With counts.
    spots
        Shape ``(n_spots,)`` bool.
    near
        Its neighbours: see ``View.neighbourhoods``.
    """

    section: Section
    spots: np.ndarray
    near: Near


@dataclass(frozen=True)
class GeneNetwork:
    """A trained network, as arrays.

    Parameters
    ----------
    mean, sd
        Of the inputs, shape ``(n_inputs,)``.
    weights
        By the names of the network.
    """

    mean: np.ndarray
    sd: np.ndarray
    weights: dict[str, np.ndarray]

    def infer(self, centred: Centred, near: Near, rows: np.ndarray) -> np.ndarray:
        """Return the residual of every gene in some spots, shape ``(n_rows, n_genes)``."""
        with torch.inference_mode():
            found = self._network(torch.from_numpy(self._scale(gene_inputs(centred, near, rows)))).numpy()
        return found + centred.offset[rows, None]

    @cached_property
    def _network(self) -> nn.Sequential:
        n_hidden, n_genes = len(self.weights["0.bias"]), len(self.weights["6.bias"])
        network = _network(len(self.mean), n_genes, n_hidden, 0.0)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in self.weights.items()}, strict=True)
        return network.eval()

    def _scale(self, x: np.ndarray) -> np.ndarray:
        """Return inputs in standard deviations; they are overwritten."""
        x = np.divide(np.subtract(x, self.mean, out=x), self.sd, out=x)
        return np.clip(x, -LIMIT, LIMIT, out=x)


@dataclass(frozen=True, kw_only=True)
class GeneNetworkRecipe:
    """How the network is trained: see ``StackedCompleter``."""

    n_hidden: int
    dropout: float
    n_steps: int
    missing: Missing
    depth_seen: DepthSeen
    seed: int


def gene_inputs(centred: Centred, near: Near, rows: np.ndarray) -> np.ndarray:
    """Return what the network reads of some spots, shape ``(n_rows, n_inputs)`` float32."""
    view, own, offset = centred.view, centred.seen[rows], centred.offset[:, None]
    inputs = [centred.residual[rows], own, np.log1p(view.counts[rows]), offset[rows], own.mean(axis=1, keepdims=True)]
    inputs.append(np.log2(np.maximum(view.depth[rows], 1))[:, None])
    for k in NEAR:
        matrix = near[k][rows]
        n_near = np.maximum(np.diff(matrix.indptr), 1)[:, None]
        inputs += [*centred.around(matrix, centred.level), (matrix @ offset) / n_near]
    inputs += [np.broadcast_to(of_gene, own.shape) for of_gene in (centred.mean, centred.seen_of_gene)]
    return np.hstack(inputs, dtype=np.float32)


def train_gene_network(pupils: list[Pupil], mean: np.ndarray, recipe: GeneNetworkRecipe) -> GeneNetwork:
    """Train the network on lessons drawn anew in every pass.

    Parameters
    ----------
    pupils
        Train sections.
    mean
        Train mean of each gene, for those that a section does not show.
    recipe
        Size and training.
    """
    lessons = _Lessons(pupils, mean, recipe)
    n_genes = len(mean)
    with seeded(recipe.seed):
        network = _network(len(lessons.mean), n_genes, recipe.n_hidden, recipe.dropout)

    def loss(x: Tensor, answer: Tensor, where: Tensor) -> Tensor:
        return (((network(x) - answer) * where) ** 2).sum() / where.sum().clamp(min=1)

    steps = Recipe(batch_size=256, lr=2e-3, weight_decay=1e-2, seed=recipe.seed, schedule="cosine")
    weights = train_steps(
        network, loss, lambda rows, _: lessons.take(rows), steps, n_rows=lessons.n_rows,
        n_steps=recipe.n_steps,
    )  # fmt: skip
    return GeneNetwork(lessons.mean, lessons.sd, {k: v.numpy() for k, v in weights.items()})


class _Lessons:
    """Rows of lessons, drawn anew after each pass over them."""

    def __init__(self, pupils: list[Pupil], mean: np.ndarray, recipe: GeneNetworkRecipe) -> None:
        self.pupils, self.gene_mean, self.recipe = pupils, mean, recipe
        self.rng = np.random.default_rng(recipe.seed)
        self.n_rows = min(int(sum(p.spots.sum() for p in pupils)), MAX_SPOTS)
        x, *_ = self._draw()
        self.mean, self.sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-3)
        self.n_left = 0

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, answers and where they are asked for of some rows of the pass."""
        if not self.n_left:
            x, answer, where = self._draw()
            x = np.clip((x - self.mean) / self.sd, -LIMIT, LIMIT)
            self.inputs, self.answers = torch.from_numpy(x), torch.from_numpy(answer)
            self.where = torch.from_numpy(where.astype(np.float32))
            self.n_left = max(self.n_rows // len(rows), 1)
        self.n_left -= 1
        return self.inputs[rows], self.answers[rows], self.where[rows]

    def _draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found: list[tuple[np.ndarray, ...]] = []
        n_left = self.n_rows
        for i in self.rng.permutation(len(self.pupils)):
            found.append(self._draw_one(self.pupils[i], n_left))
            n_left -= len(found[-1][0])
            if not n_left:
                break
        x, answer, where = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return x, answer, where

    def _draw_one(self, pupil: Pupil, most: int) -> tuple[np.ndarray, ...]:
        """Return the rows of one lesson; of a section with more spots than wanted, other ones in every pass."""
        recipe = self.recipe
        share = self.rng.uniform(*learned_shares(recipe.missing, SHARES))
        lesson = draw_lesson(pupil.section, share, self.rng, missing=recipe.missing, depth_seen=recipe.depth_seen)
        centred = Centred.of(View.of(lesson.section), self.gene_mean)
        answer = lesson.answer - centred.mean - centred.offset[:, None]
        rows = np.flatnonzero(pupil.spots)
        if len(rows) > most:
            rows = self.rng.choice(rows, most, replace=False)
        return gene_inputs(centred, pupil.near, rows), answer[rows].astype(np.float32), lesson.where[rows]


def _network(n_inputs: int, n_genes: int, n_hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_inputs, n_hidden), nn.GELU(), nn.Dropout(dropout),
        nn.Linear(n_hidden, n_hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(n_hidden, n_genes),
    )  # fmt: skip
