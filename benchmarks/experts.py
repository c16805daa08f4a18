"""Experts: whether they earn their place, and how long clustering and routing take.

Parts: ways (a generalist, a wider one, experts used in every way, the published mixture, and an oracle; donors held out
in turn; of ``toy:100-102``, two donors of each of four organs, synthetic, or of the path of an imported cohort); speed
(two-stage clustering of features on disk against scikit-learn's MiniBatchKMeans of one stage, in one run, and routing);
and with --regions how few labelled spots tell a pathologist's regions. Intervals are bootstraps over donors;
differences are paired by donor.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

ORGANS = ("breast", "colon", "kidney", "lymph_node")


def folds_of(name, organs, n_donors):
    """Return the folds of a cohort, or of several toy cohorts, each with its cohort's name."""
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.folder import read_cohort
    from hescribe.data.toy import toy_cohort

    if name.startswith("toy:"):
        first, _, last = name.removeprefix("toy:").partition("-")
        seeds = range(int(first), int(last or first) + 1)
        cohorts = (toy_cohort(seed, n_donors=n_donors, organs=organs) for seed in seeds)
    else:
        cohorts = (read_cohort(Path(name), with_image=True),)
    for cohort in cohorts:
        for fold in PredictionTask(cohort, read_protocol("donor-v1")).folds():
            yield cohort.card.id, fold


def compare(name, given):
    """Print every way of a cohort: scores, and what each is above the generalist and the published mixture."""
    from hescribe.align.bleep import BleepAligner
    from hescribe.align.spade import SpadeAligner
    from hescribe.bench.routing import compare_ways

    spade = SpadeAligner(
        aligner=BleepAligner(), encoder=given.encoder, n_experts=given.experts, outside=given.outside,
        epochs=given.epochs, tune_epochs=given.tune_epochs, standardise=given.standardise,
    )  # fmt: skip
    scores, start, last = [], time.process_time(), None
    for seed in range(given.seeds):
        for cohort, fold in folds_of(name, ORGANS[: given.organs], given.donors):
            if last not in {None, cohort}:
                print_table(scores, f"{name} so far")
            found, last = compare_ways(spade.with_params(seed=seed), fold), cohort
            scores += [replace(s, donor=f"{cohort}/{s.donor}") for s in found]
            done = {s.way: s.auc for s in found}
            setting = next(s.setting for s in found if s.setting)
            line = " ".join(f"{way} {value:.3f}" for way, value in done.items())
            print(f"# {cohort} {fold.name} experts {found[0].n_experts} chosen ({setting}): {line}", flush=True)
    print_table(scores, f"{name}, {given.seeds} seeds, {time.process_time() - start:.0f} s of processor")


def print_table(scores, title):
    """Print the mean of every way over donors, and what it is above two of them."""
    from hescribe.bench.routing import WAYS
    from hescribe.metrics.stats import donor_mean

    print(f"\n{title}: {len({s.donor for s in scores})} donors")
    for metric in ("auc", "auc_without_depth", "pearson"):
        by_way = {way: donor_mean([(s.donor, getattr(s, metric)) for s in scores if s.way == way]) for way in WAYS}
        print(f"{metric}: way, value [interval], above the generalist, above legacy")
        for way, mean in by_way.items():
            if np.isfinite(mean.value):
                gains = f"{above(by_way, way, 'generalist')}  {above(by_way, way, 'legacy')}"
                print(f"  {way:12s} {spread(mean)}  {gains}", flush=True)


def spread(mean):
    return f"{mean.value:.4f} " + ("" if mean.low is None else f"[{mean.low:.4f}, {mean.high:.4f}]")


def above(by_way, way, other):
    """Return by how much a way is above another one, paired by donor."""
    from hescribe.metrics.stats import donor_mean

    base = by_way[other].by_donor
    gain = donor_mean([(d, v - base[d]) for d, v in by_way[way].by_donor.items()])
    interval = "" if gain.low is None else f" [{gain.low:+.4f}, {gain.high:+.4f}]"
    return f"{gain.value:+.4f}{interval}" if way != other else "-"


def regions(path, given):
    """Print how well few labelled spots tell a pathologist's regions, from frozen and from aligned embeddings.

    Images: of a section with image and labels, whose donor no aligner has seen; labelled spots are drawn from one half
    of it, left or right, and the other is told. Expression: of donors that no aligner has seen, from labelled spots of
    the others.
    """
    from hescribe.align.bleep import BleepAligner
    from hescribe.align.spade import SpadeAligner
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.region_shots import LabelledSpots
    from hescribe.bench.task import PredictionTask
    from hescribe.data.folder import read_cohort
    from hescribe.encode.features import embed_section
    from hescribe.encode.gene.base import encode_section
    from hescribe.prep.genes import to_panel

    cohort = read_cohort(path, with_image=True)
    every = read_cohort(path)
    labelled = [s for s in every if "region" in s.table.obs and s.table.obs["region"].notna().any()]
    spade = SpadeAligner(epochs=given.epochs, tune_epochs=given.tune_epochs, strength=1.0, temperature=0.1, n_experts=4)
    with_image = [s for s in cohort if s.id in {t.id for t in labelled}]
    for fold in PredictionTask(cohort, read_protocol("donor-v1")).folds():
        section = next((s for s in with_image if s.donor in fold.test.donors), None)
        if section is None:
            continue
        bleep = BleepAligner(epochs=given.epochs + given.tune_epochs).fit(fold.train)
        mixed = spade.fit(fold.train)
        of_image = {
            "frozen features": embed_section(section, given.encoder), "bleep": bleep.embed_image(section.blind()),
            "spade": mixed.embed_image(section.blind()),
        }  # fmt: skip
        print(
            f"\nregions of {section.id} from images, halves told from each other; aligners fitted on "
            f"{', '.join(fold.train.donors)}"
        )
        region, along = section.table.obs["region"].astype(str).to_numpy(), section.xy_um[:, 0]
        left = along < np.median(along)
        for name, x in of_image.items():
            halves = [LabelledSpots(side, x[m], region[m]) for side, m in (("left", left), ("right", ~left))]
            print_shots(name, [([halves[0]], halves[1]), ([halves[1]], halves[0])], (1, 2, 4))
    task = PredictionTask(cohort, read_protocol("donor-v1"))
    train = task.on_panel(task.prepared, task.choose_genes(task.prepared))
    bleep = BleepAligner(epochs=given.epochs + given.tune_epochs).fit(train)
    pca = bleep.gene_encoder.with_params().fit(train)
    unseen = [to_panel(s, train.genes) for s in labelled if s.donor not in train.donors]
    print(f"\nregions from expression, {len(unseen)} donors that no aligner has seen, each told from the others")
    for name, embed in (("pca", lambda s: encode_section(pca, s)), ("bleep, spade", bleep.embed_expression)):
        spots = [LabelledSpots(s.donor, embed(s), s.table.obs["region"].astype(str).to_numpy()) for s in unseen]
        print_shots(name, [([o for o in spots if o is not s], s) for s in spots], (1, 2, 4, 8, 16))


