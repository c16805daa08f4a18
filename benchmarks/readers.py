"""Cost of bringing Xenium and Visium HD in, against what a user would write with pandas and a fancy index.

Xenium: 1, 2, 5 and 10 million transcripts of 500 features on a slide of 10 x 8 mm, summed in squares of
55 um; peak memory beside that of ``pandas.read_parquet`` and ``groupby``. Visium HD: a million bins of
2 um summed to 16 um. Each step runs in its own process, so that its peak memory is its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hescribe.memory import peak_mb

SIZES = (1_000_000, 2_000_000, 5_000_000, 10_000_000)
STEPS = ("hescribe", "pandas")
LIMIT_S = 15.0  # for 5,000,000 transcripts


def write_transcripts(path, n):
    """Write a table as Xenium Onboard Analysis 3 does, a million rows at a time."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    names = np.array([f"GENE{i}" for i in range(480)] + [f"NegControlProbe_{i:05d}" for i in range(20)])
    writer = None
    for _ in range(n // 1_000_000):
        columns = {
            "transcript_id": np.arange(1_000_000, dtype=np.uint64),
            "cell_id": np.full(1_000_000, "UNASSIGNED"),
            "feature_name": names[(rng.random(1_000_000) ** 3 * len(names)).astype(int)],
            "x_location": (rng.random(1_000_000) * 10_000).astype(np.float32),
            "y_location": (rng.random(1_000_000) * 8_000).astype(np.float32),
            "z_location": np.full(1_000_000, 12, dtype=np.float32),
            "qv": (rng.random(1_000_000) * 40).astype(np.float32),
        }
        table = pa.table(columns)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=250_000)
    writer.close()


def sum_with_hescribe(path):
    from hescribe.data.readers.transcripts import sum_transcripts

    return int(sum_transcripts(path, 55.0, 20.0).counts.sum())


def sum_with_pandas(path):
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(path)
    table = table[(table.qv >= 20) & ~table.feature_name.str.startswith("NegControl")]
    place = [np.floor(table[c] / 55.0).astype(int) for c in ("y_location", "x_location")]
    return int(table.groupby([*place, "feature_name"]).size().sum())


def pool_bins():
    """Return seconds to sum a million bins of 2 um, and how much of the counts a fancy-index += keeps."""
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from hescribe.data.readers.visium_hd import pool

    side, n_genes = 1000, 2000
    row, column = (a.ravel() for a in np.mgrid[:side, :side])
    places = pd.DataFrame({"array_row": row, "array_col": column})
    places["pxl_row_in_fullres"], places["pxl_col_in_fullres"] = row * 4.0, column * 4.0
    counts = sparse.random(side * side, n_genes, density=0.005, format="csr", dtype=np.float32, random_state=0)
    counts.data[:] = 1
    start = time.perf_counter()
    pooled, _ = pool(counts, places, 8)
    seconds = time.perf_counter() - start
    assert pooled.sum() == counts.sum()
    kept = np.zeros((125 * 125, 1))
    kept[(row // 8) * 125 + column // 8] += counts.sum(axis=1)
    return seconds, float(kept.sum() / counts.sum())


def step(name, path):
    start = time.perf_counter()
    total = {"hescribe": sum_with_hescribe, "pandas": sum_with_pandas}[name](Path(path))
    return {"seconds": time.perf_counter() - start, "peak_mb": peak_mb(), "total": total}


def main():
    """Print the tables."""
    heads = f"{'hescribe s':>11s} {'MB':>6s} {'pandas s':>11s} {'MB':>6s}"
    print(f"{'transcripts':>12s} {heads} {'ratio':>6s} {'us each':>8s}")
    with tempfile.TemporaryDirectory() as folder:
        for n in SIZES:
            path = Path(folder) / "transcripts.parquet"
            write_transcripts(path, n)
            cost = {}
            for s in STEPS:
                done = subprocess.run([sys.executable, __file__, s, path], capture_output=True, text=True, check=True)
                cost[s] = json.loads(done.stdout.splitlines()[-1])
            ours, theirs = cost["hescribe"], cost["pandas"]
            assert ours["total"] == theirs["total"]
            assert n != 5_000_000 or ours["seconds"] < LIMIT_S
            ratio, each_us = theirs["seconds"] / ours["seconds"], 1e6 * ours["seconds"] / n
            costs = (f"{c['seconds']:11.2f} {c['peak_mb']:6.0f}" for c in (ours, theirs))
            print(f"{n:12d} {' '.join(costs)} {ratio:6.1f} {each_us:8.3f}", flush=True)
    seconds, kept = pool_bins()
    print(f"Visium HD: 1,000,000 bins of 2 um summed to 16 um in {seconds:.2f} s; a fancy-index += keeps {kept:.1%}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(step(*sys.argv[1:])))
    else:
        main()
