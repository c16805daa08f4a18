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
from hescribe.predict._bank import Bank, Retrieval
from hescribe.predict._contrastive import Towers
from hescribe.predict._inputs import SpotInputs
from hescribe.predict._training import n_kept
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose
from hescribe.train.loop import Recipe, seeded, train_network

CHUNK = 2048  # spots embedded at once
LEAST = 1e-4  # spread of a component, of the first one's; below it is rounding

# Gives what stands for the expression of some kept spots of a cohort, by their rows: what the second tower reads.
Take = Callable[[Tensor], tuple[Tensor, ...]]
Loss = Callable[[Tensor, Tensor, Tensor | float], Tensor]


@dataclass(frozen=True)
class ImageScale:
    """What is done to image features before a tower reads them: nothing, scaling, or scaling and reduction.

    Parameters
    ----------
    mean, sd
        Of the features, shape ``(n_dims,)``; None leaves them as they are.
    basis
        Leading directions over their spread, shape ``(n_dims, n_components)``; None does not reduce them.
    """

    mean: np.ndarray | None = None
    sd: np.ndarray | None = None
    basis: np.ndarray | None = None

    @classmethod
    def of(cls, x: np.ndarray, n_components: int | None) -> "ImageScale":
        """Return the scaling of features, shape ``(n_spots, n_dims)``, to so many components; None: to none."""
        scale = Scale.of(x)
        if n_components is None:
            return cls(scale.mean, scale.sd)
        z = scale.apply(x)
        z = z - z.mean(axis=0)
        _, spread, directions = np.linalg.svd(z, full_matrices=False)
        n = max(min(n_components, int((spread > LEAST * spread[0]).sum())), 1)
        scale_up = np.divide(np.sqrt(len(z)), spread[:n], out=np.zeros(n), where=spread[:n] > 0)
        basis = directions[:n].T * scale_up  # all 0 if the images do not differ
        return cls(scale.mean, scale.sd, basis.astype(x.dtype))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return what the image tower reads, shape ``(n_spots, n_dims or n_components)`` float32."""
        if self.mean is not None and self.sd is not None:
            x = Scale(self.mean, self.sd).apply(x)
        return np.asarray(x if self.basis is None else x @ self.basis, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class FittedTowers:
    """What is left of a training: enough to predict, in arrays.

    Parameters
    ----------
    image
        Scaling and reduction of the image features.
    weights
        Of the image tower.
    bank
        Embeddings of the train spots by their expression, and what they carry.
    temperature
        That the training ended with.
    """

    image: ImageScale
    weights: dict[str, np.ndarray]
    bank: Bank
    temperature: float

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Return what ``state`` took apart."""
        return cls(
            image=ImageScale(**state.get("image_", {})),  # no entry is saved of a dictionary without entries
            weights=state["weights_"],
            bank=Bank.restore(state["bank_"]),
            temperature=state["temperature_"],
        )

    def state(self) -> dict[str, Any]:
        """Return the fitted attributes of a predictor, in arrays that can be saved."""
        image = {name: value for name, value in vars(self.image).items() if value is not None}
        return {
            "image_": image,
            "weights_": self.weights,
            "bank_": self.bank.state(),
            "temperature_": self.temperature,
        }


def train_towers(
    network: Towers, x: np.ndarray, take: Take, loss: Loss, recipe: Recipe, *, snapshots: tuple[int, ...]
) -> list[dict[str, Tensor]]:
    """Return the weights after chosen epochs of training on pairs.

    Parameters
    ----------
    network
        Trained in place.
    x
        What the image tower reads, shape ``(n_spots, n_dims)``.
    take
        The other half of the pairs.
    loss, recipe
        See ``predict._contrastive`` and ``train.loop``.
    snapshots
        Ascending numbers of epochs.
    """

    def of_batch(image: Tensor, rows: Tensor) -> Tensor:
        spots = (part.to(image.device) for part in take(rows.cpu()))
        return loss(network.embed_image(image), network.embed_expression(*spots), network.scale())

    return train_network(network, of_batch, (torch.from_numpy(x), torch.arange(len(x))), recipe, snapshots=snapshots)


@torch.inference_mode()
def embed_spots(network: Towers, take: Take, n_spots: int, *, chunk: int = CHUNK) -> np.ndarray:
    """Return the embeddings of all train spots by their expression, shape ``(n_spots, n_dims)`` float32."""
    parts = [network.embed_expression(*take(rows)) for rows in torch.arange(n_spots).split(chunk)]
    return torch.cat(parts).numpy()


