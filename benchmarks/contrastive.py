"""BLEEP and mclSTExp, corrected and published, beside kNN, ridges and controls: scores, seconds and memory.

Needs real data beside the checkout (../shared/data). Under donor-v1 and under the protocol that mclSTExp was published
with, on frozen features of 154 um patches (the published 224 px at the scale of her2st). Every contrastive model and
kNN are also fitted on shuffled pairs. Arguments: cohorts (her2st, stutility_mob), then --seeds N, --protocols a,b,
--models a,b.
"""

import argparse
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
CARDS = {"her2st": None, "stutility_mob": "stutility_mob"}  # by cohort; its files do not say what it is
FOV_UM = (154.0,)


def models():
    """Return the models by the name they get in the table."""
    from hescribe.bench.ladder import ShuffledPairs, create_model
    from hescribe.predict.bleep import BleepPredictor
    from hescribe.predict.knn import KNNPredictor
    from hescribe.predict.mclstexp import MclstexpPredictor
    from hescribe.predict.ridge import RidgePredictor

    contrastive = {
        "bleep": BleepPredictor(fov_um=FOV_UM),
        "bleep legacy": BleepPredictor(fov_um=FOV_UM, legacy=True),
        "bleep legacy 100 epochs": BleepPredictor(fov_um=FOV_UM, legacy=True, epochs=100),
        "mclstexp": MclstexpPredictor(fov_um=FOV_UM),
        "mclstexp legacy": MclstexpPredictor(fov_um=FOV_UM, legacy=True),
        "knn": KNNPredictor(fov_um=FOV_UM),
    }
    shuffled = {f"{n} shuffled": ShuffledPairs(base=m) for n, m in contrastive.items() if "epochs" not in n}
    others = {
        "ridge": RidgePredictor(fov_um=FOV_UM),
        "colour ridge": create_model("color_ridge"),
        "context": create_model("context_ridge"),
    }
    return contrastive | others | shuffled | {n: create_model(n) for n in ("mean", "depth_oracle")}


def score(task, name, model, seeds):
    """Return the scores of a model by metric, each seed a row; its seconds of one core a fold, and its peak in MB."""
    import numpy as np
    import pandas as pd

    from hescribe.bench.runner import run_cell
    from hescribe.bench.runs import has_seed
    from hescribe.bench.scores import score_table

    values, taken, peak = [], [], 0.0
    for seed in range(seeds if has_seed(model) else 1):
        seeded = model.with_params(seed=seed) if has_seed(model) else model
        rows = []
        for fold in task.folds():
            start = time.process_time()
            rows += run_cell(task, fold, seeded, seed, name=name).rows
            taken.append(time.process_time() - start)
        peak = max(r.peak_mb for r in rows)
        scores = score_table(pd.DataFrame([asdict(r) for r in rows]), average=task.protocol.average)
        values.append({s.metric: s.value for s in scores})
    return pd.DataFrame(values).astype(float), float(np.mean(taken)), peak


def table(cohort, protocol, chosen, seeds):
    """Print a line for each model under a protocol."""
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask

    task = PredictionTask.read(cohort, read_protocol(protocol))
    print(
        f"\n{task.cohort.card.id}, {protocol}, {seeds} seeds: mean and sd over seeds, seconds of a core a fold, peak MB"
    )
    for name, model in models().items():
        if chosen and name not in chosen:
            continue
        values, seconds, peak = score(task, name, model, seeds)
        shown = [
            f"{metric} {values[metric].mean():6.3f} +- {values[metric].std(ddof=0):.3f}"
            for metric in ("pearson", "pearson_top50", "pearson_depth_partial", "mse")
            if metric in values
        ]
        print(f"  {name:26s} {'  '.join(shown)}  {seconds:6.1f} s {peak:6.0f} MB", flush=True)


def main():
    """Import the cohorts and print the tables."""
    from hescribe.data.importing import import_cohort

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="*", choices=list(CARDS), default=["her2st"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--protocols", default="donor-v1")
    parser.add_argument("--models", default="")
    given = parser.parse_args()
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    for name in given.cohorts:
        if not (data / name).is_dir():
            print(f"skipped: {data / name} is not there")
            continue
        with tempfile.TemporaryDirectory() as folder:
            import_cohort(data / name, "st", Path(folder) / name, card=CARDS[name])
            for protocol in given.protocols.split(","):
                table(Path(folder) / name, protocol, [m for m in given.models.split(",") if m], given.seeds)


if __name__ == "__main__":
    main()
