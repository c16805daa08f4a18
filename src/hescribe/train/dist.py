"""A training that several processes share: who is who, and the rows of a batch from all of them, with their gradients.

A contrastive loss compares every spot of a batch with every other, so that it cannot be averaged over parts of the
batch as most losses can: each process embeds its part, all get the embeddings of all, and the gradient of every
process's loss goes back to where an embedding came from. What is learned does not depend on the number of processes
but for the random numbers of dropout and augmentation, of which each process draws its own.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from hescribe.errors import InputError

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def processes() -> Iterator[int]:
    """Join the processes that ``torchrun`` started, and yield the number of this one; without torchrun 0.

    Every process runs the same program on the same data; only number 0 should write files.

    Raises
    ------
    InputError
        If ``WORLD_SIZE`` says that there are several processes, and nothing says where the others are.

    Examples
    --------
    >>> with processes() as number:
    ...     number, n_processes()
    (0, 1)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield rank()
        return
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} and {missing[0]} is not set; start the processes with torchrun"
        )
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield rank()
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def n_processes() -> int:
    """Return how many processes share a training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return when every process has come here: what one has written before, the others can read."""
    if n_processes() > 1:
        distributed.barrier()


def own_part(rows: Tensor) -> Tensor:
    """Return the rows of a batch that are this process's; those of all processes in turn are the batch."""
    return rows.tensor_split(n_processes())[rank()]


def gather(x: Tensor) -> Tensor:
    """Return the rows of all processes, process after process, through which gradients flow back to all of them.

    Parameters
    ----------
    x
        Rows of this process, shape ``(n, ...)``; n may differ, the other axes not.
    """
    if n_processes() == 1:
        return x
    found: Tensor = _Gather.apply(x)
    return found


class _Gather(torch.autograd.Function):
    """The gradient of a row is the sum of what the losses of all processes want of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sizes = [torch.zeros((), dtype=torch.int64, device=x.device) for _ in range(n_processes())]
        distributed.all_gather(sizes, torch.tensor(len(x), device=x.device))
        ctx.sizes = [int(n) for n in sizes]
        padded = x.new_zeros((max(ctx.sizes), *x.shape[1:]))  # gloo gathers equal shapes alone
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in ctx.sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, ctx.sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *wanted: Tensor) -> Tensor:
        total = wanted[0].contiguous()
        distributed.all_reduce(total)
        return total.split(ctx.sizes)[rank()]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all processes.

    With ``gather`` it is the mean that is right: it counts each embedding's gradient once for every process, and so
    it does that of a temperature, which all of them have whole.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    if n_processes() == 1 or not with_gradient:
        return
    flat = torch.cat([p.grad.flatten() for p in with_gradient])  # type: ignore[union-attr]
    distributed.all_reduce(flat)
    flat /= n_processes()
    for parameter, part in zip(with_gradient, flat.split([p.numel() for p in with_gradient]), strict=True):
        parameter.grad = part.view_as(parameter)


@torch.no_grad()
def start_alike(network: nn.Module) -> None:
    """Give the network of every process the weights of process 0."""
    if n_processes() > 1:
        for tensor in network.state_dict().values():
            distributed.broadcast(tensor, src=0)
