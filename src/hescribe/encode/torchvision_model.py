"""Any classifier of torchvision as an encoder, with its last layer cut off: for networks that timm has not."""

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hescribe import settings
from hescribe.cards import EncoderCard
from hescribe.encode import accelerate
from hescribe.encode._weights import fingerprint, load_strictly, read_weights
from hescribe.encode.base import check_patches
from hescribe.errors import DataAccessError, InputError, UnknownNameError
from hescribe.params import Params

if TYPE_CHECKING:
    import torch

LAST = ("fc", "classifier", "heads")  # names that torchvision gives to what comes after the features
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, with which all of them were trained
PX = 224


@dataclass(kw_only=True)
class TorchvisionModel(Params):
    """Pooled features of a torchvision classifier.

    Parameters
    ----------
    model
        Name in torchvision: ``"shufflenet_v2_x0_5"``.
    weights
        Local file (safetensors or torch) with all weights, the last layer included; those of ImageNet that torchvision
        downloads if empty.
    """

    name: ClassVar[str] = "torchvision_model"
    model: str = "shufflenet_v2_x0_5"
    weights: str = ""

    @property
    def card(self) -> EncoderCard:
        """Facts about the model."""
        n_dims, n_params, url = _facts(self.model)
        return EncoderCard(
            name=self.model,
            revision=fingerprint(Path(self.weights)) if self.weights else url.rpartition("/")[2],
            px=PX,
            n_dims=n_dims,
            n_params=n_params,
            licence="BSD-3-Clause",
            paper="see the model's page in torchvision",
            trained_on=() if self.weights else ("imagenet-1k",),
        )

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the pooled features, shape ``(n, n_dims)`` float32."""
        return accelerate.encode(self, check_patches(patches, self.card))

    def missing(self) -> str:
        """Return what stands between now and a run, empty if nothing does."""
        return "" if self.weights else "any classifier of torchvision; its weights are downloaded at first use"

    def network(self) -> accelerate.Network:
        """Return the network with its weights loaded.

        Raises
        ------
        DataAccessError
            If the weights are not there and cannot be downloaded.
        """
        from torchvision import models  # noqa: PLC0415 - heavy

        *_, url = _facts(self.model)
        state = read_weights(Path(self.weights)) if self.weights else _download(url)
        module: Any = load_strictly(models.get_model(self.model), state, self.weights or url)
        _cut(module)
        return accelerate.Network(module, PX, tuple(255 * v for v in MEAN), tuple(255 * v for v in STD))


def _download(url: str) -> "dict[str, torch.Tensor]":
    """Return the weights that torchvision's makers publish; the file's hash is checked."""
    from torch import hub  # noqa: PLC0415 - heavy

    held = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if settings.is_offline() and not held.exists():
        raise DataAccessError(
            f"the weights at {url} are not on this machine and the network is switched off; download them and give "
            "the file with weights="
        )
    try:
        found: dict[str, torch.Tensor] = hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # of urllib, of the hash, of the file
        raise DataAccessError(
            f"the weights at {url} cannot be downloaded ({error}); try again with a network, or give a file with "
            "weights="
        ) from error
    return found


@lru_cache
def _facts(model: str) -> tuple[int, int, str]:
    """Return the length of an embedding, the number of weights without the last layer, and where the weights are."""
    import torch  # noqa: PLC0415 - heavy
    from torchvision import models  # noqa: PLC0415 - heavy

    known = models.list_models(module=models)
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "list_models() lists them"
        raise UnknownNameError(f"torchvision has no classifier {model!r}; {hint}")
    with torch.device("meta"):  # shapes only
        module = models.get_model(model)
    n_dims = _cut(module)
    return n_dims, sum(p.numel() for p in module.parameters()), str(models.get_model_weights(model).DEFAULT.url)


def _cut(module: Any) -> int:
    """Replace what comes after the features by nothing, and return the length of an embedding.

    Raises
    ------
    InputError
        If no linear layer comes after them.
    """
    from torch import nn  # noqa: PLC0415 - heavy

    for name in LAST:
        linear = [x for x in getattr(module, name, nn.Identity()).modules() if isinstance(x, nn.Linear)]
        if linear:
            setattr(module, name, nn.Flatten(1))
            return linear[0].in_features
    raise InputError(f"torchvision's {type(module).__name__} does not end in a linear layer, to be cut off")