def print_shots(name, sides, shots):
    """Print the curve of an embedding: mean and interval over donors, or the values where there are two."""
    from hescribe.bench.region_shots import score_shots
    from hescribe.metrics.stats import donor_mean

    scores = [s for train, test in sides for s in score_shots(train, test, shots=shots)]
    for k in shots:
        mean = donor_mean([(s.donor, s.auc) for s in scores if s.k == k])
        values = " ".join(f"{d} {v:.3f}" for d, v in mean.by_donor.items())
        print(f"  {name:16s} k = {k:2d}  AUC {spread(mean)}  {values}", flush=True)


def speed(n_tiles, n_dims, n_organs):
    """Print seconds and memory of clustering features on disk, of scikit-learn's on the same, and of routing."""
    from sklearn.cluster import MiniBatchKMeans

    from hescribe.experts.clustering import BLOCK, NpyTiles, blocks, fit_clusters
    from hescribe.experts.routing import Router
    from hescribe.memory import peak_mb

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        organs = {}
        places = rng.normal(size=(40, n_dims)).astype(np.float32)
        for i in range(n_organs):
            path, n = Path(folder) / f"{i}.npy", n_tiles // n_organs
            with path.open("wb") as out:
                np.lib.format.write_array_header_1_0(
                    out, {"descr": "<f4", "fortran_order": False, "shape": (n, n_dims)}
                )
                for begin in range(0, n, BLOCK):
                    m = min(BLOCK, n - begin)
                    out.write((places[rng.integers(0, 40, m)] + rng.normal(size=(m, n_dims))).astype("<f4").tobytes())
            organs[str(i)] = NpyTiles(path)
        print(f"\n{n_tiles} tiles x {n_dims} ({n_tiles * n_dims * 4 / 1e9:.1f} GB on disk), {n_organs} organs")
        before, load = peak_mb(), os.getloadavg()[0]
        start, cpu = time.perf_counter(), time.process_time()
        found = fit_clusters(organs, n_fine=16, n_experts=16)
        print(
            f"two stages: {time.perf_counter() - start:.0f} s ({time.process_time() - cpu:.0f} s of processor, "
            f"load {load:.1f}), peak memory {before:.0f} -> {peak_mb():.0f} MB", flush=True,
        )  # fmt: skip
        router = Router(found, None, found.near)
        start, cpu = time.perf_counter(), time.process_time()
        n = sum(len(router.weights(x, 0.1)) for tiles in organs.values() for x in blocks(tiles))
        print(
            f"routing of {n} tiles from disk: {time.perf_counter() - start:.0f} s "
            f"({time.process_time() - cpu:.0f} s of processor)",
            flush=True,
        )
        start, cpu = time.perf_counter(), time.process_time()
        inertia = 0.0
        for tiles in organs.values():
            other = MiniBatchKMeans(16, batch_size=BLOCK, random_state=0, n_init=3)
            for x in blocks(tiles):
                other.partial_fit(x)
            inertia += sum(float(np.min(other.transform(x), axis=1).sum()) for x in blocks(tiles))
        own = sum(float(found.nearest(x)[1].sum()) for tiles in organs.values() for x in blocks(tiles))
        print(
            f"MiniBatchKMeans within organs alone: {time.perf_counter() - start:.0f} s "
            f"({time.process_time() - cpu:.0f} s of processor, both evaluations included); mean distance from the "
            f"nearest centre {inertia / n:.3f}, ours {own / n:.3f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="*", help="toy:100-102, paths of cohorts, or speed")
    parser.add_argument("--regions", action="store_true", help="tell regions of the cohorts instead of comparing ways")
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--experts", type=int, help="number; chosen by stability without")
    parser.add_argument("--outside", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tune-epochs", type=int, default=5)
    parser.add_argument("--standardise", default="train")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--organs", type=int, default=4)
    parser.add_argument("--donors", type=int, default=8, help="of each toy cohort")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(1_000_000, 1024, 15), help="tiles, dims, organs of speed"
    )
    given = parser.parse_args()
    for name in given.cohorts or ("toy:100-102", "speed"):
        if name == "speed":
            speed(*given.shape)
        elif given.regions:
            regions(Path(name), given)
        else:
            compare(name, given)


if __name__ == "__main__":
    main()
