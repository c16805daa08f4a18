"""The steps of the preparation beside what a user would take instead, and their cost in spots.

Each contender runs in its own process, on one core, after a small warm-up run that loads and compiles
what it needs: best of several runs, and the peak memory of its process. Results are compared in the parent.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hescribe.memory import peak_mb

ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
REPEATS = 3


def grid_graph(n_spots):
    """Return the 8-neighbour graph of a square array of about as many spots, rows adding up to 1."""
    import numpy as np
    from scipy import sparse

    side = int(n_spots**0.5)
    place = np.arange(side * side).reshape(side, side)
    pairs = [(place[:, :-1], place[:, 1:]), (place[:-1], place[1:])]
    pairs += [(place[:-1, :-1], place[1:, 1:]), (place[:-1, 1:], place[1:, :-1])]
    a, b = (np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
    both = sparse.csr_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(side * side,) * 2)
    return sparse.csr_matrix(sparse.diags(1.0 / np.diff(both.indptr)) @ both)


def counts_of(n_spots, n_genes, *, seed=0, mean=0.1):
    """Return sparse log counts; the share that is not 0 is about ``mean``."""
    import numpy as np
    from scipy import sparse

    side = int(n_spots**0.5) ** 2
    rng = np.random.default_rng(seed)
    n = rng.binomial(side * n_genes, mean)
    where = rng.integers(0, side, n), rng.integers(0, n_genes, n)
    table = sparse.csr_matrix((rng.poisson(1.0, n) + 1.0, where), shape=(side, n_genes), dtype=np.float32)
    table.data = np.log2(1 + table.data)
    return table


def moran_input(n_spots=4_000, n_genes=15_000):
    return counts_of(n_spots, n_genes), grid_graph(n_spots)


def moran_ours(x, graph):
    from hescribe.prep.moran import morans_i

    return morans_i(x, graph)


def moran_squidpy(x, graph):
    import anndata
    import squidpy

    table = anndata.AnnData(x)
    table.obsp["spatial_connectivities"] = graph
    done = squidpy.gr.spatial_autocorr(table, mode="moran", n_perms=None, copy=True, show_progress_bar=False)
    return done.loc[table.var_names, "I"].to_numpy()


def combat_input(n_spots=40_000, n_genes=128, n_batches=20):
    import numpy as np

    rng = np.random.default_rng(0)
    batch = np.repeat(np.arange(n_batches), n_spots // n_batches)
    effect = rng.normal(0, 0.5, (n_batches, n_genes))
    return rng.gamma(3.0, 1.0, (len(batch), n_genes)) + effect[batch], batch


def combat_ours(x, batch):
    from hescribe.prep.batch import Combat

    return Combat().fit(x, batch).transform(x, batch)


def combat_scanpy(x, batch):
    import anndata
    import pandas as pd
    import scanpy

    obs = pd.DataFrame({"batch": pd.Categorical(batch)}, index=[str(i) for i in range(len(batch))])
    return scanpy.pp.combat(anndata.AnnData(x, obs=obs), "batch", inplace=False)


def median_input(n_spots=4_000, n_genes=300):
    return counts_of(n_spots, n_genes, mean=0.6).toarray(), grid_graph(n_spots)


def median_ours(x, graph):
    from hescribe.prep.denoise import adaptive_median

    return adaptive_median(x, graph)


def median_loop(x, graph):
    """Fill spot by spot, all genes at once, and stop at the window that fills the last gap."""
    import numpy as np

    out = x.copy()
    general = np.array([np.median(column[column != 0]) if column.any() else 0 for column in x.T])
    for i in range(len(x)):
        gaps, near, edge = x[i] == 0, {i}, {i}
        for _ in range(4):
            if not gaps.any():
                break
            edge = {int(j) for k in edge for j in graph.indices[graph.indptr[k] : graph.indptr[k + 1]]} - near
            near |= edge
            median = np.median(x[list(near)], axis=0)
            fill = gaps & (median != 0)
            out[i, fill] = median[fill]
            gaps &= ~fill
        out[i, gaps] = general[gaps]
    return out


class Contest(NamedTuple):
    """What both are given, the two, and the target: times as fast, equal to a tolerance, no more memory."""

    make: Callable
    ours: Callable
    theirs: Callable
    ratio: int
    tolerance: float
    no_more_memory: bool = False


CONTESTS = {
    "Moran's I, squidpy, 4,000 x 15,000": Contest(
        moran_input, moran_ours, moran_squidpy, 12, 1e-6, no_more_memory=True
    ),
    "ComBat, scanpy, 20 x 2,000 x 128": Contest(combat_input, combat_ours, combat_scanpy, 3, 1e-4),
    "adaptive median, loop, 4,000 x 300": Contest(median_input, median_ours, median_loop, 3, 0.0),
}


def spared_cohort(n_sections=20, n_rows=40, n_cols=50, n_genes=12_000):
    """Return slides of four donors on a square array; a third of the genes have a gradient."""
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    from hescribe import keys
    from hescribe.cards import TECHNOLOGIES, SectionCard
    from hescribe.data.cohort import Cohort
    from hescribe.data.section import Section

    row, col = (a.ravel() for a in np.mgrid[:n_rows, :n_cols])
    sections = []
    for i in range(n_sections):
        rng = np.random.default_rng(i)
        rate = np.sort(rng.lognormal(-3.0, 1.8, n_genes))[::-1]
        fall = np.where(np.arange(n_genes) % 3 == 0, (row[:, None] + 1) / n_rows, 1.0)
        counts = sparse.csr_matrix(rng.poisson(rate * fall * rng.lognormal(0, 0.4, (len(row), 1))).astype(np.int32))
        table = AnnData(
            obs=pd.DataFrame({keys.ARRAY_ROW: row, keys.ARRAY_COL: col}, index=[str(k) for k in range(len(row))]),
            var=pd.DataFrame(index=[f"G{g}" for g in range(n_genes)]),
            obsm={keys.SPATIAL_UM: np.column_stack([col, row]) * 200.0},
            layers={keys.COUNTS: counts},
        )
        sections.append(Section(f"s{i:02d}", f"D{i % 4}", table, None, SectionCard(technology=TECHNOLOGIES["toy"])))
    return Cohort(tuple(sections))


def run_pipeline():
    """Return the seconds and the facts of one whole preparation; the cohort is made before the clock starts."""
    from hescribe.prep.spared import SparedPreparation

    cohort = spared_cohort()
    before = peak_mb()
    start = time.perf_counter()
    preparation = SparedPreparation(lengths="none").fit(cohort)
    prepared = preparation.transform(cohort)
    seconds = time.perf_counter() - start
    n_passed, shape = len(preparation.panels_.passed), (sum(s.n_spots for s in prepared), len(prepared.genes))
    return {"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before, "n_passed": n_passed, "shape": shape}


def measure(function, given):
    """Return the result, the best time of some runs, and the peak memory before and after."""
    before, seconds = peak_mb(), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = function(*given)
        seconds.append(time.perf_counter() - start)
    return result, {"seconds": min(seconds), "peak_mb": peak_mb(), "before_mb": before}


def run_contender(function, make):
    """Measure one side of a contest, and save its result."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(*make(n_spots=400, n_genes=20))
        result, cost = measure(function, make())
    np.save(os.environ["RESULT"], result)
    return cost


