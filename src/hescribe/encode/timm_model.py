"""Any image model of the timm library as an encoder, with its classifier cut off.

Its facts come from timm, whose import takes seconds, also when the features are remembered.
"""

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hescribe.cards import EncoderCard
from hescribe.encode import accelerate
from hescribe.encode._weights import fetch_weights, fingerprint, load_strictly, read_weights
from hescribe.encode.base import check_patches
from hescribe.errors import UnknownNameError
from hescribe.params import Params

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


@dataclass(kw_only=True)
class TimmModel(Params):
    """Pooled features of a timm model.

    Parameters
    ----------
    model
        Name in timm, with or without the tag of its weights: ``"resnet50"``, ``"resnet50.a1_in1k"``.
    weights
        Local file (safetensors or torch) with all weights, the classifier included; the hub's if empty.
    """

    name: ClassVar[str] = "timm_model"
    model: str = "resnet50"
    weights: str = ""

    @property
    def card(self) -> EncoderCard:
        """Facts about the model, as timm states them."""
        source, n_dims, n_params = _facts(self.model)
        return EncoderCard(
            name=self.model,
            revision=fingerprint(Path(self.weights)) if self.weights else source.hf_hub_id or "none",
            px=source.input_size[-1],
            n_dims=n_dims,
            n_params=n_params,
            licence=source.license or "unknown",
            paper=source.paper_name or "see the model's page in timm",
        )

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the pooled features, shape ``(n, n_dims)`` float32."""
        return accelerate.encode(self, check_patches(patches, self.card))

    def missing(self) -> str:
        """Return what stands between now and a run, empty if nothing does."""
        return "" if self.weights else "any model of timm; its weights are downloaded at first use"

    def network(self) -> accelerate.Network:
        """Return the network with its weights loaded."""
        import timm  # noqa: PLC0415 - heavy

        source, _, _ = _facts(self.model)
        path = Path(self.weights) if self.weights else fetch_weights(source.hf_hub_id or f"timm/{self.model}")
        module: Any = timm.create_model(self.model, num_classes=source.num_classes)
        load_strictly(module, read_weights(path), str(path))
        module.reset_classifier(0)
        mean, std = (tuple(255 * v for v in values) for values in (source.mean, source.std))
        return accelerate.Network(module, self.card.px, mean, std)


@lru_cache
def _facts(model: str) -> "tuple[PretrainedCfg, int, int]":
    """Return the source of the weights, the length of an embedding and the number of weights."""
    import timm  # noqa: PLC0415 - heavy
    import torch  # noqa: PLC0415 - heavy

    known = [*timm.list_models(), *timm.list_pretrained()]
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "timm.list_models() lists them"
        raise UnknownNameError(f"timm has no model {model!r}; {hint}")
    source = timm.get_pretrained_cfg(model)
    assert source is not None, model
    with torch.device("meta"):  # shapes only
        module: Any = timm.create_model(model, num_classes=0)
    return source, module.num_features, sum(p.numel() for p in module.parameters())
