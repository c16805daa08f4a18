"""The published predictors beside ridges and controls: scores by donor, without depth, seconds and memory.

Needs real data beside the checkout (../shared/data). A donor held out (donor-v1); networks at the size that a CPU can
walk, and at the paper's where that is one too. Arguments: cohorts (her2st, stutility_mob), then --seeds N and
--models a,b.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
CARDS = {"her2st": None, "stutility_mob": "stutility_mob"}  # by cohort; its files do not say what it is
MODELS = (
    "mean", "color_ridge", "encoder_ridge", "context_ridge", "shuffled_pairs", "depth_oracle", "peka",
    "deepspot:size=small", "sepal", "eggn", "eggn:size=small", "triplex:size=small", "egn:size=small",
    "histogene:size=small", "hist2st:size=small:epochs=10",
)  # fmt: skip


def show(cohort, models, seeds, out):
    """Run the models and print a line for each."""
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.results import Results
    from hescribe.bench.runner import run_study
    from hescribe.bench.task import PredictionTask

    task = PredictionTask.read(cohort, read_protocol("donor-v1"))
    run_study(task, models, out, seeds=tuple(range(seeds)))
    results = Results(out)
    folds = results.rows["fold"].nunique()
    print(f"\n{task.cohort.card.id}, donor-v1, {folds} donors, {seeds} seeds")
    for model in models:
        scores = {s.metric: s for s in results.scores if s.model == model}
        rows = results.rows[results.rows["model"] == model]
        seconds = rows.groupby(["fold", "seed"])["seconds"].first().mean()
        donors = " ".join(f"{d} {v:.3f}" for d, v in scores["pearson"].by_donor.items())
        said = [f"{scores[m].value:6.3f}" if scores[m].value is not None else "     -" for m in METRICS]
        print(
            f"  {model:22s} {' '.join(said)}  {donors:32s} {seconds:6.1f} s {rows['peak_mb'].max():6.0f} MB", flush=True
        )


METRICS = ("pearson", "pearson_depth_partial", "mse")


def main():
    """Import the cohorts and print the ladders."""
    from hescribe.data.importing import import_cohort

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="*", choices=list(CARDS), default=["stutility_mob"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    given = parser.parse_args()
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    for name in given.cohorts:
        if not (data / name).is_dir():
            print(f"skipped: {data / name} is not there")
            continue
        with tempfile.TemporaryDirectory() as folder:
            import_cohort(data / name, "st", Path(folder) / name, card=CARDS[name])
            show(Path(folder) / name, tuple(given.models.split(",")), given.seeds, Path(folder) / "results")


if __name__ == "__main__":
    main()
