"""The one training loop. A deep method brings its network and its loss, nothing else.

A plain PyTorch loop: importing Lightning costs eight seconds on a laptop, longer than these trainings take. Several
processes can share it: see ``train.dist``.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hescribe.errors import InputError, TrainingError
from hescribe.progress import track
from hescribe.train.dist import average_gradients, own_part, rank, start_alike
from hescribe.train.turns import take_turns

WARM_UP = 0.05  # share of the steps in which the step size of "cosine" rises


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
    schedule
        Of ``train_steps``. ``"cosine"``: the step size rises to ``lr`` in the first 5 % of the steps and falls to
        0 along a cosine.
    shares
        Parts of the network that take smaller steps: the start of the names of their weights, and the share of ``lr``.
        ``(("encoder.", 0.1),)`` is usual for an encoder that was trained before.
    """

    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    shares: tuple[tuple[str, float], ...] = ()

    def optimiser(self, network: nn.Module) -> "AdamW":
        """Return the optimiser of what is to be trained of a network.

        Raises
        ------
        InputError
            If a part that takes smaller steps is not in the network.
        """
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        for start, _ in self.shares:
            if not any(name.startswith(start) for name in trained):
                raise InputError(f"no weight to be trained has a name that starts with {start!r}")
        shares = [next((s for start, s in self.shares if name.startswith(start)), 1.0) for name in trained]
        return AdamW(list(trained.values()), lr=self.lr, weight_decay=self.weight_decay, shares=shares)

    def lr_at(self, step: int, n_steps: int) -> float:
        """Return the step size of a step, counted from 0, of so many.

        Examples
        --------
        >>> [round(Recipe(lr=1.0, schedule="cosine").lr_at(s, 100), 2) for s in (0, 4, 99)]
        [0.2, 1.0, 0.0]
        """
        if self.schedule == "constant":
            return self.lr
        n_rising = max(round(WARM_UP * n_steps), 1)
        falling = max(step + 1 - n_rising, 0) / max(n_steps - n_rising, 1)
        return self.lr * min((step + 1) / n_rising, 1.0) * (1 + math.cos(math.pi * falling)) / 2


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
    shares
        Of the step size, for each tensor; 1 by default.
    """

    BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # the paper's

    def __init__(
        self, parameters: list[nn.Parameter], *, lr: float, weight_decay: float, shares: list[float] | None = None
    ) -> None:
        self.lr, self.weight_decay, self.n_steps = lr, weight_decay, 0
        self.state = [
            (p, torch.zeros_like(p), torch.zeros_like(p), share)
            for p, share in zip(parameters, shares or [1.0] * len(parameters), strict=True)
        ]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight, *_ in self.state:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter by its gradient."""
        self.n_steps += 1
        scale1, scale2 = 1 - self.BETA1**self.n_steps, 1 - self.BETA2**self.n_steps
        for weight, mean, square, share in self.state:
            if weight.grad is None:
                continue
            lr = share * self.lr
            weight.mul_(1 - lr * self.weight_decay)
            mean.lerp_(weight.grad, 1 - self.BETA1)
            square.mul_(self.BETA2).addcmul_(weight.grad, weight.grad, value=1 - self.BETA2)
            weight.addcdiv_(mean, (square / scale2).sqrt_().add_(self.EPS), value=-lr / scale1)


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
    shared: bool = False,
    balance: np.ndarray | None = None,
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
    shared
        Each process takes its part of every batch, and the loss is that of the whole: see ``train.dist.gather``. Else
        every process trains alike.
    balance
        Group of each row, of which a batch holds equally many: see ``take_turns``. None takes rows as they come.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the epoch and the step, and its ``weights`` are those after the
        last whole epoch.
    """
    on = device()
    network.to(on)
    tensors = tuple(t.to(on) for t in data)
    optimiser = recipe.optimiser(network)
    if shared:
        start_alike(network)
    order = torch.Generator().manual_seed(recipe.seed)
    out: list[dict[str, Tensor]] = []
    last: dict[str, Tensor] | None = None
    with seeded(recipe.seed + rank() * shared), _one_thread():
        for epoch in track(range(1, snapshots[-1] + 1), "training", snapshots[-1]):
            network.train()
            every = torch.randperm(len(data[0]), generator=order)
            if balance is not None:
                every = torch.from_numpy(take_turns(balance, np.random.default_rng((recipe.seed, epoch))))
            for step, rows in enumerate(every.split(recipe.batch_size)):
                batch = tuple(t[own_part(rows) if shared else rows] for t in tensors)
                learn(optimiser, loss(*batch), f"epoch {epoch}, step {step}", last, shared=shared)
            last = weights_of(network)
            if epoch in snapshots:
                out.append(last)
    network.eval()
    return out


def train_steps(
    network: nn.Module,
    loss: Callable[..., Tensor],
    draw: Callable[[Tensor, torch.Generator], tuple[Tensor, ...]],
    recipe: Recipe,
    *,
    n_rows: int,
    n_steps: int,
) -> dict[str, Tensor]:
    """Train a network on batches that are drawn anew at every step, and return its weights.

    Parameters
    ----------
    network
        As of ``train_network``.
    loss
        ``loss(*batch) -> scalar``.
    draw
        ``draw(rows, generator) -> batch``, where ``rows`` has shape ``(batch_size,)``. Batches go through all
        rows in a random order and then again; a last batch that is not full is left out.
    recipe
        Batch size, step size and its schedule, seed.
    n_rows
        Rows to draw from; if they are fewer than a batch, a batch holds them all.
    n_steps
        Batches to learn from.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the step.
    """
    on = device()
    network.to(on)
    optimiser = recipe.optimiser(network)
    generator = torch.Generator().manual_seed(recipe.seed)
    batches = _passes(n_rows, min(recipe.batch_size, n_rows), generator)
    with seeded(recipe.seed), _one_thread():
        network.train()
        for step in track(range(n_steps), "training", n_steps):
            optimiser.lr = recipe.lr_at(step, n_steps)
            batch = draw(next(batches), generator)
            learn(optimiser, loss(*(t.to(on) for t in batch)), f"step {step}")
    network.eval()
    return weights_of(network)


def _passes(n_rows: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of full batches, pass after pass."""
    while True:
        order = torch.randperm(n_rows, generator=generator)
        yield from order.split(batch_size)[: n_rows // batch_size]


def device() -> torch.device:
    """Return where networks are trained: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights, on the CPU."""
    return copy.deepcopy({k: v.cpu() for k, v in network.state_dict().items()})


def learn(
    optimiser: AdamW, value: Tensor, where: str, last: dict[str, Tensor] | None = None, *, shared: bool = False
) -> None:
    """Take one step down the gradient of a loss; ``last`` are weights that were good."""
    if not math.isfinite(value.item()):
        raise TrainingError(f"the loss is {value.item()} at {where}; lower lr ({optimiser.lr})", last)
    optimiser.zero_grad()
    value.backward()
    if shared:
        average_gradients(weight for weight, *_ in optimiser.state)
    optimiser.step()
