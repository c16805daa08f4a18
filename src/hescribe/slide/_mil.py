"""A network on the tiles of a slide: embed each, pool them, read the slide's outcome off; trained bag by bag."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from hescribe.params import Params
from hescribe.prep.scale import Scale
from hescribe.slide.bags import Bag
from hescribe.slide.base import check_fit, read_scaled, tile_components, tile_scale
from hescribe.slide.targets import SurvivalLoss, Target

if TYPE_CHECKING:
    from torch import nn

    from hescribe.slide._mil_network import MILNetwork
    from hescribe.slide._outcome import Outcome

EPOCHS, MIN_STEPS = 20, 100
LIMITS = (
    ("n_components", 1, np.inf), ("n_hidden", 1, np.inf), ("dropout", 0, 0.99), ("n_tiles", 1, np.inf),
    ("n_bins", 2, np.inf), ("epochs", 1, np.inf), ("n_starts", 1, np.inf),
    ("lr", 0, np.inf), ("weight_decay", 0, np.inf), ("batch_size", 1, np.inf), ("seed", 0, np.inf),
)  # fmt: skip


@dataclass(kw_only=True)
class MILModel(Params):
    """A network on bags.

    Parameters
    ----------
    n_components
        Tiles are reduced to so many directions in which those of the train slides vary most; None takes all dims.
    n_hidden
        Units a tile is embedded in.
    dropout
        Share of the inputs and of the hidden units left out in training.
    n_tiles
        Tiles drawn of a bag at each step of the training, at most; None takes all. All are read for a prediction.
    survival_loss
        ``"nll"``: the likelihood of ``n_bins`` bins of time with the same number of train events; ``"cox"``: the
        partial likelihood over the slides of a batch, which wants a large one.
    n_bins
        Of ``"nll"``.
    epochs
        Passes over the train slides; None: 20, and more if these are fewer than 100 batches.
    n_starts
        Networks that are trained from different starts, whose predictions and attention are averaged: with few train
        slides one start differs from the next.
    lr, weight_decay, batch_size, seed
        Of the training.
    """

    n_components: int | None = None
    n_hidden: int = 128
    dropout: float = 0.25
    n_tiles: int | None = 4096
    survival_loss: SurvivalLoss = "nll"
    n_bins: int = 4
    epochs: int | None = None
    n_starts: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 8
    seed: int = 0

    @abstractmethod
    def pooling(self) -> "nn.Module":
        """Return what pools embedded tiles ``(n_tiles, n_hidden)`` to ``(n_hidden,)``, beside each tile's weight."""

    def fit(self, bags: Sequence[Bag], target: Target) -> Self:
        """Train on bags, which are read one at a time.

        Raises
        ------
        InputError
            If a parameter is out of its limits, bags and target do not match, a class has no train slide, or bags
            differ in their number of dims.
        TrainingError
            If the loss is not finite.
        """
        for name, low, high in LIMITS:
            self.check_between(name, low, high)
        check_fit(bags, target)
        from hescribe.encode.trainable import trained_weights  # noqa: PLC0415 - imports torch
        from hescribe.slide._mil_network import train_on_bags  # noqa: PLC0415 - imports torch
        from hescribe.slide._outcome import Outcome  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import Recipe  # noqa: PLC0415 - imports torch

        scale = tile_scale(bags)
        directions = np.zeros((0, 0), np.float32)
        if self.n_components is not None:
            directions = tile_components(bags, scale, self.n_components, seed=self.seed)
        outcome = Outcome.of(target, survival_loss=self.survival_loss, n_bins=self.n_bins)
        readers, n_dims = (
            [partial(_read, bag, scale, directions) for bag in bags],
            directions.shape[1] or len(scale.mean),
        )
        networks = [
            train_on_bags(
                self._build(n_dims, outcome.n_outputs, seed),
                readers,
                outcome,
                outcome.encode(target),
                Recipe(
                    batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, seed=seed, schedule="cosine"
                ),
                n_steps=self._n_steps(len(bags)),
                n_tiles=self.n_tiles,
            )
            for seed in range(self.seed, self.seed + self.n_starts)
        ]
        self.mean_, self.sd_, self.directions_ = scale.mean, scale.sd, directions
        self.outcome_, self.edges_, self.n_outputs_ = outcome.kind, outcome.edges, outcome.n_outputs
        self.weights_ = {f"{i}.{k}": w for i, n in enumerate(networks) for k, w in trained_weights(n).items()}
        return self

    def predict(self, bags: Iterable[Bag]) -> np.ndarray:
        """Return probabilities of the classes, or risk, shape ``(n_bags, n_classes)`` or ``(n_bags, 1)``."""
        of_bag, outcome = self._fitted()
        outputs = np.array([of_bag(bag)[0] for bag in bags]).reshape(-1, self.n_starts, outcome.n_outputs)
        told: np.ndarray = np.mean([outcome.to_prediction(outputs[:, i]) for i in range(self.n_starts)], axis=0)
        return told

    def attention(self, bag: Bag) -> np.ndarray:
        """Return how much each tile weighs in the pooled slide, shape ``(n_tiles,)``."""
        found: np.ndarray = self._fitted()[0](bag)[1].mean(axis=0)
        return found

    def _n_steps(self, n_bags: int) -> int:
        """Return the number of batches to learn from."""
        n_batches = max(n_bags // self.batch_size, 1)
        return max(EPOCHS * n_batches, MIN_STEPS) if self.epochs is None else self.epochs * n_batches

    def _build(self, n_dims: int, n_outputs: int, seed: int) -> "MILNetwork":
        from hescribe.slide._mil_network import MILNetwork  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        with seeded(seed):
            return MILNetwork(n_dims, self.n_hidden, n_outputs, pooling=self.pooling(), dropout=self.dropout)

    def _fitted(self) -> tuple[Callable[[Bag], tuple[np.ndarray, np.ndarray]], "Outcome"]:
        """Return what gives outputs and attention of a bag, one row a start, and how outputs are read."""
        self.check_fitted()
        from hescribe.encode.trainable import load_trained  # noqa: PLC0415 - imports torch
        from hescribe.slide._mil_network import apply  # noqa: PLC0415 - imports torch
        from hescribe.slide._outcome import Outcome  # noqa: PLC0415 - imports torch

        scale, directions, networks = Scale(self.mean_, self.sd_), self.directions_, []
        for i in range(self.n_starts):
            network = self._build(directions.shape[1] or len(scale.mean), self.n_outputs_, 0)
            own = {k.removeprefix(f"{i}."): w for k, w in self.weights_.items() if k.startswith(f"{i}.")}
            load_trained(network, own)
            networks.append(network.eval())

        def of_bag(bag: Bag) -> tuple[np.ndarray, np.ndarray]:
            tiles = _read(bag, scale, directions)
            outputs, weights = zip(*(apply(network, tiles) for network in networks), strict=True)
            return np.stack(outputs), np.stack(weights)

        return of_bag, Outcome(self.outcome_, self.n_outputs_, tuple(self.edges_))


def _read(bag: Bag, scale: Scale, directions: np.ndarray) -> np.ndarray:
    """Return the tiles of a bag as the network takes them: scaled, and along the directions if there are any."""
    x = read_scaled(bag, scale)
    return x @ directions if directions.size else x
