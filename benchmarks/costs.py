"""What a tile, a pair and a cell cost on this machine, in seconds of one core: the lines of ``launch/costs.toml``.

Processor seconds of one thread, so that other work on the machine counts little. Tiles are read from a synthetic slide
of JPEG tiles at 0.5 um per pixel; pairs are those of ``benchmarks/streaming.py``; cells are of a synthetic cohort.
Whether a cost is linear is printed beside it: R2 of a straight line through four sizes.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE_PX, MPP, FOV_UM, PX = 12_288, 0.5, 112.0, 224
MODELS = ("mean", "color_ridge", "ridge", "mlp")
SIZES = (0.25, 0.5, 0.75, 1.0)


def busy(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def r2(n, seconds):
    """Return how much of the spread of the seconds a straight line explains."""
    left = np.polyval(np.polyfit(n, seconds, 1), n) - seconds
    return 1 - left.var() / np.var(seconds)


def tell(work, of, seconds, n, note):
    fit = r2(np.array(n), np.array(seconds))
    each = np.polyfit(n, seconds, 1)[0]
    print(f'[[cost]]\nwork = "{work}"\nof = "{of}"\nseconds = {each:.3g}')
    print(f'measured = "{platform.machine()}, {time.strftime("%Y-%m-%d")}, {note}"  # R2 {fit:.4f}\n', flush=True)


def write_slide(path):
    import tifffile

    rng = np.random.default_rng(0)
    tile = rng.normal(190, 25, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    tiles = (np.roll(tile, int(rng.integers(256)), axis=0) for _ in range((SIDE_PX // 256) ** 2))
    tifffile.imwrite(
        path, tiles, shape=(SIDE_PX, SIDE_PX, 3), dtype=np.uint8, tile=(256, 256), photometric="rgb",
        compression="jpeg", resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER",
    )  # fmt: skip


def read_tiles(folder):
    from hescribe.data.slide import open_image

    path = folder / "slide.tif"
    write_slide(path)
    side = np.arange(FOV_UM, SIDE_PX * MPP - FOV_UM, FOV_UM)
    centres = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    image, n = open_image(path), [int(share * len(centres)) for share in SIZES]
    size, mpp = (FOV_UM, FOV_UM), FOV_UM / PX
    read = [busy(lambda k=k: [image.read(x, y, size, mpp) for x, y in centres[:k] - FOV_UM / 2]) for k in n]
    tell("read", "", read, n, "JPEG tiles of 256 px at 0.5 um per pixel, patches of 224 px")


def encode_tiles():
    from hescribe.encode.base import create_encoder

    tiles = np.random.default_rng(0).integers(0, 256, (64, PX, PX, 3), dtype=np.uint8)
    for name in ("efficientnet_lite0", "color"):
        encoder = create_encoder(name)
        encoder.encode(tiles[:, : encoder.card.px, : encoder.card.px])
        n = [int(8 * share) for share in SIZES]
        own = tiles[:, : encoder.card.px, : encoder.card.px]
        seconds = [busy(lambda k=k, e=encoder, x=own: [e.encode(x) for _ in range(k)]) for k in n]
        tell("encode", name, seconds, [64 * k for k in n], "batches of 64")


def learn_pairs(folder):
    from streaming import sections, towers

    from hescribe.train.contrastive import pair_loss
    from hescribe.train.loop import Recipe
    from hescribe.train.shards import write_pairs
    from hescribe.train.stream import train_towers_on

    n, seconds, recipe = [int(200_000 * share) for share in SIZES], [], Recipe(batch_size=1024)
    for k in n:
        pairs, network = write_pairs(folder / f"pairs{k}", sections(k, 1024)), towers((1024, 1024), "linear")
        seconds.append(busy(lambda p=pairs, w=network: train_towers_on(w, p, pair_loss, recipe, n_epochs=1)))
    tell("pair", "infonce", seconds, n, "an epoch of linear heads on 2 x 1,024 numbers from disk, batches of 1,024")


def run_cells():
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.runner import plan_cells, run_cell
    from hescribe.bench.task import PredictionTask
    from hescribe.data.toy import toy_cohort

    task = PredictionTask(toy_cohort(0, n_donors=8, n_spots=200), read_protocol("donor-v1"))
    for model in MODELS:
        cells = plan_cells(task, (model,))
        run_cell(task, cells[0].fold, cells[0].model, 0)  # once unmeasured: features
        n = [round(len(cells) * share) for share in SIZES]
        seconds = [busy(lambda x=x: [run_cell(task, c.fold, c.model, 0) for c in x]) for x in (cells[:k] for k in n)]
        tell("cell", model, seconds, n, "7 synthetic train sections of 200 spots, 250 genes, features cached")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "read": lambda: read_tiles(folder),
            "encode": encode_tiles,
            "pair": lambda: learn_pairs(folder),
            "cell": run_cells,
        }
        parser.add_argument("parts", nargs="*", help=", ".join(parts))
        for part in parser.parse_args().parts or parts:
            parts[part]()


if __name__ == "__main__":
    main()
