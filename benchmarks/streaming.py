"""Contrastive training from disk against the plain loop in memory: pairs a second, and peak memory.

Vectors of both sides are random, --dims wide; heads are linear, of 128 dimensions, with InfoNCE in batches of 1,024.
The loop in memory has as many pairs as --in-memory says, since all would need gigabytes; from disk it has the same
ones for a fair ratio, and then --pairs. Each is measured in a process of its own, for an epoch. The last lines are 20
epochs on 1,539 pairs, with the heads that aligners have by default.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROWS = 2000  # of a section


def sections(n_pairs, n_dims):
    """Yield both vectors of the spots of each section: one draw, changed from section to section."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, n_dims), dtype=np.float32).astype(np.float16)
    y = (x + rng.standard_normal((ROWS, n_dims), dtype=np.float32)).astype(np.float16)
    for start in range(0, n_pairs, ROWS):
        shift = int(rng.integers(n_dims))
        n = min(ROWS, n_pairs - start)
        yield np.roll(x, shift, axis=1)[:n], np.roll(y, -shift, axis=1)[:n]


def towers(n_in, head):
    from torch import nn

    from hescribe.train.contrastive import Towers

    def mlp(n):
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(n, 256), nn.GELU(), nn.Dropout(0.2), nn.Linear(256, 128))

    return Towers(*(nn.Linear(n, 128) if head == "linear" else mlp(n) for n in n_in), unit=True)


def measure(way, n_pairs, n_dims, folder):
    """Train for an epoch and print processor seconds, seconds and peak memory in GB."""
    import resource

    import numpy as np
    import torch

    from hescribe.train.contrastive import pair_loss, train_towers
    from hescribe.train.loop import Recipe
    from hescribe.train.shards import PairShards
    from hescribe.train.stream import train_towers_on

    network, recipe = towers((n_dims, n_dims), "linear"), Recipe(batch_size=1024)
    if way == "disk":
        pairs = PairShards.open(Path(folder))
        start = time.process_time(), time.perf_counter()
        train_towers_on(network, pairs, pair_loss, recipe, n_epochs=1)
    else:
        x, y = (np.empty((n_pairs, n_dims), np.float32) for _ in range(2))
        for i, (a, b) in enumerate(sections(n_pairs, n_dims)):
            x[i * ROWS : i * ROWS + len(a)], y[i * ROWS : i * ROWS + len(b)] = a, b
        y = torch.from_numpy(y)
        start = time.process_time(), time.perf_counter()
        train_towers(network, x, lambda rows: (y[rows],), pair_loss, recipe, snapshots=(1,))
    used = time.process_time() - start[0], time.perf_counter() - start[1]
    print(*used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def apart(way, n_pairs, n_dims, folder):
    """Measure in a process of its own, print a line, and return pairs a processor second."""
    given = [sys.executable, __file__, "--measure", way, "--pairs", str(n_pairs), "--dims", str(n_dims)]
    out = subprocess.run([*given, "--folder", str(folder)], check=True, capture_output=True, text=True).stdout
    busy, seconds, peak = map(float, out.split())
    print(
        f"{way:6s} {n_pairs:9,d} pairs: {n_pairs / busy:8,.0f} pairs a processor second, {n_pairs / seconds:8,.0f} a "
        f"second, peak {peak:.2f} GB",
        flush=True,
    )
    return n_pairs / busy


def short_training():
    """Print what 20 epochs take on the pairs of a small cohort."""
    import numpy as np
    import torch

    from hescribe.train.contrastive import pair_loss, soft_pair_loss, train_towers
    from hescribe.train.loop import Recipe

    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((1539, n), dtype=np.float32) for n in (32, 64))
    y = torch.from_numpy(y)
    for name, loss in (("infonce", pair_loss), ("bleep", soft_pair_loss)):
        start = time.process_time(), time.perf_counter()
        train_towers(towers((32, 64), "mlp"), x, lambda r: (y[r],), loss, Recipe(batch_size=256), snapshots=(20,))
        used = time.process_time() - start[0], time.perf_counter() - start[1]
        print(f"20 epochs on 1,539 pairs, {name}: {used[0]:.1f} processor seconds, {used[1]:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=1024)
    parser.add_argument("--in-memory", type=int, default=100_000)
    parser.add_argument("--measure", choices=("disk", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.pairs, given.dims, given.folder)
        return
    from hescribe.train.shards import write_pairs

    short_training()
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        write_pairs(few, sections(given.in_memory, given.dims))
        memory = apart("memory", given.in_memory, given.dims, few)
        disk = apart("disk", given.in_memory, given.dims, few)
        print(f"from disk at {disk / memory:.2f} of the speed in memory")
        start = time.perf_counter()
        write_pairs(many, sections(given.pairs, given.dims))
        size = sum(p.stat().st_size for p in many.iterdir()) / 1e9
        print(f"wrote {size:.1f} GB in {time.perf_counter() - start:.0f} s")
        apart("disk", given.pairs, given.dims, many)


if __name__ == "__main__":
    main()
