"""The default predictor on synthetic cohorts: its ablation, its rivals, and what of the image can be said at all.

Arguments: --seeds 0-9 (those it was designed on; reports are made on 100-109), --models "a;b" (predictors or rungs,
with parameters behind colons). For every model the mean over donors of Pearson's correlation, plain and without depth,
how far the first model is ahead with its 95 % interval over donors, the share of what the visible truth scores, and
the seconds of a fold.
"""

import argparse
import json
import os
import time
from collections import defaultdict

os.environ.setdefault("OMP_NUM_THREADS", "1")
N_DONORS = 4
ABLATION = (
    "default",
    *(f"default:views={json.dumps(views)}" for views in (
        ["color"], ["color_context"], ["encoder"], ["encoder_context"], ["color", "encoder"],
        ["color_context", "encoder_context"], ["color", "encoder_context"],
    )),
    "default:n_rings=1",
)  # fmt: skip
RIVALS = ("color_ridge", "encoder_ridge", "encoder_knn", "context_ridge")
METRICS = ("pearson", "pearson_depth_partial")


def score(seed, models):
    """Return plain and depth-free correlation of every model for each donor of a cohort, and seconds of a fold."""
    import numpy as np

    from hescribe import keys
    from hescribe.bench.ladder import create_model, is_control
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.toy import toy_cohort
    from hescribe.metrics.base import MetricContext, all_metrics

    values, seconds = defaultdict(list), defaultdict(list)
    for fold in PredictionTask(toy_cohort(seed, n_donors=N_DONORS), read_protocol("donor-v1")).folds():
        for model in (*models, "visible truth"):
            start = time.process_time()
            fitted = create_model(model).fit(fold.train) if model != "visible truth" else None
            parts = []
            for s in fold.test:
                given = s if fitted is not None and is_control(fitted) else s.blind()
                y_pred = fitted.predict(given).mean[s.kept] if fitted else s.layer("truth_visible")
                context = MetricContext(depth=s.depth[s.kept])
                parts.append([np.nanmean(all_metrics()[m](s.layer(keys.TARGET), y_pred, context)) for m in METRICS])
            values[model].append(np.mean(parts, axis=0))
            seconds[model].append(time.process_time() - start)
    return values, seconds


def main():
    """Print the table."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-1")
    parser.add_argument("--models", default=";".join((*ABLATION, *RIVALS)), help="separated by semicolons")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    models = tuple(given.models.split(";"))
    values, seconds = defaultdict(list), defaultdict(list)
    for seed in range(int(first), int(last or first) + 1):
        for all_of, found in zip((values, seconds), score(seed, models), strict=True):
            for model, part in found.items():
                all_of[model] += part
    rng = np.random.default_rng(0)
    table = {model: np.array(v) for model, v in values.items()}
    n = len(next(iter(table.values())))
    draws = rng.integers(0, n, (2000, n))
    print(f"toy {given.seeds}, {N_DONORS} donors a seed, each held out: {n} donors")
    for model, found in table.items():
        says = f"  {model:52s} {found[:, 0].mean():6.3f} {found[:, 1].mean():6.3f}"
        difference = (table[models[0]] - found)[:, 0]
        low, high = np.quantile(difference[draws].mean(axis=1), (0.025, 0.975))
        share = found[:, 0].mean() / table["visible truth"][:, 0].mean()
        ahead = f"{models[0]} ahead by {difference.mean():6.3f} [{low:6.3f}, {high:6.3f}]"
        print(f"{says}  {ahead}  {share:4.0%} of visible  {np.mean(seconds[model]):5.1f} s")


if __name__ == "__main__":
    main()
