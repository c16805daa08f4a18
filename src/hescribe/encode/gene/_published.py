"""What encoders with published weights share: their files, the device, and strictness about what is left over."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.encode._weights import load_strictly, read_weights
from hescribe.errors import DataAccessError, FormatError
from hescribe.train.loop import seeded

CHUNK = 64  # spots encoded at once


def find_file(folder: Path, names: Sequence[str], what: str) -> Path:
    """Return the first of some files that a folder has.

    Raises
    ------
    DataAccessError
        If it has none; the message says what it should hold.
    """
    if found := [folder / name for name in names if (folder / name).is_file()]:
        return found[0]
    raise DataAccessError(f"{folder} holds no {what} ({' or '.join(names)}); weights= names the folder of the release")


def count_layers(state: dict[str, Tensor], start: str) -> int:
    """Return how many numbered layers stand under a name.

    Examples
    --------
    >>> count_layers({"layers.0.weight": torch.ones(1), "layers.1.weight": torch.ones(1)}, "layers.")
    2
    """
    return len({name.removeprefix(start).partition(".")[0] for name in state if name.startswith(start)})


def take(state: dict[str, Any], name: str, where: Path) -> Any:
    """Return an entry of a checkpoint.

    Raises
    ------
    FormatError
        If it has none of that name.
    """
    if not isinstance(state, dict) or name not in state:
        there = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise FormatError(f"{where} has no entry {name!r} ({there}); it is no checkpoint of this encoder")
    return state[name]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a torch or safetensors file holds; nothing in it is executed."""
    return dict(read_weights(path))


def load_part(build: Callable[[], nn.Module], state: dict[str, Tensor], left_out: tuple[str, ...], where: Path) -> Any:
    """Return a network with published weights that fit it exactly, but for declared parts that it does without.

    Raises
    ------
    FormatError
        If a weight is missing, left over or of another shape.
    """
    with seeded(0):  # of weights that are replaced: the caller's random numbers stay as they were
        network = build()
    kept = {name: value for name, value in state.items() if not name.startswith(left_out)}
    return load_strictly(network, kept, str(where))


@contextmanager
def _on_device(network: nn.Module) -> Iterator[torch.device]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    try:
        yield device
    finally:
        network.cpu()


def run(network: nn.Module, parts: Iterator[tuple[Tensor, ...]], n_dims: int) -> np.ndarray:
    """Return what a network says of the spots of all parts, shape ``(n_spots, n_dims)`` float32."""
    with torch.inference_mode(), _on_device(network) as device:
        rows = [network(*(t.to(device) for t in part)).float().cpu().numpy() for part in parts]
    return np.concatenate([np.zeros((0, n_dims), dtype=np.float32), *rows])


def pack(values: np.ndarray, names: np.ndarray, order: np.ndarray, n_kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first entries of each row in an order, filled up with 0 and -1 to the longest.

    Parameters
    ----------
    values
        Shape ``(n_spots, n_genes)``.
    names
        Number of each column, shape ``(n_genes,)``.
    order
        Columns of each row, best first, shape ``(n_spots, n_genes)``.
    n_kept
        How many of each row are kept, shape ``(n_spots,)``.

    Returns
    -------
    Values and numbers, shapes ``(n_spots, n_kept.max())``.

    Examples
    --------
    >>> pack(np.array([[5.0, 0.0, 7.0]]), np.array([30, 31, 32]), np.array([[2, 0, 1]]), np.array([2]))
    (array([[7., 5.]]), array([[32, 30]]))
    """
    longest = int(n_kept.max(initial=0))
    order = order[:, :longest]
    filled = np.arange(longest) < n_kept[:, None]
    return np.where(filled, np.take_along_axis(values, order, axis=1), 0), np.where(filled, names[order], -1)
