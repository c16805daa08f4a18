"""What the image tower of a contrastive predictor reads: features of a frozen encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.encode.trainable import load_trained
from hescribe.prep.scale import Scale
from hescribe.train.loop import seeded

LEAST = 1e-4  # spread of a component, of the first one's; below it is rounding


class Start(NamedTuple):
    """What a training begins with.

    Parameters
    ----------
    x
        What the tower reads of the kept spots, one row a spot.
    image
        How it came about, in arrays that are saved.
    tower
        Makes the untrained tower.
    """

    x: np.ndarray
    image: dict[str, np.ndarray]
    tower: Callable[[], nn.Module]


class Images(Protocol):
    """The image side of a contrastive predictor; ``image`` and ``weights`` are what training left of it."""

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """Parts of the tower that take smaller steps: see ``Recipe``."""
        ...

    def start(self, train: Cohort) -> Start:
        """Return what a training on a cohort begins with."""
        ...

    def features(self, train: Cohort, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return what the tower's head reads of the kept spots of a cohort, shape ``(n_spots, n_dims)``."""
        ...

    def embed(
        self, section: Section, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the tower's head reads of every spot of a section, and the embeddings."""
        ...

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that a prediction sees, in um."""
        ...


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

    def state(self) -> dict[str, np.ndarray]:
        """Return the fields that are set, to be saved."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class FrozenImages:
    """Features of a frozen encoder, scaled.

    Parameters
    ----------
    inputs
        What is read of the image.
    n_components
        To how many components the features are reduced; None to none.
    scaled
        Whether they are scaled and reduced at all.
    head
        Makes the tower, for a number of inputs.
    """

    inputs: SpotInputs
    n_components: int | None
    scaled: bool
    head: Callable[[int], nn.Module]
    shares: ClassVar[tuple[tuple[str, float], ...]] = ()

    def start(self, train: Cohort) -> Start:
        """Return what a training on a cohort begins with."""
        return self.begin(self.inputs.read_kept(train))

    def begin(self, x: np.ndarray) -> Start:
        """Return it from what was read of some spots, shape ``(n_spots, n_dims)``."""
        scale = ImageScale.of(x, self.n_components) if self.scaled else ImageScale()
        x = scale.apply(x)
        return Start(x, scale.state(), lambda: self.head(x.shape[1]))

    def features(self, train: Cohort, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return the scaled features of the kept spots of a cohort, shape ``(n_spots, n_dims)``."""
        del weights
        return ImageScale(**image).apply(self.inputs.read_kept(train))

    def embed(
        self, section: Section, image: dict[str, np.ndarray], weights: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scaled features of every spot, and the embeddings, shapes ``(n_spots, n_dims)``."""
        x = self.read_scaled(section, image)
        return x, self.run(x, weights)

    def read_scaled(self, section: Section, image: dict[str, np.ndarray]) -> np.ndarray:
        """Return the scaled features of every spot, shape ``(n_spots, n_dims)`` float32."""
        return ImageScale(**image).apply(self.inputs.read(section))

    def run(self, x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return the embeddings that a head with some weights gives of scaled features."""
        with seeded(0):  # of weights that are replaced: the caller's random numbers stay as they were
            tower = self.head(x.shape[1])
        load_trained(tower, weights)
        with torch.inference_mode():
            found: np.ndarray = tower.eval()(torch.from_numpy(x)).numpy()
        return found

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that a prediction sees, in um."""
        return self.inputs.view_um(train)
