"""Predictors that are an image encoder with a linear last layer, trained together on patches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.encode.base import create_encoder
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError
from hescribe.predict._deep import Features, NetworkPredictor, Size

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._network import Design

SMALL = "efficientnet_lite0"
CHUNK = 8  # patches that are predicted at once
SYMMETRIES = 8  # of a square


@dataclass(kw_only=True)
class ImagePredictor(NetworkPredictor):
    """An image encoder and a linear layer that starts at the train mean of each gene.

    Parameters
    ----------
    size
        ``"paper"``: the published encoder, for a GPU; ``"small"``: EfficientNet-Lite0.
    encoder
        Another encoder than that of the size.
    fov_um
        Side of the patch; None takes that of the encoder's card.
    tuning, rank, jitter
        How the encoder is trained: see ``TrainableEncoder``.
    symmetric
        Whether a prediction is the mean over the eight ways to turn and mirror a patch, in eight times the time.
    epochs
        Passes over the patches; None chooses among 1 to 10 by the inner rule.
    """

    EPOCHS: ClassVar[tuple[int, ...]] = (1, 2, 5, 10)
    PAPER: ClassVar[str]  # encoder of the paper
    size: Size = "paper"
    encoder: str | None = None
    fov_um: float | None = None
    tuning: Literal["full", "low_rank"] = "full"
    rank: int = 8
    jitter: float = 0.0
    symmetric: bool = False
    lr: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 32

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        if self.fov_um is not None and self.fov_um <= 0:
            raise InputError(f"fov_um of {type(self).__name__} must be above 0, got {self.fov_um}")

    def features(self) -> Features:
        """Return colours: what says how unlike the train spots a spot looks."""
        return Features(SpotInputs(encoder="color", fov_um=None, n_rings=0, standardise="train"))

    def view_um(self, train: Cohort) -> float:
        """Return the side of a patch."""
        del train
        return self._cut()[0]

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch
        from hescribe.predict._patches import PatchesOfSection  # noqa: PLC0415 - imports torch

        side_um, px = self._cut()
        return Design(
            start=lambda _: {"cut": np.array([side_um, px])},
            read=lambda section, state: PatchesOfSection.of(section, float(state["cut"][0]), int(state["cut"][1])),
            network=self._network,
            recipe=self.recipe(),
            chunk=CHUNK,
        )

    def encoder_name(self) -> str:
        """Return the name of the encoder that is trained."""
        return self.encoder or (self.PAPER if self.size == "paper" else SMALL)

    def _cut(self) -> tuple[float, int]:
        """Return the side of a patch in um and in pixels."""
        card = create_encoder(self.encoder_name()).card
        return self.fov_um or card.fov_um[0], card.px

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.encode.trainable import TrainableEncoder  # noqa: PLC0415 - imports torch
        from hescribe.predict._patches import PatchNetwork  # noqa: PLC0415 - imports torch

        del state
        name = self.encoder_name()
        encoder = TrainableEncoder.of(name, tuning=self.tuning, rank=self.rank, jitter=self.jitter)
        return PatchNetwork(encoder, create_encoder(name).card.n_dims, n_genes, symmetric=self.symmetric)
