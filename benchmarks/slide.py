"""Prediction of a slide of 40,000 x 40,000 px: share of the encoder's own throughput, where time goes, peak memory.

The slide is synthetic: tiles of the toy's tissue at 0.5 um per pixel in a pyramid of JPEG tiles, tissue on about two
fifths of it, the rest glass. The model is a ridge on efficientnet_lite0 at 112 um, fitted on a toy cohort. The encoder
alone is measured in the same process as the prediction, before and after it, on patches of the same slide that are
already in memory. Peak memory is that of the process of the prediction.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SIDE_PX, TILE_PX, MPP = 40_000, 256, 0.5
FOV_UM = 112.0
LEVELS = (1, 4, 16, 64)  # as scanners write them
N_ALONE = 256  # patches that the encoder alone is measured on, before and after
TARGET_SHARE, TARGET_GB = 0.85, 2.0


def tissue(seed=0):
    """Return a square of toy tissue without glass, about 2,000 px wide, that can be laid side by side."""
    import numpy as np

    from hescribe.data.toy import toy_cohort

    section = toy_cohort(seed, n_donors=1, n_spots=400, mpp=MPP)[0]
    pixels = section.image.pixels
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4])


def field(n, seed):
    """Return a smooth field from 0 to 1 of n x n tiles."""
    import numpy as np
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(n, n)), n / 14)
    return (noise.argsort(axis=None).argsort() / (n * n - 1)).reshape(n, n)


def tiles(level, textures):
    """Yield the tiles of a level, row by row: tissue where the field is high, tinted from place to place."""
    import numpy as np

    down, texture = LEVELS[level], textures[level]
    n_px, n_full = SIDE_PX // down, -(-SIDE_PX // TILE_PX)
    where, tint = field(n_full, 1) > 0.6, (0.8 + 0.4 * field(n_full, 2)).astype(np.float32)
    glass = np.random.default_rng(3).normal(243, 1.5, (TILE_PX, TILE_PX, 3)).round().astype(np.uint8)
    for row, column in np.ndindex(-(-n_px // TILE_PX), -(-n_px // TILE_PX)):
        y, x = (np.arange(i * TILE_PX, (i + 1) * TILE_PX) for i in (row, column))
        at = np.ix_(*(np.minimum(i * down // TILE_PX, n_full - 1) for i in (y, x)))
        if not where[at].any():
            yield glass
            continue
        tile = texture[np.ix_(y % len(texture), x % len(texture))] / np.float32(255)
        tinted = (255 * tile ** tint[at][:, :, None]).astype(np.uint8)
        yield np.where(where[at][:, :, None], tinted, glass)


def write_slide(path):
    """Write the pyramid tile by tile, in the form of SVS and its like: levels one after the other."""
    import numpy as np
    import tifffile
    from PIL import Image

    fine = tissue()
    side = min(fine.shape[:2]) // max(LEVELS) * max(LEVELS)
    fine = fine[:side, :side]
    textures = [np.asarray(Image.fromarray(fine).reduce(down)) for down in LEVELS]
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        for level, down in enumerate(LEVELS):
            um, side = MPP * down, SIDE_PX // down
            out.write(
                tiles(level, textures), shape=(side, side, 3), dtype=np.uint8, tile=(TILE_PX, TILE_PX),
                compression="jpeg", compressionargs={"level": 85}, photometric="rgb", subfiletype=int(level > 0),
                resolution=(1e4 / um, 1e4 / um), resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip


def fit_model(folder):
    """Fit the ridge on a toy cohort, and return the folder of the model."""
    from hescribe.bench.fitting import fit_model as fit
    from hescribe.bench.ladder import create_model
    from hescribe.bench.model_folder import write_model
    from hescribe.bench.protocols import read_protocol
    from hescribe.data.toy import toy_cohort

    cohort = toy_cohort(0, n_donors=3, n_spots=150, n_genes=100, mpp=MPP)
    write_model(folder, fit(create_model("ridge").with_params(fov_um=(FOV_UM,)), cohort, read_protocol("donor-v1")))


def measure(slide, model, n_spots):
    """Predict the slide, and print times, spots and peak memory, with the encoder alone before and after."""
    import numpy as np

    from hescribe.bench.fitting import predict_table
    from hescribe.bench.model_folder import read_model
    from hescribe.data.slide import open_image
    from hescribe.encode import accelerate
    from hescribe.encode.base import create_encoder
    from hescribe.prep.patches import iter_patches
    from hescribe.prep.tissue import grid_section

    fitted, encoder = read_model(model), create_encoder("efficientnet_lite0")
    spent = [time.perf_counter()]
    section = grid_section(open_image(slide), "slide", FOV_UM)
    section = section.with_table(section.table[:n_spots].copy())
    spent.append(time.perf_counter())
    some = np.linspace(0, section.n_spots - 1, N_ALONE).astype(int)
    patches = np.concatenate(
        list(iter_patches(section.with_table(section.table[some].copy()), FOV_UM, encoder.card.px))
    )
    encoder.encode(patches[:8])

    def alone():
        start = time.perf_counter(), time.process_time()
        encoder.encode(patches)
        return (time.perf_counter() - start[0]) / N_ALONE, (time.process_time() - start[1]) / N_ALONE

    before = alone()
    start = time.perf_counter(), time.process_time()
    table = predict_table(fitted, section)
    used = time.perf_counter() - start[0], time.process_time() - start[1]
    after = alone()
    wall, busy = ((a + b) / 2 for a, b in zip(before, after, strict=True))
    print(
        f"{accelerate.backend(encoder)}: grid laid in {spent[1] - spent[0]:.1f} s; {table.n_obs:,} spots predicted in "
        f"{used[0]:.0f} s ({used[1]:.0f} s of processor)"
    )
    print(f"encoder alone: {1 / before[0]:.1f} patches a second before, {1 / after[0]:.1f} after")
    print(f"share of the encoder's throughput: {wall * table.n_obs / used[0]:.1%} by the clock (target "
          f"{TARGET_SHARE:.0%}), {busy * table.n_obs / used[1]:.1%} by processor time")  # fmt: skip
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB (target {TARGET_GB:g})")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where slide and model are kept between runs")
    parser.add_argument("--spots", type=int, default=10**9, help="predict only the first so many")
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.slide:
        measure(given.slide, given.folder / "model", given.spots)
        return
    folder = given.folder or Path(tempfile.mkdtemp())
    slide = folder / "slide.tif"
    if not slide.exists():
        write_slide(slide)
    if not (folder / "model").exists():
        fit_model(folder / "model")
    with tempfile.TemporaryDirectory() as cache:  # nothing is remembered from an earlier run
        command = [
            sys.executable,
            __file__,
            "--folder",
            str(folder),
            "--slide",
            str(slide),
            "--spots",
            str(given.spots),
        ]
        subprocess.run(command, check=True, env={**os.environ, "HESCRIBE_CACHE": cache})


if __name__ == "__main__":
    main()