def run_scaling(name, n_spots):
    """Measure one step on 20 genes."""
    make = {"moran": moran_input, "median": median_input, "combat": combat_input}[name]
    function = {"moran": moran_ours, "median": median_ours, "combat": combat_ours}[name]
    function(*make(n_spots=400, n_genes=20))
    return measure(function, make(n_spots=n_spots, n_genes=20))[1]


def in_own_process(*words, result=""):
    """Return what this script says when it is called with these words."""
    environment = {**os.environ, **ONE_CORE, "RESULT": str(result)}
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder):
    """Print the contests."""
    import numpy as np

    heads = ("ours s", "theirs s", "ratio", "ours MB", "theirs MB", "differ by")
    print(f"{'one core, best of ' + str(REPEATS):38s}" + "".join(f"{h:>10s}" for h in heads) + "  target")
    for number, (name, contest) in enumerate(CONTESTS.items()):
        paths = [folder / f"{number}{side}.npy" for side in ("a", "b")]
        ours, theirs = (in_own_process("contest", number, k, result=p) for k, p in enumerate(paths, start=1))
        a, b = map(np.load, paths)
        difference = np.nanmax(np.abs(a - b)) if (np.isnan(a) == np.isnan(b)).all() else np.inf
        ratio = theirs["seconds"] / ours["seconds"]
        met = ratio >= contest.ratio and difference <= contest.tolerance
        target = f"{contest.ratio} times, equal to {contest.tolerance:g}"
        if contest.no_more_memory:
            met &= ours["peak_mb"] <= theirs["peak_mb"]
            target += ", no more memory"
        row = f"{name:38s}{ours['seconds']:10.3f}{theirs['seconds']:10.3f}{ratio:10.1f}"
        row += f"{ours['peak_mb']:10.0f}{theirs['peak_mb']:10.0f}{difference:10.0e}"
        print(f"{row}  {target}: {'met' if met else 'MISSED'}", flush=True)


def main():
    """Print the tables."""
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name))
    print(f"\n{'20 genes':8s} {'spots':>8s} {'s':>8s} {'us/spot':>8s} {'peak MB':>8s}")
    for step in ("moran", "median", "combat"):
        for n_spots in (10_000, 100_000, 1_000_000):
            cost = in_own_process("scaling", step, n_spots)
            per_spot = 1e6 * cost["seconds"] / n_spots
            print(f"{step:8s} {n_spots:8d} {cost['seconds']:8.3f} {per_spot:8.2f} {cost['peak_mb']:8.0f}", flush=True)
    whole = in_own_process("pipeline")
    met = whole["seconds"] < 60 and whole["peak_mb"] < 4096
    print(
        f"\nSpaRED, 20 slides x 2,000 spots x 12,000 genes: {whole['seconds']:.1f} s, peak {whole['peak_mb']:.0f} MB "
        f"(the cohort itself {whole['before_mb']:.0f}); {whole['n_passed']} genes pass, result {whole['shape']}; "
        f"target 60 s, 4 GB: {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["contest", number, who]:
            contest = list(CONTESTS.values())[int(number)]
            print(json.dumps(run_contender(contest[int(who)], contest[0])))
        case ["scaling", step, n_spots]:
            print(json.dumps(run_scaling(step, int(n_spots))))
        case ["pipeline"]:
            print(json.dumps(run_pipeline()))
        case _:
            main()
