"""Images per second of EfficientNet-Lite0: ours against the loops a user would write, as ratios in one run.

Each variant runs in a process of its own, because the allocator's thresholds are read at start. The variants
take turns for some rounds and the best round of each counts, so that a busy machine disturbs all alike.

    python benchmarks/encode.py [--patches 128] [--rounds 3] [--json]
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
import torch

from hescribe.encode.efficientnet_lite0 import EfficientnetLite0
from hescribe.testing.encoders import tissue_like

GOALS = {"plain loop": 5.0, "tuned loop": 2.0}  # times slower than ours, at least
NEVER_TRIM = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
VARIANTS = {  # label: (loop, batch, environment)
    "plain loop": ("plain", 32, {}),
    "tuned loop: malloc thresholds": ("plain", 32, NEVER_TRIM),
    "tuned loop: batches of 8": ("plain", 8, {}),
    "tuned loop: both": ("plain", 8, NEVER_TRIM),
    "channels last, batches of 8": ("channels_last", 8, {}),
    "hescribe": ("hescribe", 64, {}),
}


def plain_loop(patches, batch, *, last=False):
    """Return seconds of what most scripts do: scale each patch, stack, run the network in float32."""
    module = EfficientnetLite0().network().module
    if last:
        module = module.to(memory_format=torch.channels_last)

    def run(some):
        scaled = [torch.from_numpy(((p.astype(np.float32) - 127) / 128).transpose(2, 0, 1)) for p in some]
        x = torch.stack(scaled)
        with torch.no_grad():
            return module(x.contiguous(memory_format=torch.channels_last) if last else x).numpy()

    run(patches[:batch])
    started = time.perf_counter()
    for start in range(0, len(patches), batch):
        run(patches[start : start + batch])
    return time.perf_counter() - started


def our_loop(patches, batch):
    """Return seconds of our encoder, after its way was chosen."""
    encoder = EfficientnetLite0()
    encoder.encode(patches[:batch])
    started = time.perf_counter()
    for start in range(0, len(patches), batch):
        encoder.encode(patches[start : start + batch])
    return time.perf_counter() - started


def work(loop, batch, n):
    """Measure one variant in this process."""
    patches = tissue_like(n, 224)
    if loop == "hescribe":
        return n / our_loop(patches, batch)
    return n / plain_loop(patches, batch, last=loop == "channels_last")


def measure(n, rounds):
    """Return the best images per second of each variant."""
    best = dict.fromkeys(VARIANTS, 0.0)
    for _ in range(rounds):
        for label, (loop, batch, environment) in VARIANTS.items():
            command = [sys.executable, __file__, "--work", loop, str(batch), str(n)]
            done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
            best[label] = max(best[label], float(done.stdout))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        loop, batch, n = given.work
        print(work(loop, int(batch), int(n)))
        return
    best = measure(given.patches, given.rounds)
    ours = best["hescribe"]
    tuned = max(rate for label, rate in best.items() if label.startswith("tuned"))
    ratios = {"plain loop": ours / best["plain loop"], "tuned loop": ours / tuned}
    if given.json:
        print(json.dumps({"images_per_s": best, "times": ratios, "goals": GOALS}))
        return
    for label, rate in best.items():
        print(f"{label:32s}{rate:8.1f} images/s   hescribe is {ours / rate:5.2f} times as fast")
    for label, goal in GOALS.items():
        print(
            f"{'reached' if ratios[label] >= goal else 'MISSED'}: {ratios[label]:.1f} times the {label}, goal {goal:g}"
        )


if __name__ == "__main__":
    main()
