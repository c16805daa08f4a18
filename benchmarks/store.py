"""A store of a million rows: what joining its cells saves a report, and what a query of it takes.

Rows are synthetic, of 10,000 cells with 100 rows each: 50 models, 20 donors and 10 seeds. Arguments: --cells N.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.store import Row, Store, cell_key
from hescribe.bench.task import PredictionTask
from hescribe.report.page import write_report
from hescribe.testing.cohorts import raw_colour_cohort

GENES = [f"G{i}" for i in range(32)]
METRICS = {"pearson": True, "pearson_depth_partial": True, "mse": False}
N_SEEDS, N_DONORS = 10, 20


def seconds(work, *args):
    start = time.perf_counter()
    found = work(*args)
    return time.perf_counter() - start, found


def rows_of(model, donor, seed, rng):
    base = {
        "task": "colour", "protocol": "donor-v1", "revision": "1", "fold": donor, "section": f"{donor}S",
        "donor": donor, "model": model, "method": "ridge", "control": "",
        "params": json.dumps({"alpha": 100.0, "encoder": "color", "seed": seed}),
        "seed": seed, "n_defined": 32, "n_undefined": 0, "chance": 0.0, "ceiling": 0.6, "pool_size": 0,
        "version": "0", "data_hash": "synthetic", "schema_version": 1,
        "device": "cpu", "seconds": 1.0, "peak_mb": 100.0,
    }  # fmt: skip
    return [
        Row(**base, metric=metric, gene=gene, value=float(rng.normal(0.3, 0.1)))
        for metric, by_gene in METRICS.items()
        for gene in ["", *(GENES if by_gene else [])]
    ]


def fill(path, n_cells):
    """Write cells, and a plan that names them all; return the number of rows."""
    rng, store, plan, n_rows = np.random.default_rng(0), Store(path), [], 0
    for i in range(n_cells):
        model, donor, seed = f"model{i // (N_DONORS * N_SEEDS)}", f"D{i // N_SEEDS % N_DONORS}", i % N_SEEDS
        rows = rows_of(model, donor, seed, rng)
        key = cell_key(model=model, donor=donor, seed=seed)
        store.write(key, rows, {})
        plan.append({"key": key, "fold": donor, "model": model, "method": "ridge", "seed": seed})
        n_rows += len(rows)
    task = PredictionTask(raw_colour_cohort(2, 1), read_protocol("donor-v1"))
    head = {"suite": "prediction", "task": asdict(task.card), "protocol": task.rules, "data_hash": "synthetic"}
    (path / "run.json").write_text(json.dumps({**head, "version": "0", "cells": plan}))
    (path / "study.toml").write_text(f'cohort = "none"\nout = "{path}"\n')
    return n_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=14_925)  # of 67 rows each
    n_cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        wrote, n_rows = seconds(fill, path, n_cells)
        print(
            f"{n_rows:,} rows of {n_cells:,} cells, written in {wrote:.1f} s ({1000 * wrote / n_cells:.1f} ms a cell)"
        )
        alone, before = seconds(lambda: Results(path).rows)
        joined, _ = seconds(Store(path).join)
        size = sum(f.stat().st_size for f in (path / "joined").iterdir()) / 1e6
        read, after = seconds(lambda: Results(path).rows)
        assert before.equals(after)
        print(f"read as single files {alone:.1f} s; joined in {joined:.1f} s to {size:.0f} MB, read in {read:.1f} s")
        print(f"bench report: {seconds(write_report, Results(path))[0]:.1f} s (10 asked for)")
        import duckdb

        rows = duckdb.read_parquet(str(path / "joined/*.parquet"))
        of_metric = rows.filter("metric = 'mse'")
        took, _ = seconds(lambda: of_metric.aggregate("model, avg(value)").fetchall())
        print(f"mean of a metric by model in DuckDB: {took:.2f} s")


if __name__ == "__main__":
    main()
