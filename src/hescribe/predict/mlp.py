"""A multilayer perceptron on frozen image features: what non-linearity adds to the ridge."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.predict._inputs import SpotInputs, Standardise
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

if TYPE_CHECKING:
    from torch import Tensor, nn

EPOCHS = (2, 5, 10, 20)
LIMITS = (
    ("n_hidden", 1, np.inf), ("dropout", 0, 1), ("epochs", 1, np.inf), ("lr", 0, np.inf), ("weight_decay", 0, np.inf),
    ("batch_size", 1, np.inf), ("seed", 0, np.inf),
)  # fmt: skip


@dataclass(kw_only=True)
class MLPPredictor(Params):
    """One hidden layer, trained on squared error.

    Parameters
    ----------
    encoder, fov_um, n_rings, standardise
        What is read of the image: see ``SpotInputs``.
    n_hidden
        Width of the hidden layer.
    dropout
        Share of hidden units left out in training.
    epochs
        Passes over the training spots; None chooses among 2 to 20 by the inner rule.
    lr, weight_decay, batch_size, seed
        Of the training.
    """

    name: ClassVar[str] = "mlp"
    card: ClassVar[MethodCard] = MethodCard(summary="multilayer perceptron on frozen image features")
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    n_hidden: int = 128
    dropout: float = 0.2
    epochs: int | None = None
    lr: float = 2e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Train the network."""
        for name, low, high in LIMITS:
            self.check_between(name, low, high)
        view_um = self._inputs().view_um(train)
        self.epochs_ = (
            choose(train, EPOCHS, self._fit_path, view_um=view_um, val=val) if self.epochs is None else self.epochs
        )
        scale, y_mean, x, states = self._train(train, (self.epochs_,))
        self.genes_, self.y_mean_ = train.genes, y_mean
        self.weights_ = {k: v.numpy() for k, v in states[0].items()}
        self.x_mean_, self.x_sd_, self.novelty_ = scale.mean, scale.sd, vars(Novelty.fit(x))
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        import torch  # noqa: PLC0415 - heavy

        x = Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read(section))
        state = {k: torch.from_numpy(v) for k, v in self.weights_.items()}
        mean = self._forward(state, x) + self.y_mean_
        return Prediction(mean, self.genes_, ood=Novelty(**self.novelty_).score(x))

    def _inputs(self) -> SpotInputs:
        return SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise=self.standardise)

    def _network(self, n_dims: int, n_genes: int) -> "nn.Module":
        from torch import nn  # noqa: PLC0415 - heavy

        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        with seeded(self.seed):
            return nn.Sequential(
                nn.Linear(n_dims, self.n_hidden), nn.GELU(), nn.Dropout(self.dropout), nn.Linear(self.n_hidden, n_genes)
            )

    def _train(
        self, train: Cohort, snapshots: tuple[int, ...]
    ) -> "tuple[Scale, np.ndarray, np.ndarray, list[dict[str, Tensor]]]":
        """Return the input scale, the target mean, the scaled inputs and the weights at each snapshot."""
        from torch import from_numpy, nn  # noqa: PLC0415 - heavy

        from hescribe.train.loop import Recipe, train_network  # noqa: PLC0415 - imports torch

        x, y = self._inputs().read_kept(train), train.stack(keys.TARGET)
        scale, y_mean = Scale.of(x), y.mean(axis=0)
        x = scale.apply(x).astype(np.float32)
        network = self._network(x.shape[1], y.shape[1])
        mse = nn.MSELoss()
        recipe = Recipe(batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, seed=self.seed)
        data = (from_numpy(x), from_numpy((y - y_mean).astype(np.float32)))
        states = train_network(network, lambda a, b: mse(network(a), b), data, recipe, snapshots=snapshots)
        return scale, y_mean, x, states

    def _forward(self, state: "dict[str, Tensor]", x: np.ndarray) -> np.ndarray:
        import torch  # noqa: PLC0415 - heavy

        last = list(state)[-1]
        network = self._network(x.shape[1], len(state[last]))
        network.load_state_dict(state, strict=True)
        with torch.inference_mode():
            return network.eval()(torch.from_numpy(x.astype(np.float32))).numpy()

    def _fit_path(self, train: Cohort) -> PredictEach:
        scale, y_mean, _, states = self._train(train, EPOCHS)
        return lambda section: (
            self._forward(state, scale.apply(self._inputs().read(section))) + y_mean for state in states
        )
