"""Aligners beside their controls: retrieval of held-out donors by pool, with depth and without, and seconds.

Arguments: ``toy`` (seeds 0 and 1, six donors, designed on), ``toy:100-104`` (seeds, four donors) or the path of an
imported cohort; --seeds N; --models a;b; --sections A1,B4 of the cohort; --fov 112; --against robust, which prints by
how much it is above each other model, paired by donor. A ridge as a retriever is what every aligner must beat; an
untrained head, shuffled pairs, and darkness against depth are what it must leave behind. Directions are averaged where
one number stands for both. Mixing is how many sections lie around a spot on the other side: 0 its own alone, 1 all
alike.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")


def models(fov_um):
    """Return the aligners by the name they get in the table."""
    from hescribe.align.bleep import BleepAligner
    from hescribe.align.infonce import InfoNCEAligner
    from hescribe.align.mclstexp import MclstexpAligner
    from hescribe.align.robust import RobustAligner
    from hescribe.align.siglip import SigLIPAligner
    from hescribe.bench.aligned import DensityOnly, DepthEncoder, RidgeRetriever, ShuffledPairsAligner
    from hescribe.encode.gene.drvi import DRVIEncoder
    from hescribe.encode.gene.mlp import MLPEncoder
    from hescribe.encode.gene.pca import PCAEncoder
    from hescribe.predict.context import ContextPredictor
    from hescribe.predict.ridge import RidgePredictor

    infonce, robust = InfoNCEAligner(fov_um=fov_um), RobustAligner(fov_um=fov_um)
    return {
        "ridge retriever": RidgeRetriever(ridge=RidgePredictor(fov_um=fov_um)),
        "colour ridge retriever": RidgeRetriever(ridge=RidgePredictor(encoder="color")),
        "context ridge retriever": RidgeRetriever(ridge=ContextPredictor(fov_um=fov_um)),
        "infonce": infonce,
        "infonce section": infonce.with_params(standardise="section"),
        "infonce mlp genes": infonce.with_params(gene_encoder=MLPEncoder()),
        "infonce drvi genes": infonce.with_params(gene_encoder=DRVIEncoder()),
        "siglip": SigLIPAligner(fov_um=fov_um),
        "bleep": BleepAligner(fov_um=fov_um),
        "mclstexp": MclstexpAligner(fov_um=fov_um),
        "mclstexp placed": MclstexpAligner(fov_um=fov_um, place=True),
        "infonce linear": infonce.with_params(head="linear", gene_head="linear"),
        "infonce transformer": infonce.with_params(head="transformer", gene_head="transformer"),
        "robust": robust,
        "robust, network alone": robust.with_params(views=("encoder",)),
        "robust, colour alone": robust.with_params(views=("color",)),
        "robust, shrunk": robust.with_params(color_share=2 / 3, gene_encoder=PCAEncoder(n_dims=128, shrink=True)),
        "robust, all negatives": robust.with_params(negatives="batch"),
        "robust, not centred": robust.with_params(centre_expression=False),
        "robust, gene head mlp": robust.with_params(gene_head="mlp"),
        "untrained": infonce.with_params(epochs=0),
        "infonce shuffled": ShuffledPairsAligner(base=infonce),
        "infonce on depth": infonce.with_params(gene_encoder=DepthEncoder()),
        "density": DensityOnly(),
    }


def folds_of(name, sections="", sections_per_donor=1):
    """Return the folds of a cohort, or of several toy cohorts, under donor-v1."""
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.folder import read_cohort
    from hescribe.data.toy import toy_cohort

    if name == "toy":
        cohorts = [toy_cohort(seed, n_donors=6) for seed in (0, 1)]
    elif name.startswith("toy:"):
        first, _, last = name.removeprefix("toy:").partition("-")
        cohorts = [
            toy_cohort(seed, n_donors=4, sections_per_donor=sections_per_donor)
            for seed in range(int(first), int(last or first) + 1)
        ]
    else:
        cohort, some = read_cohort(Path(name), with_image=True), [s for s in sections.split(",") if s]
        cohorts = [cohort.where(lambda s: s.id in some) if some else cohort]
    protocol = read_protocol("donor-v1")
    return [fold for cohort in cohorts for fold in PredictionTask(cohort, protocol).folds()]


def score(aligner, fold, seed):
    """Return the scores of a fold, those within sections whose mean was taken out, and the share of perfect mixing."""
    from hescribe.bench.aligned import embed_fold
    from hescribe.metrics.mixing import cross_modal_lisi
    from hescribe.metrics.pairs import centre_sections
    from hescribe.metrics.retrieval import score_retrieval

    pairs, asking = embed_fold(aligner, fold)
    rows = []
    for without_depth in (False, True):
        more = {"asking": asking, "without_depth": without_depth, "seed": seed}
        rows += score_retrieval(pairs, sizes=(256, None), **more)
    within = {"pools": ("within_section",), "sizes": (None,), "asking": asking}
    centred = [r for w in (False, True) for r in score_retrieval(centre_sections(pairs), without_depth=w, **within)]
    mixing = cross_modal_lisi(pairs)
    of_cohort = [[replace(r, donor=f"{fold.test.card.id}/{r.donor}") for r in found] for found in (rows, centred)]
    return *of_cohort, (mixing.value - 1) / (mixing.mixed - 1)


def summarise(rows, centred, mixing):
    """Return the numbers of a line: means over sections, donors, directions."""
    import numpy as np

    from hescribe.metrics.stats import donor_mean

    def mean(metric, pool, *, size=None, plain=True, direction=None, lift=False, of=rows):
        found = [
            (r.donor, r.lift if lift else r.value)
            for r in of
            if (r.metric, r.pool, r.asked_size, r.without_depth) == (metric, pool, size, not plain)
            and direction in {None, r.direction}
        ]
        return donor_mean(found, n_resamples=1).value if found else np.nan

    out, back = "image_to_expression", "expression_to_image"
    return {
        "AUC within": mean("auc", "within_section"),
        "no depth": mean("auc", "within_section", plain=False),
        "centred": mean("auc", "within_section", of=centred),
        "no depth,": mean("auc", "within_section", plain=False, of=centred),
        "lift@5 i2g": mean("recall_at_5", "within_section", direction=out, lift=True),
        "g2i": mean("recall_at_5", "within_section", direction=back, lift=True),
        "AUC others": mean("auc", "across_donors"),
        "no depth ": mean("auc", "across_donors", plain=False),
        "mixed R@5 i2g": mean("recall_at_5", "mixed", size=256, direction=out),
        "g2i ": mean("recall_at_5", "mixed", size=256, direction=back),
        "other i2g": mean("other_section", "mixed", size=256, direction=out),
        "g2i  ": mean("other_section", "mixed", size=256, direction=back),
        "mixing": float(np.mean(mixing)),
    }


def print_pools(rows):
    """Print recall at 5 by pool and direction, with an interval over donors where there are five, and chance."""
    from hescribe.metrics.stats import donor_mean

    for direction in ("image_to_expression", "expression_to_image"):
        for pool in dict.fromkeys(r.pool for r in rows):
            found = [
                r
                for r in rows
                if (r.metric, r.pool, r.direction, r.asked_size, r.without_depth)
                == ("recall_at_5", pool, direction, 256, False)
                and r.value == r.value
            ]
            if not found:  # every donor has one section, or there is one donor
                continue
            mean = donor_mean([(r.donor, r.value) for r in found])
            spread = f"[{mean.low:.3f}, {mean.high:.3f}]" if mean.low is not None else list(mean.by_donor.values())
            chance = sum(r.chance for r in found) / len(found)
            print(
                f"    {direction:20s} {pool:16s} recall at 5 {mean.value:.3f} {spread} chance {chance:.3f}", flush=True
            )


def print_differences(first, by_donor):
    """Print by how much one model is above the others in AUC within sections, paired by donor."""
    from hescribe.metrics.stats import donor_mean

    for model in by_donor.keys() - {first}:
        for i, what in enumerate(("AUC within", "no depth")):
            one, other = by_donor[first][i], by_donor[model][i]
            mean = donor_mean([(donor, value - other[donor]) for donor, value in one.items()])
            spread = f"[{mean.low:+.4f}, {mean.high:+.4f}]" if mean.low is not None else list(mean.by_donor.values())
            print(f"{first} above {model:24s} {what:10s} {mean.value:+.4f} {spread}", flush=True)


def within_by_donor(rows):
    """Return the AUC within sections of every donor, with depth and without."""
    from hescribe.metrics.stats import donor_mean

    found = [r for r in rows if (r.metric, r.pool) == ("auc", "within_section")]
    return [
        donor_mean([(r.donor, r.value) for r in found if r.without_depth is w], n_resamples=1).by_donor
        for w in (False, True)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", default="")
    parser.add_argument("--sections", default="")
    parser.add_argument("--sections-per-donor", type=int, default=1, help="of toy:100-104")
    parser.add_argument("--fov", type=float, default=112.0)
    parser.add_argument("--against", default="")
    given = parser.parse_args()
    chosen = [m for m in given.models.split(";") if m]
    for name in given.cohorts:
        folds, by_donor = folds_of(name, given.sections, given.sections_per_donor), {}
        print(f"\n{name}: {len(folds)} folds, {given.seeds} seeds; mean over sections, then donors")
        for model, aligner in models((given.fov,)).items():
            if chosen and model not in chosen:
                continue
            rows, centred, mixing, start = [], [], [], time.process_time()
            for seed in range(given.seeds if "seed" in aligner.get_params() else 1):
                seeded = aligner.with_params(seed=seed) if "seed" in aligner.get_params() else aligner
                for fold in folds:
                    of_fold = score(seeded, fold, seed)
                    rows += of_fold[0]
                    centred += of_fold[1]
                    mixing.append(of_fold[2])
            seconds = (time.process_time() - start) / len(folds)
            line, by_donor[model] = summarise(rows, centred, mixing), within_by_donor(rows)
            print(
                f"{model:24s}", " ".join(f"{k} {v:.3f}" for k, v in line.items()), f"{seconds:.0f} s a fold", flush=True
            )
            print_pools(rows)
        if given.against:
            print_differences(given.against, by_donor)


if __name__ == "__main__":
    main()
