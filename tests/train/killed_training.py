"""Train from disk in two processes, lose one to a kill, and go on: `-m tests.train.killed_training FOLDER`.

Leaves the weights of a training without a kill in `whole`, and of one that was killed and begun again in `resumed`.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from tests.train.shared_training import fork

from hescribe.train.contrastive import Towers, pair_loss
from hescribe.train.dist import processes, rank
from hescribe.train.loop import Recipe
from hescribe.train.shards import PairShards, write_pairs
from hescribe.train.stream import train_towers_on

N_EPOCHS, KILLED_AT = 4, 10  # a step of the third epoch: there are four in each
RECIPE = Recipe(batch_size=24, lr=0.01)


def train(folder, name, *, is_killed=False):
    """Train as one of the processes; the second of them may kill itself."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = (torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(5, 4)) for _ in range(2))
    n_steps = 0

    def loss(*given, **more):
        nonlocal n_steps
        n_steps += 1
        if is_killed and rank() == 1 and n_steps == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return pair_loss(*given, **more)

    with processes() as number:
        weights = train_towers_on(
            Towers(*heads, unit=True), PairShards.open(folder / "pairs"), loss, RECIPE, n_epochs=N_EPOCHS,
            checkpoint=folder / f"{name}.safetensors",
        )  # fmt: skip
    np.savez(folder / f"{name}_{number}.npz", n_steps=n_steps, **{k: w.numpy() for k, w in weights.items()})


def main(folder):
    rng = np.random.default_rng(0)
    write_pairs(folder / "pairs", [tuple(rng.normal(size=(2, 48, 5)).astype(np.float16)) for _ in range(2)])
    lost = [
        fork(lambda: train(folder, "whole"), 2),
        fork(lambda: train(folder, "resumed", is_killed=True), 2),
        fork(lambda: train(folder, "resumed"), 2),
    ]
    sys.exit(lost != [False, True, False])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
