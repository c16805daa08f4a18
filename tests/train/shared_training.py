"""Train towers on one process and on two, and write what was learned: `shared_training.py FOLDER`."""

import os
import socket
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hescribe.align.bleep import BleepAligner
from hescribe.align.infonce import InfoNCEAligner
from hescribe.align.siglip import SigLIPAligner
from hescribe.train.contrastive import Towers, train_towers
from hescribe.train.dist import average_gradients, gather, n_processes, own_part, processes, rank, start_alike
from hescribe.train.loop import Recipe

ALIGNERS = {
    "infonce": InfoNCEAligner(), "siglip": SigLIPAligner(), "bleep": BleepAligner(),
    "siglip within sections": SigLIPAligner(negatives="section"),
}  # fmt: skip
N_SPOTS, BATCH = 15, 7  # of 7 spots one of two processes has 4; the last batch is a spot, and the other has none
SECTION = torch.arange(N_SPOTS) % 3


def start(aligner):
    """Return float64 towers, so that nothing but a wrong gradient can make a difference, their loss, and pairs."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(2, N_SPOTS, 5, generator=generator, dtype=torch.float64)
    torch.manual_seed(1 + rank())  # as if every process drew its own weights
    towers = (torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)) for _ in range(2))
    network = Towers(*towers, unit=True)
    loss = aligner.loss_of(network)
    return network.double(), loss, pairs


def group_of(aligner):
    """Return the section of each spot, if the loss reads it."""
    return SECTION if getattr(aligner, "negatives", "batch") == "section" else None


def learn(aligner):
    """Return the losses of all steps of three epochs, and the weights after them."""
    network, loss, (x, y) = start(aligner)
    losses = []

    def watched(*given, **more):
        losses.append(loss(*given, **more))
        return losses[-1]

    (weights,) = train_towers(
        network, x.numpy(), lambda rows: (y[rows],), watched, Recipe(batch_size=BATCH, lr=0.01), snapshots=(3,),
        group=group_of(aligner),
    )  # fmt: skip
    return {"losses": np.array([v.item() for v in losses]), **{k: w.numpy() for k, w in weights.items()}}


def gradients(aligner):
    """Return the gradient of every weight by the first spots."""
    network, loss, (x, y) = start(aligner)
    start_alike(network)
    rows = own_part(torch.arange(BATCH))
    embedded = gather(network.embed_image(x[rows])), gather(network.embed_expression(y[rows]))
    more = {} if group_of(aligner) is None else {"group": gather(SECTION[rows])}
    loss(*embedded, network.scale(), **more).backward()
    average_gradients(network.parameters())
    return {name: p.grad.numpy() for name, p in network.named_parameters()}


def flow():
    """Return the rows of all processes, and the gradient of own rows where process i asks for the sum times i + 1."""
    x = own_part(torch.arange(3.0)).requires_grad_()
    found = gather(x)
    (found * torch.tensor([1.0, 10.0, 100.0])).sum().mul(rank() + 1).backward()
    return {"rows": found.detach().numpy(), "gradient": x.grad.numpy(), "n": np.array(n_processes())}


def work(folder, n):
    """Do it all as one of n processes."""
    torch.set_num_threads(1)
    with processes() as number:
        found = {f"{name}.{k}": v for name, a in ALIGNERS.items() for k, v in learn(a).items()}
        found |= {f"{name}.gradient.{k}": v for name, a in ALIGNERS.items() for k, v in gradients(a).items()}
        found |= {f"flow.{k}": v for k, v in flow().items()}
    np.savez(folder / f"{number}_of_{n}.npz", **found)


def fork(work, n):
    """Start processes as torchrun does, and return whether one failed; forked, they need not import torch again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for number in range(n):
        os.environ["RANK"] = str(number)
        if (child := os.fork()) == 0:
            try:
                work()
            except BaseException:  # noqa: BLE001 - a child must not go on as its parent
                os._exit(1)
            os._exit(0)
        children.append(child)
    return any([os.waitpid(child, 0)[1] for child in children])  # noqa: C419 - wait for all


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.exit(any(fork(partial(work, folder, n), n) for n in (1, 2)))
