"""Run a network on patches."""

import json
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from hescribe.cards import EncoderCard

if TYPE_CHECKING:
    import torch

BATCH = 8  # larger batches make the allocator return memory to the system after every layer


class Network(NamedTuple):
    """A network and the scaling of its pixels.

    Parameters
    ----------
    module
        Maps float32 ``(n, 3, px, px)`` to ``(n, n_dims)``, in evaluation mode.
    mean, std
        Per channel, in pixel levels (0 to 255).
    """

    module: "torch.nn.Module"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class HasNetwork(Protocol):
    """An encoder that is a network."""

    name: str
    card: EncoderCard

    def network(self) -> Network: ...
    def get_params(self) -> dict[str, object]: ...


_networks: dict[str, Network] = {}


def encode(encoder: HasNetwork, patches: np.ndarray) -> np.ndarray:
    """Return the embeddings of the patches, shape ``(n, n_dims)`` float32."""
    import torch

    key = json.dumps([encoder.name, encoder.get_params()])
    if key not in _networks:
        _networks[key] = encoder.network()
    net = _networks[key]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.mean, net.std))
    out = [np.empty((0, encoder.card.n_dims), np.float32)]
    with torch.inference_mode():
        for i in range(0, len(patches), BATCH):
            x = torch.from_numpy(np.ascontiguousarray(patches[i : i + BATCH])).permute(0, 3, 1, 2).float()
            out.append(net.module((x - mean) / std).numpy())
    return np.concatenate(out)


def backend(encoder: object) -> str:
    """Return the path an encoder's last features took."""
    return "torch fp32" if hasattr(encoder, "network") else "numpy"
