"""What a slide-level model is, where they are registered, and how tiles are brought to one scale."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from hescribe.cards import MethodCard
from hescribe.errors import InputError
from hescribe.prep.scale import CONSTANT, Scale
from hescribe.registry import Registry
from hescribe.slide.bags import Bag
from hescribe.slide.targets import Target


@runtime_checkable
class SlideModel(Protocol):
    """Anything that learns a target from bags; no base class is needed."""

    name: ClassVar[str]
    card: ClassVar[MethodCard]

    def fit(self, bags: Sequence[Bag], target: Target) -> Self:
        """Learn from train slides and return the model.

        Parameters
        ----------
        bags
            Train slides, all embedded alike.
        target
            What they are, one for each bag.
        """
        ...

    def predict(self, bags: Iterable[Bag]) -> np.ndarray:
        """Return the probability of each class, shape ``(n_bags, n_classes)``; of survival the risk, ``(n_bags, 1)``.

        A higher risk is an earlier event; its unit means nothing.
        """
        ...

    def attention(self, bag: Bag) -> np.ndarray:
        """Return how much each tile weighs in the prediction, shape ``(n_tiles,)``; not below 0, with sum 1."""
        ...


slide_models: Registry[SlideModel] = Registry(
    "slide model", "hescribe.slide", besides=("bags", "bag_files", "labels", "linear", "targets", "toy")
)


def check_fit(bags: Sequence[Bag], target: Target) -> None:
    """Raise ``InputError`` unless there is a target for each bag, and something to learn."""
    if len(bags) != len(target):
        raise InputError(f"there are {len(bags)} bags and {len(target)} targets; give one for each bag, in one order")
    if len(bags) < 2:
        raise InputError(f"a slide model needs at least 2 train slides, got {len(bags)}")
    target.check_all_seen()


def tile_scale(bags: Sequence[Bag]) -> Scale:
    """Return mean and sd of the tiles of train slides; each slide counts alike, however many tiles it has.

    Bags are read one after the other, so that memory holds one.

    Raises
    ------
    InputError
        If bags differ in their number of dims.
    """
    mean = square = np.zeros(0)
    for i, bag in enumerate(bags):
        x = bag.read().astype(np.float64)
        if i and x.shape[1] != len(mean):
            raise InputError(
                f"bag {bag.id} has {x.shape[1]} dims and bag {bags[0].id} has {len(mean)}; embed all slides alike"
            )
        of_mean, of_square = x.mean(axis=0), np.square(x).mean(axis=0)
        mean, square = (of_mean, of_square) if not i else (mean + of_mean, square + of_square)
    mean, square = mean / len(bags), square / len(bags)
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    varies = sd > CONSTANT * np.median(sd)
    return Scale(mean.astype(np.float32), np.where(varies, sd, np.inf).astype(np.float32))


def read_scaled(bag: Bag, scale: Scale) -> np.ndarray:
    """Return the tiles of a bag on the scale of the train slides, shape ``(n_tiles, n_dims)`` float32.

    Raises
    ------
    InputError
        If the bag has another number of dims.
    """
    x = bag.read()
    if x.shape[1] != len(scale.mean):
        raise InputError(
            f"bag {bag.id} has {x.shape[1]} dims and the model was fitted on {len(scale.mean)}; embed it with the "
            "encoder of the train slides"
        )
    return scale.apply(x)


def tile_components(bags: Sequence[Bag], scale: Scale, n: int, *, n_tiles: int = 512, seed: int = 0) -> np.ndarray:
    """Return the directions in which scaled tiles of train slides vary most, each slide counting alike.

    Parameters
    ----------
    bags, scale
        Train slides, read one after the other, and their scale.
    n
        Directions, at most as many as there are dims.
    n_tiles, seed
        Tiles drawn of a slide, at most, and of the draw.

    Returns
    -------
    Shape ``(n_dims, n)`` float32. Tiles times it have unit variance on average over the directions, which keep their
    sizes beside each other.
    """
    rng, covariance = np.random.default_rng(seed), np.zeros((len(scale.mean),) * 2)
    for bag in bags:
        x = read_scaled(bag, scale)
        x = x[rng.permutation(len(x))[:n_tiles]]
        covariance += x.T @ x / (len(x) * len(bags))
    size, directions = np.linalg.eigh(covariance)
    kept = slice(-1, -1 - min(n, len(size)), -1)
    return (directions[:, kept] / np.sqrt(max(float(size[kept].mean()), 1e-12))).astype(np.float32)
