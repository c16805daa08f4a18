"""What a launcher costs, and what a second worker brings: seconds for the same 64 units, and what a plan foretold.

Units are synthetic slides that are embedded by efficientnet_lite0, one core a worker: processes of this machine, one
and two, and a Ray cluster of two. A worker reads ahead while it encodes, so that one alone is held to one core. What is
planned is a run of one worker on a quarter of the slides, times four.
Arguments: --slides N, --side-px S.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MPP, PITCH_UM = 0.5, 112.0


def write_slide(path, side_px, seed):
    import tifffile

    rng = np.random.default_rng(seed)
    tile = rng.normal([170, 90, 160], 20, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    glass, n = np.full_like(tile, 243), -(-side_px // 256)
    tifffile.imwrite(
        path, (np.roll(tile, i, axis=0) if i // n else glass for i in range(n * n)), shape=(n * 256, n * 256, 3),
        dtype=np.uint8,
        tile=(256, 256), photometric="rgb", compression="jpeg", resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
    )  # fmt: skip


@contextmanager
def held_to(n_cores):
    """Let this process and those it starts use so many cores, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:n_cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def embed(slides, out, launcher):
    from hescribe.launch.embedding import Embedding, embed_slides

    start = time.perf_counter()
    job = Embedding(source=str(slides), out=str(out), encoder="efficientnet_lite0", pitch_um=PITCH_UM)
    units = embed_slides(job, launcher)
    failed = [u.failure for u in units if u.failure]
    assert not failed, failed[0]
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=64)
    parser.add_argument("--side-px", type=int, default=4096)
    given = parser.parse_args()
    from hescribe.launch.local import LocalLauncher
    from hescribe.launch.ray import RayLauncher

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, n in (("first", given.slides // 4), ("all", given.slides)):
            (folder / part).mkdir()
            for i in range(n):
                write_slide(folder / part / f"s{i}.tif", given.side_px, i)
        seconds = {}
        for label, slides, launcher in (
            ("quarter, one worker", "first", LocalLauncher(n_workers=1)),
            ("one worker", "all", LocalLauncher(n_workers=1)),
            ("two workers", "all", LocalLauncher(n_workers=2)),
            ("ray, two workers", "all", RayLauncher()),
        ):
            os.environ["HESCRIBE_CACHE"] = str(folder / f"cache {label}")  # features are kept there
            with held_to(1 if "one" in label else 2):
                seconds[label] = embed(folder / slides, folder / label, launcher)
            print(f"{label:20s} {seconds[label]:7.1f} s", flush=True)
    one, two, on_ray = (seconds[k] for k in ("one worker", "two workers", "ray, two workers"))
    planned = seconds["quarter, one worker"] * 4
    print(f"two workers: {one / two:.2f} times one (1.7 asked for)")
    print(f"ray over processes: {100 * (on_ray / two - 1):+.0f} % (10 allowed)")
    print(f"planned from a quarter: {planned:.0f} s for one worker, {planned / 2:.0f} s for two")


if __name__ == "__main__":
    main()
