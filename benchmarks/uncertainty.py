"""Whether intervals, slide warnings and trust classes hold on donors that a model has not seen.

Synthetic cohorts of 16 donors, dealt out at random: some are fitted on, six are new. Printed are what intervals hold of
the measured values of new donors, beside the variant that guarantees its level; how well planted faults are told from
the same slides without them, by the predictor's own score and by that of the model; and what share of the genes of each
trust class stays above chance. Arguments: coverage, faults, trust (all of them by default), and seeds (0 1 2).
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
N_DONORS, N_NEW, N_GENES = 16, 6, 150
MODELS = ("color_ridge", "context:encoder=color")
FAULT_MODELS = ("color_ridge", "context:encoder=color", "encoder_ridge:alpha=10000.0")


def deal(cohort, seed, n):
    """Return n donors to fit on, and the new ones: dealt at random, for the toy's donors follow a pattern."""
    order = np.random.default_rng(seed).permutation(cohort.donors)
    train, new = set(order[:n]), set(order[-N_NEW:])
    return cohort.where(lambda s: s.donor in train), cohort.where(lambda s: s.donor in new)


def coverage(seed, name, n):
    """Return what the intervals of one model hold of new donors, at every level, and of the guaranteed variant."""
    from hescribe import keys
    from hescribe.bench.fitting import fit_model
    from hescribe.bench.interval import LEVELS, fit_interval
    from hescribe.bench.ladder import create_model
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.toy import toy_cohort
    from hescribe.metrics.calibration import interval_coverage, interval_score

    rule = read_protocol("donor-v1")
    train, new = deal(toy_cohort(seed, n_donors=N_DONORS, n_genes=N_GENES), seed, n)
    model, points = keep_residuals(lambda: fit_model(create_model(name), train, rule))
    task = PredictionTask(new, rule)
    sections = [
        (s.layer(keys.TARGET), model.predictor.predict(s.blind()).mean[s.kept])
        for s in task.on_panel(task.prepared, model.info.genes)
    ]

    def held(level):
        ends = [(y, *fit_interval(points, level=level).ends(mean)) for y, mean in sections]
        return [interval_coverage(*e).mean() for e in ends], [interval_score(*e, level).mean() for e in ends], ends

    curve = {level: np.mean(held(level)[0]) for level in LEVELS}
    shares, score, ends = held(0.9)
    width = np.mean([(upper - lower).mean() for _, lower, upper in ends])
    exact = np.mean(held(min(0.9 * (n + 1) / n, 0.9999))[0]) if n >= 9 else np.nan  # infinite under nine donors
    return np.mean(shares), min(shares), width, np.mean(score), exact, model.info.interval.coverage, curve


def keep_residuals(fit):
    """Return a fitted model, and the residuals that its intervals were made of."""
    from hescribe.bench import fitting

    real, n_shuffles, kept = fitting.fit_interval, fitting.N_SHUFFLES, {}

    def spy(points, **options):
        kept.update(points)
        return real(points, **options)

    fitting.fit_interval, fitting.N_SHUFFLES = spy, 1  # shuffled pairs say nothing about intervals
    try:
        return fit(), kept
    finally:
        fitting.fit_interval, fitting.N_SHUFFLES = real, n_shuffles


def print_coverage(seeds):
    from hescribe.bench.interval import LEVELS

    print(f"\ncoverage of 90 % intervals on {N_NEW} new donors, seeds {seeds}; by seed, then mean")
    head = "width", "score", "guaranteed", "left out", *(f"{level:.0%}" for level in LEVELS)
    print(
        f"{'model':24}{'fitted on':>10}   "
        + " ".join(f"seed {s}" for s in seeds)
        + "   mean  lowest donor   "
        + "  ".join(head)
    )
    for name in MODELS:
        for n in (4, 6, 10):
            found = [coverage(seed, name, n) for seed in seeds]
            share, least, width, score, exact, left_out = np.array([f[:-1] for f in found]).T
            curve = [np.mean([f[-1][level] for f in found]) for level in LEVELS]
            values = width.mean(), score.mean(), exact.mean(), left_out.mean(), *curve
            print(
                f"{name:24}{n:>3} donors   " + " ".join(f"{v:6.3f}" for v in share)
                + f"  {share.mean():.3f}  {least.min():.3f}   " + "  ".join(f"{v:.3f}" for v in values), flush=True
            )  # fmt: skip


def auc(unlike, like):
    rank, n = rankdata(np.concatenate([unlike, like])), len(unlike)
    return (rank[:n].sum() - n * (n + 1) / 2) / (n * len(like))


def faults(n_spots):
    """Return name, planted fault and the spots it hits (None: all)."""
    from hescribe.testing.faults import MARKERS, blur, draw_pen, restain, wipe_tissue

    some = np.arange(0, n_spots, 4)
    whole = {
        "another stain": lambda s: restain(s, (0.5, 1.1, 1.8)),
        "stain 1.6 times as strong": lambda s: restain(s, (1.6, 1.6, 1.6)),
        "stain 0.6 times as strong": lambda s: restain(s, (0.6, 0.6, 0.6)),
        "blur 1.5 um": lambda s: blur(s, 1.5),
        "blur 4 um": lambda s: blur(s, 4.0),
    }
    yield from ((name, plant, None) for name, plant in whole.items())
    for colour in MARKERS:
        yield f"{colour} pen", lambda s, colour=colour: draw_pen(s, some, colour=colour), some
    yield "no tissue", lambda s: wipe_tissue(s, some), some


