"""What `hescribe fit auto` picks on toy seeds 0-9, and how that does on four donors that no candidate was scored on.

`behind` is the best candidate's score on the new donors less that of the pick (0: nothing was lost); `too good` the
score that the pick was chosen by less what it reaches on new donors. The rule is set beside taking the highest score,
and must refuse the same cohorts with the pairs of image and expression shuffled. Colour features only: no weights.
"""

from dataclasses import replace

import numpy as np

from hescribe import keys
from hescribe.bench.auto import choose_model
from hescribe.bench.ladder import create_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.task import PredictionTask
from hescribe.data.cohort import Cohort
from hescribe.data.toy import toy_cohort
from hescribe.metrics.gene import PEARSON

SEEDS = range(10)
N_TRAIN, N_NEW = 5, 4  # donors
CANDIDATES = (
    "mean", "position", "color_ridge", "ridge:encoder=color:standardise=section", "knn:encoder=color",
    "context:encoder=color",
)  # fmt: skip
RULE = read_protocol("donor-v1")


def shuffled(cohort):
    """Return the cohort with the expression of every section's spots permuted."""

    def permute(section):
        table = section.table.copy()
        order = np.random.default_rng([*section.id.encode()]).permutation(section.n_spots)
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS][order]
        table.obs[keys.DEPTH] = table.obs[keys.DEPTH].to_numpy()[order]
        return section.with_table(table)

    return cohort.map(permute)


def score_new(name, train, new):
    """Return the Pearson correlation on new donors, mean over genes and donors; 0 where it is undefined."""
    task, other = PredictionTask(train, RULE), PredictionTask(new, RULE)
    genes = task.choose_genes(task.prepared)
    fitted = create_model(name).fit(task.on_panel(task.prepared, genes))
    scores = [
        np.nan_to_num(PEARSON(s.layer(keys.TARGET), fitted.predict(s.blind()).mean[s.kept])).mean()
        for s in other.on_panel(other.prepared, genes)
    ]
    return float(np.mean(scores))


def study(seed):
    """Return what the rule and the highest score pick and lose, and whether chance was refused."""
    whole = toy_cohort(seed, n_donors=N_TRAIN + N_NEW, n_spots=150, mpp=2.0)
    train = Cohort(whole[:N_TRAIN], replace(whole.card, id=f"train-{seed}"))
    new = Cohort(whole[N_TRAIN:], replace(whole.card, id=f"new-{seed}"))
    choice = choose_model(train, RULE, CANDIDATES)
    by_cv = {c.model: c.score for c in choice.candidates}
    on_new = {"mean": 0.0, **{name: score_new(name, train, new) for name in CANDIDATES[1:]}}
    highest = max(by_cv, key=by_cv.get)
    line = {"seed": seed, "picked": choice.picked, "highest": highest, "best on new": max(on_new, key=on_new.get)}
    for who, name in (("picked", choice.picked or "mean"), ("highest", highest)):
        line[f"{who} behind"] = max(on_new.values()) - on_new[name]
        line[f"{who} too good"] = by_cv[name] - on_new[name]
    return {**line, "chance refused": choose_model(shuffled(train), RULE, CANDIDATES).picked is None}


def main():
    """Print a line a seed, and the means."""
    lines = []
    for seed in SEEDS:
        lines.append(study(seed))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in lines[-1].items()}, flush=True)
    for who in ("picked", "highest"):
        behind, too_good = (np.array([x[f"{who} {what}"] for x in lines]) for what in ("behind", "too good"))
        print(f"{who:8s} behind the best by {behind.mean():.3f} (most {behind.max():.3f}),", end=" ")
        print(f"too good by {too_good.mean():+.3f}")
    n_refused = sum(x["chance refused"] for x in lines)
    n_lost = sum(x["picked"] is None for x in lines)
    print(f"cohorts of shuffled pairs refused: {n_refused} of {len(lines)}; cohorts with signal: {n_lost}")


if __name__ == "__main__":
    main()
