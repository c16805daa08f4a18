"""What deep predictors have in common: parameters of the training, the choice of epochs, features, novelty."""

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

if TYPE_CHECKING:
    from hescribe.predict._network import Design, FittedNetwork
    from hescribe.train.loop import Recipe

Size = Literal["paper", "small"]
NOVELTY = "novelty_"  # start of the names of its parts
LIMITS = (("epochs", 1), ("lr", 0), ("weight_decay", 0), ("batch_size", 1), ("seed", 0))


@dataclass(frozen=True)
class Features:
    """Frozen features of spots, scaled as those of the kept train spots, and how unlike them others look.

    Parameters
    ----------
    inputs
        What is read of the image.
    """

    inputs: SpotInputs

    def start(self, train: Cohort) -> dict[str, Any]:
        """Return the scaling and the spread of the kept spots of a cohort, to be saved."""
        x = self.inputs.read_kept(train)
        scale = Scale.of(x)
        novelty = {NOVELTY + name: part for name, part in vars(Novelty.fit(scale.apply(x))).items()}
        return {"x_mean": scale.mean, "x_sd": scale.sd, **novelty}

    def read(self, section: Section, state: dict[str, Any]) -> np.ndarray:
        """Return the scaled features of every spot, shape ``(n_spots, n_dims)`` float32."""
        x = Scale(state["x_mean"], state["x_sd"]).apply(self.inputs.read(section))
        return np.asarray(x, dtype=np.float32)

    def ood(self, section: Section, state: dict[str, Any]) -> np.ndarray:
        """Return how unlike the train spots each spot looks: see ``Prediction``."""
        novelty = {f.name: state[NOVELTY + f.name] for f in fields(Novelty)}
        return Novelty(**novelty).score(self.read(section, state))


@dataclass(kw_only=True)
class NetworkPredictor(Params):
    """A predictor that is a network: its file says what the network is, and this trains and asks it.

    Parameters
    ----------
    epochs
        Passes over what is learned from; None chooses among ``usual_epochs`` by the inner rule.
    lr
        Step size; None takes ``usual_lr``.
    weight_decay, batch_size, seed
        Of the training.
    """

    EPOCHS: ClassVar[tuple[int, ...]] = (2, 5, 10, 20)  # shortest first
    epochs: int | None = None
    lr: float | None = None
    weight_decay: float = 1e-2
    batch_size: int = 256
    seed: int = 0

    def usual_epochs(self) -> tuple[int, ...]:
        """Return the epochs to choose among, shortest first; a single one is taken without trying it."""
        return self.EPOCHS

    def usual_lr(self) -> float:
        """Return the step size where none is given."""
        return 1e-3

    @abstractmethod
    def design(self) -> "Design":
        """Return the network and the way it is trained."""

    @abstractmethod
    def features(self) -> Features:
        """Return what says how unlike the train spots a spot looks."""

    @abstractmethod
    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that the prediction of one spot sees, in um."""

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        for name, low in LIMITS:
            self.check_between(name, low)
        size = getattr(self, "size", "paper")
        if size not in get_args(Size):
            raise InputError(f"size of {type(self).__name__} must be 'paper' or 'small', got {size!r}")

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Train the network.

        Raises
        ------
        InputError
            If a parameter is out of its limits.
        TrainingError
            If the loss is not finite; the message names the epoch and the step.
        """
        self.check_params()
        design = self.design()
        self.epochs_ = self.epochs or self._choose_epochs(train, val)
        (fitted,) = design.fit(train, (self.epochs_,))
        self.genes_, self.mean_ = train.genes, fitted.mean
        self.state_, self.weights_ = fitted.state, fitted.weights
        self.look_ = self.features().start(train)
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        mean = self.design().predict(self._fitted(), section)
        return Prediction(mean, self.genes_, ood=self.features().ood(section, self.look_))

    def recipe(self) -> "Recipe":
        """Return how the network is trained."""
        from hescribe.train.loop import Recipe  # noqa: PLC0415 - imports torch

        lr = self.usual_lr() if self.lr is None else self.lr
        return Recipe(batch_size=self.batch_size, lr=lr, weight_decay=self.weight_decay, seed=self.seed)

    def _fitted(self) -> "FittedNetwork":
        from hescribe.predict._network import FittedNetwork  # noqa: PLC0415 - imports torch

        return FittedNetwork(self.state_, self.weights_, self.mean_)

    def _choose_epochs(self, train: Cohort, val: Cohort | None) -> int:
        candidates = self.usual_epochs()
        if len(candidates) == 1:
            return candidates[0]
        return choose(train, candidates, self._fit_path, view_um=self.view_um(train), val=val)

    def _fit_path(self, train: Cohort) -> PredictEach:
        design = self.design()
        fitted = design.fit(train, self.usual_epochs())
        return lambda section: (design.predict(f, section) for f in fitted)