def fault_scores(model, new, plant, spots):
    """Return the AUC by the predictor's own score and by the model's, and the share of slides that are doubted."""
    from hescribe.bench.doubt import find_doubts
    from hescribe.bench.fitting import predict_section

    def both(section):
        return model.predictor.predict(section.blind()).ood, predict_section(model, section).ood

    like = [both(s) for s in new]
    unlike = [(plant(s), both(plant(s))) for s in new]
    own, looks = [], []
    for k, into in ((0, own), (1, looks)):
        clean = np.concatenate([x[k] for x in like])
        for _, x in unlike:
            into.append(auc(x[k], clean) if spots is None else auc(x[k][spots], np.delete(x[k], spots)))
    doubted = [bool(find_doubts(model, s, x[1])) for s, x in unlike]
    return np.mean(own), np.mean(looks), np.min(looks), np.mean(doubted)


def print_faults(cohorts):
    from hescribe.bench.doubt import find_doubts
    from hescribe.bench.fitting import fit_model, predict_section
    from hescribe.bench.ladder import create_model
    from hescribe.bench.protocols import read_protocol

    for title, train, new in cohorts:
        n_spots = min(s.n_spots for s in new)
        for name in FAULT_MODELS:
            model = fit_model(create_model(name), train, read_protocol("donor-v1"))
            clean = [bool(find_doubts(model, s, predict_section(model, s).ood)) for s in new]
            print(f"\n{title}, {name}: {sum(clean)} of {len(new)} slides without a fault are doubted")
            print(f"{'fault':28}{'AUC own':>9}{'AUC':>7}{'lowest':>8}{'doubted':>9}")
            for fault, plant, spots in faults(n_spots):
                own, looks, least, doubted = fault_scores(model, new, plant, spots)
                print(f"{fault:28}{own:9.2f}{looks:7.2f}{least:8.2f}{doubted:9.0%}", flush=True)


def toy_slides(seeds):
    from hescribe.data.toy import toy_cohort

    for seed in seeds:
        cohort = toy_cohort(seed, n_donors=10, n_spots=80, n_genes=20)
        train, new = deal(cohort, seed, 6)
        yield f"toy seed {seed}", train, list(new)[:3]


def real_slides():
    """Return her2st, where it is: each donor new in turn, with one section whose image is held in memory."""
    import tempfile
    from dataclasses import replace

    from hescribe.data.image import ArrayImage
    from hescribe.data.importing import import_cohort

    if not (SHARED / "her2st").is_dir():
        return
    cohort = import_cohort(SHARED / "her2st", "st", Path(tempfile.mkdtemp()) / "her2st", card="her2st").cohort
    cohort = cohort.where(lambda s: s.image is not None)
    for donor in cohort.donors:
        section = next(s for s in cohort if s.donor == donor)
        pixels = section.image.read(0.0, 0.0, section.image.size_um, section.image.mpp)
        image = ArrayImage(pixels, section.image.mpp, f"{section.image.fingerprint} in memory")
        yield f"her2st donor {donor}", cohort.where(lambda s, d=donor: s.donor != d), [replace(section, image=image)]


def trust(seed, name, n):
    """Return for each class how many genes there are, and how many beat 97.5 % of shuffled genes in new donors."""
    from hescribe import keys
    from hescribe.bench.fitting import fit_model
    from hescribe.bench.ladder import ShuffledPairs, create_model
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.toy import toy_cohort
    from hescribe.metrics.base import all_metrics

    rule, pearson = read_protocol("donor-v1"), all_metrics()["pearson"]
    train, new = deal(toy_cohort(seed, n_donors=N_DONORS), seed, n)
    model = fit_model(create_model(name), train, rule)
    task, new_task = PredictionTask(train, rule), PredictionTask(new, rule)
    genes = model.info.genes
    test = new_task.on_panel(new_task.prepared, genes)

    def mean_over_donors(predictor):
        scores = [pearson(s.layer(keys.TARGET), predictor.predict(s.blind()).mean[s.kept]) for s in test]
        return np.nanmean(scores, axis=0)

    on_panel = task.on_panel(task.prepared, genes)
    null = [mean_over_donors(ShuffledPairs(seed=k).fit(on_panel)) for k in range(5)]
    holds = mean_over_donors(model.predictor) > np.nanquantile(null, 0.975)
    classes = np.array([model.info.scores[g][keys.TRUST] for g in genes])
    return {
        c: (int((classes == c).sum()), int(holds[classes == c].sum())) for c in ("predictable", "weak", "do not use")
    }


def print_trust(seeds):
    print(f"\ngenes above chance in {N_NEW} new donors, by trust class; seeds {seeds}")
    for name in MODELS:
        for n in (4, 6, 10):
            found = [trust(seed, name, n) for seed in seeds]
            text = []
            for c in found[0]:
                n_genes, n_hold = (sum(f[c][i] for f in found) for i in (0, 1))
                text.append(f"{c} {n_hold}/{n_genes} = {n_hold / max(n_genes, 1):.0%}")
            print(f"{name:24}{n:>3} donors   " + "   ".join(text), flush=True)


def main():
    parts = [a for a in sys.argv[1:] if not a.isdigit()] or ["coverage", "faults", "trust"]
    seeds = [int(a) for a in sys.argv[1:] if a.isdigit()] or [0, 1, 2]
    if "coverage" in parts:
        print_coverage(seeds)
    if "faults" in parts:
        print_faults(toy_slides(seeds[:2]))
        print_faults(real_slides())
    if "trust" in parts:
        print_trust(seeds)


if __name__ == "__main__":
    main()
