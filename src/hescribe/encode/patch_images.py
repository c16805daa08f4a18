"""The image side of a contrastive method, whose encoder is trained with the rest or frozen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.cards import EncoderCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.frozen_images import FrozenImages, Images, ImageScale, Start
from hescribe.encode.spot_inputs import ImageParams, SpotInputs
from hescribe.encode.trainable import TrainableEncoder, Tuning, load_trained
from hescribe.errors import InputError
from hescribe.prep.patches import iter_patches
from hescribe.prep.scale import LIMIT
from hescribe.prep.spot_patches import SpotPatches
from hescribe.train.loop import seeded

ENCODER_STEP = 0.1  # of the step size of the rest, for an encoder that was trained before; published: 1


def images_of(
    params: ImageParams, head: Callable[[int], nn.Module], *, scaled: bool = True, step: float = ENCODER_STEP
) -> Images:
    """Return the image side that a method's parameters ask for.

    Parameters
    ----------
    params
        Of the method.
    head
        Makes what reads the features.
    scaled
        Whether features are scaled and reduced.
    step
        Step size of an encoder that is trained, as a share of that of the rest.
    """
    inputs = SpotInputs(
        encoder=params.encoder, fov_um=params.fov_um, n_rings=params.n_rings, standardise=params.standardise
    )
    frozen = FrozenImages(inputs=inputs, n_components=params.n_components, scaled=scaled, head=head)
    if params.frozen:
        return frozen
    return PatchImages(frozen=frozen, tuning=params.tuning, rank=params.rank, jitter=params.jitter, step=step)


class ScaleLayer(nn.Module):
    """What ``ImageScale`` does, as a layer that is not trained."""

    mean: Tensor | None
    sd: Tensor | None
    basis: Tensor | None

    def __init__(self, scale: ImageScale) -> None:
        super().__init__()
        for name in ("mean", "sd", "basis"):
            value = getattr(scale, name)
            self.register_buffer(name, None if value is None else torch.from_numpy(np.asarray(value, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled features, shape ``(n, n_dims or n_components)``."""
        if self.mean is None or self.sd is None:
            return x
        z = ((x - self.mean) / self.sd).clamp(-LIMIT, LIMIT)
        return z if self.basis is None else z @ self.basis


class PatchTower(nn.Module):
    """An encoder, the scaling of its features as they were before training, and a head, on spots by their number.

    Parameters
    ----------
    encoder, head
        Trained together.
    scale
        In between, and not trained: training begins with what a frozen encoder would give.
    patches
        Of the spots; None if only ``embed`` is asked.
    """

    def __init__(
        self, encoder: TrainableEncoder, scale: ScaleLayer, head: nn.Module, patches: SpotPatches | None
    ) -> None:
        super().__init__()
        self.encoder, self.scale, self.head, self.patches = encoder, scale, head, patches

    def forward(self, spots: Tensor) -> Tensor:
        """Return the embeddings of spots, shape ``(n, n_dims)``."""
        assert self.patches is not None
        pixels = torch.from_numpy(self.patches.take(spots.cpu().numpy())).to(spots.device)
        found: Tensor = self.head(self.scale(self.encoder(pixels)))
        return found


@dataclass(frozen=True, kw_only=True)
class PatchImages:
    """Images whose encoder is trained with the rest.

    Parameters
    ----------
    frozen
        The same images before training: encoder, size of a patch, scaling and head.
    tuning, rank, jitter
        See ``TrainableEncoder``.
    step
        Step size of the encoder, as a share of that of the rest.

    Raises
    ------
    InputError
        If patches of several sizes are asked for.
    """

    frozen: FrozenImages
    tuning: Tuning
    rank: int
    jitter: float
    step: float

    def __post_init__(self) -> None:
        sides = self.frozen.inputs.fov_um or self._card.fov_um
        if len(sides) != 1:
            raise InputError(f"an encoder is trained on patches of one size; give one fov_um, got {sides}")

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """Parts of the tower that take smaller steps: see ``Recipe``."""
        return (("image.encoder.", self.step),)

    def start(self, train: Cohort) -> Start:
        """Return what a training begins with; the tower reads the kept spots by their number."""
        patches, image = SpotPatches.of(train, *self._cut), self.frozen.start(train).image
        return Start(np.arange(len(patches)), image, lambda: self._tower(image, patches))

    def features(self, train: Cohort, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return the trained encoder's scaled features of the kept spots of a cohort, shape ``(n_spots, n_dims)``."""
        found = self._trained(image, weights).encoder.embed(SpotPatches.of(train, *self._cut).chunks())
        return ImageScale(**image).apply(found)

    def embed(
        self, section: Section, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the trained encoder's scaled features of every spot, and the embeddings."""
        tower = self._trained(image, weights)
        features = ImageScale(**image).apply(tower.encoder.embed(iter_patches(section, *self._cut)))
        with torch.inference_mode():
            return features, tower.head(torch.from_numpy(features)).numpy()

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that a prediction sees, in um."""
        return self.frozen.view_um(train)

    @property
    def _card(self) -> EncoderCard:
        return create_encoder(self.frozen.inputs.encoder).card

    @property
    def _cut(self) -> tuple[float, int]:
        """Side of a patch in um and in pixels."""
        return (self.frozen.inputs.fov_um or self._card.fov_um)[0], self._card.px

    def _tower(self, image: dict[str, np.ndarray], patches: SpotPatches | None) -> PatchTower:
        encoder = TrainableEncoder.of(
            self.frozen.inputs.encoder, tuning=self.tuning, rank=self.rank, jitter=self.jitter
        )
        n_inputs = image["basis"].shape[1] if "basis" in image else self._card.n_dims
        return PatchTower(encoder, ScaleLayer(ImageScale(**image)), self.frozen.head(n_inputs), patches)

    def _trained(self, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> PatchTower:
        with seeded(0):  # of weights that are replaced: the caller's random numbers stay as they were
            tower = self._tower(image, None)
        load_trained(tower, weights)
        return tower.eval()