@torch.inference_mode()
def embed_images(tower: nn.Module, weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the embeddings of image features by a trained tower, shape ``(n_spots, n_dims)`` float32."""
    tower.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=True)
    return tower.eval()(torch.from_numpy(x)).numpy()


def image_weights(weights: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the weights of the image tower alone, by the names that it gives them."""
    start = "image."
    return {name.removeprefix(start): value.numpy() for name, value in weights.items() if name.startswith(start)}


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """A way to train towers and to retrieve with them, free of the epochs and of k.

    Parameters
    ----------
    inputs, n_components
        What is read of the image, and to how many components it is reduced; None to none.
    scaled
        Whether image features are scaled and reduced at all.
    image_tower
        Makes the first tower, for a number of inputs.
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

    inputs: SpotInputs
    n_components: int | None
    scaled: bool
    image_tower: Callable[[int], nn.Module]
    expression_side: Callable[[Cohort], tuple[nn.Module, Take]]
    unit: bool
    loss: Loss
    recipe: Recipe
    retrieval: Retrieval = Retrieval()
    chunk: int = CHUNK
    centre: bool = True

    def fit(self, train: Cohort, epochs: tuple[int, ...]) -> list[FittedTowers]:
        """Return what is learned after each of some ascending numbers of epochs."""
        x, image = self.read(train)
        network, take = self.start(train, x.shape[1])
        states = train_towers(network, x, take, self.loss, self.recipe, snapshots=epochs)
        return [self.keep(train, image, network, weights, take) for weights in states]

    def fit_best(self, train: Cohort, epochs: int, *, share: float) -> FittedTowers:
        """Train on a share of the spots, drawn at random, and keep the epoch with the least loss on the others.

        The published way of BLEEP. Neighbours of a spot and replicates of its section are on both sides, so that
        memorising goes unpunished.
        """
        x, image = self.read(train)
        network, take = self.start(train, x.shape[1])
        order = np.random.default_rng(self.recipe.seed).permutation(len(x))
        n_trained = min(max(round(share * len(x)), 1), len(x) - 1)
        trained, others = torch.from_numpy(order[:n_trained]), torch.from_numpy(order[n_trained:])
        every = tuple(range(1, epochs + 1))
        states = train_towers(
            network, x[order[:n_trained]], lambda rows: take(trained[rows]), self.loss, self.recipe, snapshots=every
        )
        losses = []
        for weights in states:
            network.cpu().load_state_dict(weights, strict=True)
            losses.append(self._mean_loss(network.eval(), torch.from_numpy(x), take, others))
        return self.keep(train, image, network, states[int(np.argmin(losses))], take)

    @torch.inference_mode()
    def _mean_loss(self, network: Towers, x: Tensor, take: Take, rows: Tensor) -> float:
        """Return the loss of a trained network over some pairs, in batches as in training."""
        total = 0.0
        for batch in rows.split(self.recipe.batch_size):
            embedded = network.embed_image(x[batch]), network.embed_expression(*take(batch))
            total += float(self.loss(*embedded, network.scale())) * len(batch)
        return total / len(rows)

    def read(self, train: Cohort) -> tuple[np.ndarray, ImageScale]:
        """Return what the image tower reads of the kept spots of a cohort, and how it came about."""
        x = self.inputs.read_kept(train)
        image = ImageScale.of(x, self.n_components) if self.scaled else ImageScale()
        return image.apply(x), image

    def start(self, train: Cohort, n_image: int) -> tuple[Towers, Take]:
        """Return the network before training, and what its second tower reads."""
        with seeded(self.recipe.seed):
            image = self.image_tower(n_image)
            expression, take = self.expression_side(train)
            return Towers(image, expression, unit=self.unit), take

    def keep(
        self, train: Cohort, image: ImageScale, network: Towers, weights: dict[str, Tensor], take: Take
    ) -> FittedTowers:
        """Return what is left of a training that ended with some weights."""
        network.cpu().load_state_dict(weights, strict=True)
        bank = Bank.of(train, embed_spots(network.eval(), take, n_kept(train), chunk=self.chunk))
        return FittedTowers(
            image=image,
            weights=image_weights(weights),
            bank=bank.section_centred() if self.centre else bank,
            temperature=network.temperature(),
        )

    def query(self, fitted: FittedTowers, section: Section) -> tuple[np.ndarray, np.ndarray]:
        """Return what the image tower reads of a section, and its embedding of every spot."""
        x = fitted.image.apply(self.inputs.read(section))
        with seeded(self.recipe.seed):  # the weights drawn here are replaced
            tower = self.image_tower(x.shape[1])
        return x, embed_images(tower, fitted.weights, x)

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
            chosen = choose(train, pairs, self.path(epochs, ks), view_um=self.inputs.view_um(train), val=val)
        fitted = self.fit(train, chosen[:1])[0]
        return fitted, chosen[0], min(chosen[1], len(fitted.bank.vectors))

    def state(self, train: Cohort, fitted: FittedTowers, *, epochs: int, k: int) -> dict[str, Any]:
        """Return the fitted attributes of a predictor: what was learned, and how it was chosen."""
        novelty = Novelty.fit(fitted.image.apply(self.inputs.read_kept(train)))
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
