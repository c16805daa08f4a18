"""Train two towers on the spots of a cohort, and retrieve with them: what contrastive predictors do alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.frozen_images import Images, Start
from hescribe.encode.trainable import trained_weights
from hescribe.predict._bank import Bank, Retrieval
from hescribe.predict._training import n_kept
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.train.contrastive import CHUNK, Loss, Take, Towers, embed_spots, train_towers
from hescribe.train.inner import PredictEach, choose
from hescribe.train.loop import Recipe, seeded


@dataclass(frozen=True, kw_only=True)
class FittedTowers:
    """What is left of a training: enough to predict, in arrays.

    Parameters
    ----------
    image
        How what the image tower reads came about.
    weights
        Of the image tower, those that were trained.
    bank
        Embeddings of the train spots by their expression, and what they carry.
    temperature
        That the training ended with.
    """

    image: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    bank: Bank
    temperature: float

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Return what ``state`` took apart."""
        return cls(
            image=state.get("image_", {}),  # no entry is saved of a dictionary without entries
            weights=state["weights_"],
            bank=Bank.restore(state["bank_"]),
            temperature=state["temperature_"],
        )

    def state(self) -> dict[str, Any]:
        """Return the fitted attributes of a predictor, in arrays that can be saved."""
        return {
            "image_": self.image,
            "weights_": self.weights,
            "bank_": self.bank.state(),
            "temperature_": self.temperature,
        }


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """A way to train towers and to retrieve with them, free of the epochs and of k.

    Parameters
    ----------
    images
        What is read of the image, and what of it is trained.
    expression_side
        Makes the second tower for a cohort, and gives what it reads of the kept spots.
    unit
        See ``Towers``.
    loss, recipe
        Of the training.
    retrieval
        How the bank is asked; its temperature is in units of that of the training.
    chunk
        Spots embedded at once.
    centre
        Take the level of each section out of what its spots carry.
    """

    images: Images
    expression_side: Callable[[Cohort], tuple[nn.Module, Take]]
    unit: bool
    loss: Loss
    recipe: Recipe
    retrieval: Retrieval = Retrieval()
    chunk: int = CHUNK
    centre: bool = True

    def fit(self, train: Cohort, epochs: tuple[int, ...]) -> list[FittedTowers]:
        """Return what is learned after each of some ascending numbers of epochs."""
        start = self.images.start(train)
        network, take = self.build(train, start)
        states = train_towers(network, start.x, take, self.loss, self._recipe(), snapshots=epochs)
        return [self.keep(train, start, network, weights, take) for weights in states]

    def fit_best(self, train: Cohort, epochs: int, *, share: float) -> FittedTowers:
        """Train on a share of the spots, drawn at random, and keep the epoch with the least loss on the others.

        The published way of BLEEP. Neighbours of a spot and replicates of its section are on both sides, so that
        memorising goes unpunished.
        """
        start = self.images.start(train)
        x, (network, take) = start.x, self.build(train, start)
        order = np.random.default_rng(self.recipe.seed).permutation(len(x))
        n_trained = min(max(round(share * len(x)), 1), len(x) - 1)
        trained, others = torch.from_numpy(order[:n_trained]), torch.from_numpy(order[n_trained:])
        every = tuple(range(1, epochs + 1))
        states = train_towers(
            network, x[order[:n_trained]], lambda rows: take(trained[rows]), self.loss, self._recipe(), snapshots=every
        )
        losses = []
        for weights in states:
            network.cpu().load_state_dict(weights, strict=True)
            losses.append(self._mean_loss(network.eval(), torch.from_numpy(x), take, others))
        return self.keep(train, start, network, states[int(np.argmin(losses))], take)

    @torch.inference_mode()
    def _mean_loss(self, network: Towers, x: Tensor, take: Take, rows: Tensor) -> float:
        """Return the loss of a trained network over some pairs, in batches as in training."""
        total = 0.0
        for batch in rows.split(self.recipe.batch_size):
            embedded = network.embed_image(x[batch]), network.embed_expression(*take(batch))
            total += float(self.loss(*embedded, network.scale())) * len(batch)
        return total / len(rows)

    def _recipe(self) -> Recipe:
        return replace(self.recipe, shares=self.images.shares)

    def build(self, train: Cohort, start: Start) -> tuple[Towers, Take]:
        """Return the network before training, and what its second tower reads."""
        with seeded(self.recipe.seed):
            image = start.tower()
            expression, take = self.expression_side(train)
            return Towers(image, expression, unit=self.unit), take

    def keep(
        self, train: Cohort, start: Start, network: Towers, weights: dict[str, Tensor], take: Take
    ) -> FittedTowers:
        """Return what is left of a training that ended with some weights."""
        network.cpu().load_state_dict(weights, strict=True)
        bank = Bank.of(train, embed_spots(network.eval(), take, n_kept(train), chunk=self.chunk))
        return FittedTowers(
            image=start.image,
            weights=trained_weights(network.image),
            bank=bank.section_centred() if self.centre else bank,
            temperature=network.temperature(),
        )

    def query(self, fitted: FittedTowers, section: Section) -> tuple[np.ndarray, np.ndarray]:
        """Return what the head of the image tower reads of a section, and its embedding of every spot."""
        return self.images.embed(section, fitted.image, fitted.weights)

    def how(self, fitted: FittedTowers) -> Retrieval:
        """Return how the bank is asked after a training."""
        return replace(self.retrieval, temperature=self.retrieval.temperature * fitted.temperature)

    def path(self, epochs: tuple[int, ...], ks: tuple[int, ...]) -> Callable[[Cohort], PredictEach]:
        """Return what the inner rule fits: every number of epochs with every k."""

        def fit_path(train: Cohort) -> PredictEach:
            fitted = self.fit(train, epochs)
            return lambda section: (
                mean for one in fitted for mean in one.bank.means(self.query(one, section)[1], ks, self.how(one))
            )

        return fit_path

    def fit_chosen(
        self, train: Cohort, epochs: tuple[int, ...], ks: tuple[int, ...], *, val: Cohort | None
    ) -> tuple[FittedTowers, int, int]:
        """Return what is learned with the epochs and k that the inner rule chooses, and the two."""
        pairs = [(e, k) for e in epochs for k in ks]
        chosen = pairs[0]
        if len(pairs) > 1:
            chosen = choose(train, pairs, self.path(epochs, ks), view_um=self.images.view_um(train), val=val)
        fitted = self.fit(train, chosen[:1])[0]
        return fitted, chosen[0], min(chosen[1], len(fitted.bank.vectors))

    def state(self, train: Cohort, fitted: FittedTowers, *, epochs: int, k: int) -> dict[str, Any]:
        """Return the fitted attributes of a predictor: what was learned, and how it was chosen."""
        novelty = Novelty.fit(self.images.features(train, fitted.image, fitted.weights))
        return {"genes_": train.genes, "epochs_": epochs, "k_": k, "novelty_": vars(novelty), **fitted.state()}

    def predict(self, state: dict[str, Any], section: Section) -> Prediction:
        """Return the expression of every spot, of a predictor's fitted attributes."""
        fitted = FittedTowers.restore(state)
        x, query = self.query(fitted, section)
        mean = next(fitted.bank.means(query, (state["k_"],), self.how(fitted)))
        return Prediction(mean, state["genes_"], ood=Novelty(**state["novelty_"]).score(x))

    def explain(self, state: dict[str, Any], section: Section) -> pd.DataFrame:
        """Return the training spots that the prediction of every spot rests on: see ``Bank.explain``."""
        fitted = FittedTowers.restore(state)
        _, query = self.query(fitted, section)
        return fitted.bank.explain(query, section.table.obs_names, state["k_"], self.how(fitted))
