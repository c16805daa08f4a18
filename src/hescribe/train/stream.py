"""Train on batches that are read from disk, and go on after a kill."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from hescribe.ahead import ahead
from hescribe.errors import InputError
from hescribe.progress import track
from hescribe.train.checkpoint import read_checkpoint, write_checkpoint
from hescribe.train.contrastive import Loss, Towers
from hescribe.train.dist import gather, own_part, rank, start_alike
from hescribe.train.loop import Recipe, device, learn, seeded, weights_of
from hescribe.train.shards import PairShards

SEEDS = 100_003  # apart from each other the seeds of two trainings, further than any has epochs times processes


def train_stream(
    network: nn.Module,
    loss: Callable[..., Tensor],
    batches: Callable[[int], Iterable[tuple[Tensor, ...]]],
    recipe: Recipe,
    *,
    n_epochs: int,
    checkpoint: Path | None = None,
) -> dict[str, Tensor]:
    """Train a network on the batches of each epoch, and return its weights.

    Parameters
    ----------
    network, loss, recipe
        As of ``train.loop.train_network``.
    batches
        Gives the batches of an epoch, counted from 1: always the same ones of the same epoch.
    n_epochs
        Epochs, those that are done before included.
    checkpoint
        File that is written after every epoch. If it exists, training goes on where it ended, to the same weights as
        without a stop.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the epoch and the step.
    FormatError
        If the checkpoint is damaged, or of another network.
    InputError
        If it has had more epochs than are asked for.
    """
    on = device()
    network.to(on)
    optimiser = recipe.optimiser(network)
    n_done = 0 if checkpoint is None else read_checkpoint(checkpoint, network, optimiser)
    if n_done > n_epochs:
        raise InputError(
            f"{checkpoint} has had {n_done} epochs, more than {n_epochs}; remove it to train from the start"
        )
    start_alike(network)
    last = weights_of(network)
    for epoch in track(range(n_done + 1, n_epochs + 1), "training", n_epochs - n_done):
        network.train()
        with seeded(SEEDS * recipe.seed + 1000 * rank() + epoch):  # of an epoch, not of what came before it
            for step, batch in enumerate(batches(epoch)):
                part = (own_part(t).to(on) for t in batch)
                learn(optimiser, loss(*part), f"epoch {epoch}, step {step}", last, shared=True)
        last = weights_of(network)
        if checkpoint is not None and rank() == 0:
            write_checkpoint(checkpoint, network, optimiser, epoch=epoch)
    network.eval()
    return last


def train_towers_on(
    network: Towers,
    pairs: PairShards,
    loss: Loss,
    recipe: Recipe,
    *,
    n_epochs: int,
    grouped: bool = False,
    balance: np.ndarray | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Tensor]:
    """Train two towers on pairs on disk, and return their weights: see ``train.contrastive.train_towers``.

    Parameters
    ----------
    network, loss, recipe
        As there.
    pairs
        What the towers read.
    n_epochs, checkpoint
        See ``train_stream``.
    grouped
        Whether the loss reads the section of each spot; a batch then holds several spots of few sections.
    balance
        See ``PairShards.batches``.
    """

    def of_batch(image: Tensor, expression: Tensor, section: Tensor) -> Tensor:
        more = {"group": gather(section)} if grouped else {}
        halves = network.embed_image(image), network.embed_expression(expression)
        return loss(*map(gather, halves), network.scale(), **more)

    def batches(epoch: int) -> Iterable[tuple[Tensor, ...]]:
        how = {"seed": recipe.seed, "epoch": epoch}
        return ahead(pairs.batches(recipe.batch_size, **how, few_sections=grouped, balance=balance))

    return train_stream(network, of_batch, batches, recipe, n_epochs=n_epochs, checkpoint=checkpoint)
