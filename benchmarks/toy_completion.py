"""Completers against the known truth of synthetic cohorts: error, correlation, and how often intervals hold it.

Three cohorts of the toy generator (synthetic), the donors of one fold held out. "measured": 30 % of the measured counts
are hidden; "any": half of every count is set aside, and what nothing is seen of is asked for. Beside the error on the
counts that were hidden stands the one against the expected share that they were drawn from, which no judge of real
data knows. Arguments: measured, any; without, both.
"""

import sys

import numpy as np

SEEDS = (100, 101, 102)
METHODS = ("section_mean", "smoother", "gene_ridge", "spackle", "stacked")
PROTOCOLS = {"measured": ("complete-v1", 0.3), "any": ("thinned-v1", 0.5)}
N_GENES, Z90 = 128, 1.645


def truth_of(cohort, section):
    """Return log2(1 + 1e6 * expected share) on the section's genes, shape (n_spots, n_genes)."""
    from hescribe import keys

    table = next(s for s in cohort if s.id == section.id).table[section.table.obs_names, list(section.genes)]
    return np.log2(1 + 1e2 * np.expm1(table.layers[keys.TRUTH]))


def scores(seed, missing):
    """Return the scores of every completer on one cohort, averaged over sections."""
    from hescribe.bench.completion.protocol import read_completion_protocol
    from hescribe.bench.completion.task import CompletionTask
    from hescribe.complete.base import completers
    from hescribe.data.toy import toy_cohort
    from hescribe.metrics.masked import coverage, masked_correlation

    cohort = toy_cohort(seed)
    name, share = PROTOCOLS[missing]
    protocol = read_completion_protocol(name).model_copy(update={"n_genes": N_GENES})
    found = {name: [] for name in METHODS}
    fold = next(CompletionTask(cohort, protocol).folds())
    for name in METHODS:
        completer = completers.create(name)
        if "missing" in completer.get_params():
            completer = completer.with_params(missing=missing)
        completer.fit(fold.train)
        for section, lesson in fold.lessons(share):
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
    names = ("MSE, hidden counts", "MSE, truth", "Pearson, truth", "in 90 %")
    for missing in sys.argv[1:] or PROTOCOLS:
        each = [scores(seed, missing) for seed in SEEDS]
        print(f"\nmissing: {missing}; cohorts {', '.join(map(str, SEEDS))}")
        for method in METHODS:
            columns = [f"{name} {' '.join(f'{e[method][i]:.3f}' for e in each)}" for i, name in enumerate(names)]
            print(f"{method:14}" + "   ".join(columns))


if __name__ == "__main__":
    main()
