"""SpaCKLE corrected beside its published layout, and the cost of completion in spots.

Both layouts train on one synthetic cohort in one run, on one core: seconds a pass over its spots, measured on
some of its batches. Sizes run in processes of their own, for their peak memory.
"""

import json
import os
import subprocess
import sys
import time

from hescribe.memory import peak_mb

ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
BATCH = 256


def section(n_spots, n_genes, seed=0):
    """Return a square section with a count in about two of three entries."""
    import numpy as np
    import pandas as pd
    from anndata import AnnData

    from hescribe import keys
    from hescribe.cards import TECHNOLOGIES, SectionCard
    from hescribe.data.section import Section

    rng = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(n_spots), int(n_spots**0.5))
    counts = np.empty((n_spots, n_genes), dtype=np.float32)
    for rows in np.array_split(np.arange(n_spots), n_spots // 1_000 + 1):  # the data must not set the peak
        counts[rows] = rng.poisson(1.1, (len(rows), n_genes))
    names = {"index": np.arange(n_spots).astype(str)}
    obs = pd.DataFrame({keys.ARRAY_ROW: row, keys.ARRAY_COL: col, keys.DEPTH: counts.sum(axis=1) + 50.0}, **names)
    table = AnnData(
        obs=obs,
        var=pd.DataFrame(index=[f"G{g}" for g in range(n_genes)]),
        obsm={keys.SPATIAL_UM: np.column_stack([col, row]) * 100.0},
        layers={keys.COUNTS: counts},
    )
    return Section(f"s{seed}", f"D{seed}", table, None, SectionCard(technology=TECHNOLOGIES["toy"], pitch_um=100.0))


def cohort(n_spots, n_genes, n_sections=4):
    from hescribe.data.cohort import Cohort

    return Cohort(tuple(section(n_spots // n_sections, n_genes, i) for i in range(n_sections)))


def seconds_a_pass(train, n_steps, **params):
    """Return the seconds of a pass over all spots: the time of some batches less that of one, in full passes."""
    from hescribe.complete.spackle import SpackleCompleter

    taken = []
    for steps in (1, 1 + n_steps):
        start = time.perf_counter()
        SpackleCompleter(n_steps=steps, **params).fit(train)
        taken.append(time.perf_counter() - start)
    n_spots = sum(s.n_spots for s in train)
    return (taken[1] - taken[0]) / n_steps * (n_spots / BATCH)


def layouts():
    """Print how much faster the corrected layout trains than the published one."""
    train = cohort(4_096, 128)
    seconds_a_pass(train, 1)  # warm-up
    published = seconds_a_pass(train, 4, legacy_batch_attention=True)
    for precision in ("bfloat16", "float32"):
        ours = seconds_a_pass(train, 16, precision=precision)
        print(
            f"a pass over 4,096 spots x 128 genes: published {published:.1f} s, corrected in {precision} {ours:.1f} s, "
            f"{published / ours:.1f} times as fast"
        )


def in_process(job, *args):
    """Run one of the jobs below in a process of its own and return what it says."""
    done = subprocess.run(
        [sys.executable, __file__, job, *map(str, args)], env=os.environ, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def measured(work):
    """Return what a piece of work takes: seconds, those its process computed, and its memory before and at its peak."""
    before, start, computed = peak_mb(), time.perf_counter(), time.process_time()
    work()
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    return {"seconds": seconds, "computed_s": computed, "peak_mb": peak_mb(), "data_mb": before}


def job_fit(n_spots, n_genes):
    """Train a few batches: memory does not grow with their number."""
    from hescribe.complete.spackle import SpackleCompleter

    train = cohort(n_spots, n_genes)
    return measured(lambda: SpackleCompleter(n_steps=4).fit(train))


def job_estimate(n_spots, n_genes):
    """Complete one section with a completer fitted on a small one."""
    from hescribe.complete.spackle import SpackleCompleter
    from hescribe.data.cohort import Cohort

    completer = SpackleCompleter(n_steps=2).fit(Cohort((section(400, n_genes),)))
    test = section(n_spots, n_genes, 1)
    return measured(lambda: completer.estimate(test))


JOBS = {"fit": job_fit, "estimate": job_estimate}


def sizes():
    """Print seconds and peak memory at growing numbers of spots."""
    for job, n_genes, n_spots in (
        ("fit", 128, 25_000), ("fit", 128, 50_000), ("fit", 128, 100_000),
        ("estimate", 1_000, 25_000), ("estimate", 1_000, 50_000), ("estimate", 1_000, 100_000),
    ):  # fmt: skip
        found = in_process(job, n_spots, n_genes)
        print(
            f"{job} {n_spots:,} spots x {n_genes:,} genes: {found['seconds']:.1f} s, {found['computed_s']:.1f} s of it "
            f"computing, peak {found['peak_mb']:,.0f} MB, {found['data_mb']:,.0f} MB of it before"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(JOBS[sys.argv[1]](*map(int, sys.argv[2:]))))
    else:
        os.environ.update(ONE_CORE)
        layouts()
        sizes()
