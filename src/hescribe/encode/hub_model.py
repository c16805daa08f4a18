"""Pathology encoders of the Hugging Face hub, each described by a card in ``cards/``.

A new one is a new file there. A card holds the facts and the architecture in timm's words; the weights are
downloaded at first use, after their makers' terms were accepted where they ask for it.
"""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hescribe.cards import EncoderCard
from hescribe.encode import accelerate
from hescribe.encode._weights import fetch_weights, find_weights, fingerprint, read_weights
from hescribe.encode.base import check_patches
from hescribe.errors import FormatError, UnknownNameError
from hescribe.params import Params

CARDS = resources.files("hescribe.encode") / "cards"


@dataclass(kw_only=True)
class HubModel(Params):
    """A pathology encoder by the name of its card.

    Parameters
    ----------
    model
        One of ``hub_models()``, or the path of a card (``.toml``) of your own.
    weights
        Local file (safetensors or torch) instead of the hub's.

    Examples
    --------
    >>> HubModel(model="uni2").card.n_dims
    1536
    """

    name: ClassVar[str] = "hub_model"
    model: str = "uni2"
    weights: str = ""

    @property
    def card(self) -> EncoderCard:
        """Facts about the model."""
        facts = dict(_read_card(self.model)["card"])
        if self.weights:
            facts["revision"] = fingerprint(Path(self.weights))
        tuples = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
        return EncoderCard(**facts | tuples)

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the embeddings, shape ``(n, n_dims)`` float32."""
        return accelerate.encode(self, check_patches(patches, self.card))

    @classmethod
    def variants(cls) -> "list[HubModel]":
        """Return one encoder per card."""
        return [cls(model=model) for model in hub_models()]

    def missing(self) -> str:
        """Return what stands between now and a run, empty if nothing does."""
        repository = _read_card(self.model)["network"].get("repository", "")
        if self.weights or find_weights(repository, self.card.revision):
            return ""
        gate = "after its terms are accepted there and `hf auth login`" if self.card.gated else "at first use"
        return f"to be downloaded from https://huggingface.co/{repository} {gate}"

    def network(self) -> accelerate.Network:
        """Return the network with its weights loaded."""
        card, facts = self.card, _read_card(self.model)["network"]
        path = Path(self.weights) if self.weights else fetch_weights(facts["repository"], card.revision)
        from hescribe.encode._transformers import build  # noqa: PLC0415 - imports timm, so only once the weights are there

        module = build(facts, read_weights(path), where=str(path))
        mean, std = (tuple(255 * v for v in facts[key]) for key in ("mean", "std"))
        return accelerate.Network(module, card.px, mean, std)


def hub_models() -> list[str]:
    """Return the names of the cards that come with the package."""
    return sorted(Path(entry.name).stem for entry in CARDS.iterdir())


@lru_cache
def _read_card(model: str) -> dict[str, Any]:
    own = model.endswith(".toml")
    if not own and model not in hub_models():
        known = ", ".join(hub_models())
        raise UnknownNameError(f"there is no hub model {model!r}; known: {known}, or the path of a card (.toml)")
    source = Path(model) if own else CARDS / f"{model}.toml"
    try:
        facts = tomllib.loads(source.read_text())
        EncoderCard(**facts["card"])
        missing = {"architecture", "pooling", "mean", "std"} - facts["network"].keys()
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise FormatError(f"{source} is no card of an encoder: {error}") from error
    if missing:
        raise FormatError(f"{source} is no card of an encoder: [network] lacks {', '.join(sorted(missing))}")
    return facts
