"""The one training loop. A deep method brings its network and its loss, nothing else.

A plain PyTorch loop on one device: importing Lightning costs eight seconds on a laptop, longer
than these trainings take; the loop that spreads over devices will live in this file too.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock

import torch
from torch import Tensor, nn

from hescribe.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    batch_size
        Pairs in a step.
    lr, weight_decay
        Of AdamW.
    seed
        Of the order of the batches and of dropout.
    """

    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101).

    The same steps as ``torch.optim.AdamW``, whose first step imports torch's compiler: five
    seconds, more than these trainings take.

    Parameters
    ----------
    parameters
        Tensors to change; those without a gradient are left alone.
    lr, weight_decay
        Step size, and the share of it by which weights shrink.
    """

    BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # the paper's

    def __init__(self, parameters: list[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        self.lr, self.weight_decay, self.n_steps = lr, weight_decay, 0
        self.state = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter by its gradient."""
        self.n_steps += 1
        scale1, scale2 = 1 - self.BETA1**self.n_steps, 1 - self.BETA2**self.n_steps
        for weight, mean, square in self.state:
            if weight.grad is None:
                continue
            weight.mul_(1 - self.lr * self.weight_decay)
            mean.lerp_(weight.grad, 1 - self.BETA1)
            square.mul_(self.BETA2).addcmul_(weight.grad, weight.grad, value=1 - self.BETA2)
            weight.addcdiv_(mean, (square / scale2).sqrt_().add_(self.EPS), value=-self.lr / scale1)


_drawing = RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from a seed, and leave the caller's as they were.

    One thread at a time: torch has one stream for all, and a network's weights must not depend on
    what is trained beside it.
    """
    with _drawing, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core: these networks are small, and the other cores train others."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def train_network(
    network: nn.Module,
    loss: Callable[..., Tensor],
    data: tuple[Tensor, ...],
    recipe: Recipe,
    *,
    snapshots: tuple[int, ...],
) -> list[dict[str, Tensor]]:
    """Train a network and return its weights after chosen epochs.

    Parameters
    ----------
    network
        Trained in place on the GPU if there is one; left in evaluation mode.
    loss
        ``loss(*batch) -> scalar``.
    data
        Tensors of equal length, one row a pair.
    recipe
        Batch size, step size, seed.
    snapshots
        Ascending numbers of epochs; training ends after the last.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the epoch and the step.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    tensors = tuple(t.to(device) for t in data)
    optimiser = AdamW(list(network.parameters()), lr=recipe.lr, weight_decay=recipe.weight_decay)
    order = torch.Generator().manual_seed(recipe.seed)
    out = []
    with seeded(recipe.seed), _one_thread():
        for epoch in range(1, snapshots[-1] + 1):
            network.train()
            for step, rows in enumerate(torch.randperm(len(data[0]), generator=order).split(recipe.batch_size)):
                value = loss(*(t[rows] for t in tensors))
                if not math.isfinite(value.item()):
                    raise TrainingError(
                        f"the loss is {value.item()} at epoch {epoch}, step {step}; lower lr ({recipe.lr})"
                    )
                network.zero_grad(set_to_none=True)
                value.backward()
                optimiser.step()
            if epoch in snapshots:
                out.append(copy.deepcopy({k: v.cpu() for k, v in network.state_dict().items()}))
    network.eval()
    return out
