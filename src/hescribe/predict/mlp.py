"""A multilayer perceptron on frozen image features: what non-linearity adds to the ridge."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.predict._deep import Features, NetworkPredictor

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._network import Design


@dataclass(kw_only=True)
class MLPPredictor(NetworkPredictor):
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
    lr: float = 2e-3

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("n_hidden", 1)
        self.check_between("dropout", 0, 1)

    def features(self) -> Features:
        """Return what is read of the image."""
        return Features(
            SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise=self.standardise)
        )

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that the prediction of one spot sees, in um."""
        return self.features().inputs.view_um(train)

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._network import Arrays, Design  # noqa: PLC0415 - imports torch

        features = self.features()
        return Design(
            start=features.start,
            read=lambda section, state: Arrays((features.read(section, state),)),
            network=self._network,
            recipe=self.recipe(),
        )

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from torch import nn  # noqa: PLC0415 - heavy

        return nn.Sequential(
            nn.Linear(len(state["x_mean"]), self.n_hidden),
            nn.GELU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.n_hidden, n_genes),
        )
