"""A training on disk after an epoch, from which it goes on as if it had never stopped."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hescribe._support import write_whole
from hescribe.errors import FormatError
from hescribe.train.loop import AdamW


def write_checkpoint(path: Path, network: nn.Module, optimiser: AdamW, *, epoch: int) -> None:
    """Write weights and the state of the optimiser after an epoch, whole or not at all."""
    tensors = {name: value.cpu().contiguous() for name, value in _tensors(network, optimiser).items()}
    about = {"epoch": str(epoch), "n_steps": str(optimiser.n_steps)}
    with write_whole(path) as tmp:
        save_file(tensors, tmp, about)


def read_checkpoint(path: Path, network: nn.Module, optimiser: AdamW) -> int:
    """Put back what was written, and return the epochs that are done; 0 if there is no file.

    Raises
    ------
    FormatError
        If the file is damaged, or of another network.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no dictionary
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path} is damaged; remove it to train from the start") from error
    own = _tensors(network, optimiser)
    wrong = sorted(own.keys() ^ found.keys()) or [n for n, t in own.items() if t.shape != found[n].shape]
    if wrong or not about.keys() >= {"epoch", "n_steps"}:
        raise FormatError(f"{path} is of another training; remove it, or give another file")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[name])
    optimiser.n_steps = int(about["n_steps"])
    return int(about["epoch"])


def _tensors(network: nn.Module, optimiser: AdamW) -> dict[str, Tensor]:
    """Return what is saved of a training, by name; writing into a tensor changes the training."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for i, (_, mean, square, _) in enumerate(optimiser.state):
        tensors |= {f"mean.{i}": mean, f"square.{i}": square}
    return tensors
