"""Completers against the known truth of synthetic cohorts: error, correlation, and how often intervals hold it.

Three cohorts of the toy generator (synthetic), the donors of one fold held out, 30 % of the measured counts hidden.
Beside the error on the counts that were hidden stands the one against the expected share that they were drawn from,
which no judge of real data knows.
"""

import numpy as np

SEEDS = (100, 101, 102)
METHODS = ("section_mean", "smoother", "gene_ridge", "spackle", "stacked")
SHARE, N_GENES, Z90 = 0.3, 128, 1.645


def truth_of(cohort, section):
    """Return log2(1 + 1e6 * expected share) on the section's genes, shape (n_spots, n_genes)."""
    from hescribe import keys

    table = next(s for s in cohort if s.id == section.id).table[section.table.obs_names, list(section.genes)]
    return np.log2(1 + 1e2 * np.expm1(table.layers[keys.TRUTH]))


def scores(seed):
    """Return the scores of every completer on one cohort, averaged over sections."""
    from hescribe.bench.completion.protocol import read_completion_protocol
    from hescribe.bench.completion.task import CompletionTask
    from hescribe.complete.base import completers
    from hescribe.data.toy import toy_cohort
    from hescribe.metrics.masked import coverage, masked_correlation

    cohort = toy_cohort(seed)
    protocol = read_completion_protocol("complete-v1").model_copy(update={"n_genes": N_GENES})
    found = {name: [] for name in METHODS}
    fold = next(CompletionTask(cohort, protocol).folds())
    for name in METHODS:
        completer = completers.create(name).fit(fold.train)
        for section, lesson in fold.lessons(SHARE):
            got, where, truth = completer.estimate(lesson.section), lesson.where, truth_of(cohort, section)
            error = (got.mean - lesson.answer)[where]
            related = masked_correlation(truth, got.mean, where)  # undefined for a constant
            found[name].append([
                (error**2).mean(),
                ((got.mean - truth)[where] ** 2).mean(),
                related[np.isfinite(related)].mean() if np.isfinite(related).any() else np.nan,
                np.nan if got.sd is None else coverage(error, got.sd[where], Z90),
            ])  # fmt: skip
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def main():
    each = [scores(seed) for seed in SEEDS]
    names = ("MSE, hidden counts", "MSE, truth", "Pearson, truth", "in 90 %")
    table = {m: {n: [round(float(e[m][i]), 3) for e in each] for i, n in enumerate(names)} for m in METHODS}
    for method, row in table.items():
        print(f"{method:14}" + "   ".join(f"{name} {' '.join(f'{v:.3f}' for v in v3)}" for name, v3 in row.items()))


if __name__ == "__main__":
    main()
