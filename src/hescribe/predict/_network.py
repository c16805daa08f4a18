"""A network that predicts the expression of spots: how deep predictors are trained, kept and asked.

A predictor's file brings what its network reads of a section, the network, and its loss where that is not the squared
error. Networks learn differences from the train mean of each gene, as ST-Net does by the bias of its last layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import FormatError, InputError
from hescribe.train.loop import Recipe, seeded, train_network

Batch = tuple[Tensor, ...]
State = dict[str, Any]  # what was learned of the train cohort before training: arrays by name
Loss = Callable[[nn.Module, Batch, Batch, Tensor], Tensor]

CHUNK = 512  # spots that are predicted at once


class Shown(Protocol):
    """What a network reads of one section."""

    def take(self, rows: Tensor) -> Batch:
        """Return what is read of some spots, by their row in the section."""
        ...


@dataclass(frozen=True)
class Arrays:
    """What is read of a section is a few arrays with one row a spot."""

    arrays: tuple[np.ndarray, ...]

    def take(self, rows: Tensor) -> Batch:
        """Return the rows of some spots."""
        return tuple(torch.from_numpy(a[rows.numpy()]) for a in self.arrays)


def squared_error(network: nn.Module, inputs: Batch, answers: Batch, rows: Tensor) -> Tensor:
    """Return the mean squared error of what a network says of some spots.

    Parameters
    ----------
    network
        ``network(*inputs) -> (n, n_genes)``.
    inputs
        What it reads of the batch.
    answers
        First the differences from the train mean, shape ``(len(rows), n_genes)``.
    rows
        Spots of the batch that have an answer.
    """
    return functional.mse_loss(network(*inputs)[rows], answers[0])


def no_more(section: Section) -> tuple[np.ndarray, ...]:
    """Return no answer beyond the differences from the train mean."""
    del section
    return ()


@dataclass(frozen=True, kw_only=True)
class Design:
    """A network and the way it is trained, free of the epochs.

    Parameters
    ----------
    start
        Learns what is needed before training of the kept spots of a cohort: scaling, exemplars.
    read
        Gives what the network reads of a section, spots that are no targets included.
    network
        Makes the network for a state and a number of genes; its weights are drawn by the seed of the recipe.
    recipe
        Of the training.
    loss
        Of a batch; see ``squared_error``.
    answers
        What the loss wants of a section beside the differences from the train mean, one row a spot, kept or not.
    differences
        The network learns differences from the train mean of each gene; False: the values themselves.
    whole
        The network reads whole sections: a step is one section, and no chunk of it is predicted alone.
    by_section
        The spots of a step are of one section, dealt once, since what is read of them beside is read of all of it.
    chunk
        Spots predicted at once.
    """

    start: Callable[[Cohort], State]
    read: Callable[[Section, State], Shown]
    network: Callable[[State, int], nn.Module]
    recipe: Recipe
    loss: Loss = squared_error
    answers: Callable[[Section], tuple[np.ndarray, ...]] = no_more
    differences: bool = True
    whole: bool = False
    by_section: bool = False
    chunk: int = CHUNK

    def fit(self, train: Cohort, epochs: tuple[int, ...]) -> "list[FittedNetwork]":
        """Return what is learned after each of some ascending numbers of epochs.

        Raises
        ------
        InputError
            If no train spot is kept.
        TrainingError
            If the loss is not finite; its ``weights`` are those after the last whole epoch.
        """
        if not any(s.kept.any() for s in train):
            raise InputError("no spot of the train cohort is kept; there is nothing to learn from")
        state, mean = self.start(train), train.stack(keys.TARGET).mean(axis=0).astype(np.float32)
        mean = mean if self.differences else np.zeros_like(mean)
        lesson = _Lesson(self, [s for s in train if s.kept.any()], state, mean)
        with seeded(self.recipe.seed):
            network = self.network(state, len(train.genes))
        recipe = replace(self.recipe, batch_size=1) if self.whole or self.by_section else self.recipe
        found = train_network(network, lesson.loss_of(network), (torch.arange(len(lesson)),), recipe, snapshots=epochs)
        frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
        return [
            FittedNetwork(state, {k: v.numpy() for k, v in weights.items() if k not in frozen}, mean)
            for weights in found
        ]

    @torch.inference_mode()
    def predict(self, fitted: "FittedNetwork", section: Section) -> np.ndarray:
        """Return the expression of every spot of a section, shape ``(n_spots, n_genes)``."""
        network, shown = self.restore(fitted), self.read(section, fitted.state)
        chunk = section.n_spots if self.whole else self.chunk
        parts = [network(*shown.take(rows)) for rows in torch.arange(section.n_spots).split(max(chunk, 1))]
        return np.asarray(torch.cat(parts).numpy() + fitted.mean)

    def restore(self, fitted: "FittedNetwork") -> nn.Module:
        """Return a trained network in evaluation mode.

        Raises
        ------
        FormatError
            If the weights are not exactly those that training changes.
        """
        with seeded(self.recipe.seed):
            network = self.network(fitted.state, len(fitted.mean))
        frozen = {name: p for name, p in network.named_parameters() if not p.requires_grad}
        try:
            network.load_state_dict(frozen | {k: torch.from_numpy(v) for k, v in fitted.weights.items()}, strict=True)
        except RuntimeError as error:
            raise FormatError(f"the weights are not those of this network: {error}") from error
        return network.eval()


@dataclass(frozen=True)
class FittedNetwork:
    """What is left of a training.

    Parameters
    ----------
    state
        What was learned before training.
    weights
        Of the network, without those that were not trained.
    mean
        Train mean of each gene, shape ``(n_genes,)``.
    """

    state: State
    weights: dict[str, np.ndarray]
    mean: np.ndarray


class _Lesson:
    """The kept spots of the train sections, or the sections, or some spots of a section, by their number."""

    def __init__(self, design: Design, sections: list[Section], state: State, mean: np.ndarray) -> None:
        self.design = design
        self.shown = [design.read(s, state) for s in sections]
        self.n_spots = [s.n_spots for s in sections]
        self.kept = [torch.from_numpy(np.flatnonzero(s.kept)) for s in sections]
        self.answers = [  # of kept spots
            tuple(
                torch.from_numpy(np.asarray(a, dtype=np.float32))
                for a in (s.layer(keys.TARGET) - mean, *(more[s.kept] for more in design.answers(s)))
            )
            for s in sections
        ]
        self.place = torch.tensor([(i, j) for i, rows in enumerate(self.kept) for j in range(len(rows))])
        self.hands = self._deal() if design.by_section else []

    def __len__(self) -> int:
        return len(self.shown) if self.design.whole else len(self.hands) or len(self.place)

    def _deal(self) -> list[tuple[int, Tensor]]:
        """Return sections and some of their kept spots, all of which come up once."""
        recipe = self.design.recipe
        chance = torch.Generator().manual_seed(recipe.seed)
        return [
            (i, found)
            for i, rows in enumerate(self.kept)
            for found in torch.randperm(len(rows), generator=chance).split(recipe.batch_size)
        ]

    def loss_of(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the loss of a batch, by the numbers of what is in it."""
        batch = self._whole if self.design.whole else self._hand if self.design.by_section else self._spots

        def loss(numbers: Tensor) -> Tensor:
            device = numbers.device
            inputs, answers, rows = batch(numbers.cpu())
            return self.design.loss(
                network, tuple(x.to(device) for x in inputs), tuple(a.to(device) for a in answers), rows.to(device)
            )

        return loss

    def _whole(self, numbers: Tensor) -> tuple[Batch, Batch, Tensor]:
        (i,) = numbers.tolist()
        return self.shown[i].take(torch.arange(self.n_spots[i])), self.answers[i], self.kept[i]

    def _hand(self, numbers: Tensor) -> tuple[Batch, Batch, Tensor]:
        i, found = self.hands[int(numbers)]
        return (
            self.shown[i].take(self.kept[i][found]),
            tuple(a[found] for a in self.answers[i]),
            torch.arange(len(found)),
        )

    def _spots(self, numbers: Tensor) -> tuple[Batch, Batch, Tensor]:
        section, number = self.place[numbers].T
        inputs, answers, order = [], [], []
        for i in torch.unique(section).tolist():
            of_section = torch.nonzero(section == i)[:, 0]
            found = number[of_section]
            inputs.append(self.shown[i].take(self.kept[i][found]))
            answers.append(tuple(a[found] for a in self.answers[i]))
            order.append(of_section)
        back = torch.argsort(torch.cat(order))
        return _join(inputs, back), _join(answers, back), torch.arange(len(numbers))


def _join(parts: list[Batch], back: Tensor) -> Batch:
    return tuple(torch.cat(column)[back] for column in zip(*parts, strict=True))
