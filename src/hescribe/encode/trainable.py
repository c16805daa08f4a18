"""Train an image encoder with what stands behind it: all its weights, or low-rank changes to them.

Low-rank changes: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv:2106.09685. They are
written here: the peft library brings two frameworks along, and imports both.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.encode._backends import Scaled
from hescribe.encode.accelerate import Network, NetworkEncoder
from hescribe.encode.base import create_encoder
from hescribe.errors import FormatError, InputError

Tuning = Literal["full", "low_rank"]
EVAL_BATCH = 8  # fixed, filled with zeros: an embedding does not depend on how many patches came with it
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey, ITU-R BT.601


class TrainableEncoder(nn.Module):
    """An image encoder that takes patches and can be trained; in training it sees them turned and recoloured.

    Batch normalisation keeps the statistics it came with, since those of a few patches of one section are noise; its
    scale and offset are trained with the other weights.

    Parameters
    ----------
    network
        The encoder's: see ``NetworkEncoder.network``.
    tuning
        ``"full"`` trains all weights, ``"low_rank"`` a product of two thin matrices beside every linear layer and
        every 1 x 1 convolution.
    rank
        Width of the thin matrices.
    jitter
        Largest relative change of brightness, contrast and saturation in training; 0 leaves colours alone.

    Raises
    ------
    InputError
        If low-rank changes are asked of a network that has no place for them, or a number is out of its limits.
    """

    def __init__(self, network: Network, *, tuning: Tuning = "full", rank: int = 8, jitter: float = 0.2) -> None:
        super().__init__()
        if rank < 1 or not 0 <= jitter < 1:
            raise InputError(f"rank must be at least 1 and jitter in [0, 1), got {rank} and {jitter}")
        self.scaled, self.jitter = Scaled(network).to(memory_format=torch.channels_last), jitter
        self.requires_grad_(tuning == "full")
        if tuning == "low_rank" and not add_low_rank(self.scaled, rank):
            raise InputError("the network has no linear layer and no 1 x 1 convolution; choose tuning='full'")

    @classmethod
    def of(cls, name: str, *, tuning: Tuning, rank: int, jitter: float) -> "TrainableEncoder":
        """Return a registered encoder by its name, ready for training.

        Raises
        ------
        InputError
            If it is no network.
        """
        encoder = create_encoder(name)
        if not isinstance(encoder, NetworkEncoder):
            raise InputError(f"encoder {name} is no network and cannot be trained; use it frozen")
        return cls(encoder.network(), tuning=tuning, rank=rank, jitter=jitter)

    def train(self, mode: bool = True) -> "TrainableEncoder":  # noqa: FBT002 - torch's signature
        """Set the mode of all layers but batch normalisation, which stays in evaluation."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch has no public name for all
                layer.eval()
        return self

    def forward(self, patches: Tensor) -> Tensor:
        """Return the features of uint8 patches ``(n, px, px, 3)``, shape ``(n, n_dims)``."""
        found: Tensor = self.scaled(augment(patches, self.jitter) if self.training else patches)
        return found

    @torch.inference_mode()
    def embed(self, chunks: Iterable[np.ndarray]) -> np.ndarray:
        """Return the features of chunks of uint8 patches, shape ``(n, n_dims)`` float32, in evaluation mode."""
        self.eval()
        device, rows = self.scaled.mean.device, []
        for chunk in chunks:
            for start in range(0, len(chunk), EVAL_BATCH):
                part = torch.from_numpy(np.array(chunk[start : start + EVAL_BATCH]))
                batch = torch.zeros((EVAL_BATCH, *part.shape[1:]), dtype=torch.uint8)
                batch[: len(part)] = part
                rows.append(self(batch.to(device))[: len(part)].float().cpu().numpy())
        return np.concatenate(rows)


def trained_weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights that training changes; the others come with the encoder."""
    return {name: p.detach().cpu().numpy().copy() for name, p in _trained(module).items()}


@torch.no_grad()
def load_trained(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Put trained weights back into a network.

    Raises
    ------
    FormatError
        If they are not exactly those that training changes.
    """
    own = _trained(module)
    wrong = sorted(own.keys() ^ weights.keys()) or [k for k, p in own.items() if tuple(p.shape) != weights[k].shape]
    if wrong:
        raise FormatError(f"the weights are not those of this network and tuning: {wrong[0]} does not fit")
    for name, parameter in own.items():
        parameter.copy_(torch.from_numpy(weights[name]))


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


class LowRank(nn.Module):
    """A frozen layer plus a product of two thin ones, which starts at zero.

    Parameters
    ----------
    layer
        A linear layer, or a 1 x 1 convolution in one group.
    rank
        Width in between.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)  # noqa: FBT003 - torch's signature
        if isinstance(layer, nn.Linear):
            self.down: nn.Module = nn.Linear(layer.in_features, rank, bias=False)
            self.up: nn.Linear | nn.Conv2d = nn.Linear(rank, layer.out_features, bias=False)
        else:
            self.down = nn.Conv2d(layer.in_channels, rank, 1, stride=layer.stride, bias=False)  # type: ignore[arg-type]
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways."""
        changed: Tensor = self.layer(x) + self.up(self.down(x))
        return changed


def add_low_rank(module: nn.Module, rank: int) -> int:
    """Write low-rank changes into a network, and return to how many layers."""
    n_changed = 0
    for name, child in module.named_children():
        if isinstance(child, nn.MultiheadAttention):  # reads the weights of its layers without calling them
            continue
        if _can_change(child):
            setattr(module, name, LowRank(child, rank))  # type: ignore[arg-type]
            n_changed += 1
        else:
            n_changed += add_low_rank(child, rank)
    return n_changed


def _can_change(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1 and layer.padding == (0, 0)
    return isinstance(layer, nn.Linear)


def augment(patches: Tensor, jitter: float) -> Tensor:
    """Return patches turned and mirrored by right angles at random, and recoloured.

    Tissue has no up and no handedness. Quarter turns leave no corner empty, and every pixel as it was.

    Parameters
    ----------
    patches
        Shape ``(n, px, px, 3)`` uint8. Random numbers are torch's: see ``train.loop.seeded``.
    jitter
        Each patch's brightness, contrast and saturation are multiplied by a number in ``[1 - jitter, 1 + jitter]``.

    Returns
    -------
    Same shape, float32 in 0 to 255.

    Examples
    --------
    >>> corner = torch.zeros((1, 2, 2, 3), dtype=torch.uint8)
    >>> corner[0, 0, 0] = 100
    >>> int((augment(corner, 0.0) == 100).sum())  # somewhere, and as bright as it was
    3
    """
    way = torch.randint(8, (len(patches),)).to(patches.device)
    x = torch.empty_like(patches, dtype=torch.float32)
    for turns in range(4):
        for mirrored in range(2):
            rows = way == 2 * turns + mirrored
            turned = torch.rot90(patches[rows], turns, (1, 2))
            x[rows] = (turned.flip(2) if mirrored else turned).float()
    if not jitter:
        return x
    brightness, contrast, saturation = (1 + jitter * (2 * torch.rand(3, len(x), 1, 1, 1) - 1)).to(x.device)
    x = x * brightness
    level = x.mean(dim=(1, 2, 3), keepdim=True)
    x = level + contrast * (x - level)
    grey = (x * torch.tensor(LUMA, device=x.device)).sum(dim=3, keepdim=True)
    return (grey + saturation * (x - grey)).clamp(0, 255)
