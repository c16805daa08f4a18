"""What alignment does for slide-level classification: mutations told from aligned and from frozen embeddings.

An aligner is fitted on a toy cohort (``--train``, six donors with expression). Slides of another (``--seed``) have
images alone: every second donor is mutated, which raises the nuclear grade of its tumour by ``--grade`` (donors differ
in it by .35 sd as they are). Slide models tell the mutation from bags of frozen features and from bags of aligned
embeddings, in the same folds with the same seeds; the difference has an interval over donors. ``infonce:epochs=0`` are
heads as they are drawn: what fewer dimensions alone do.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ALIGNERS = "infonce:epochs=0;infonce;siglip;robust"
FROZEN = "efficientnet_lite0"


def fit(name, seed):
    """Return an aligner fitted on a toy cohort, with a name for its folder."""
    from hescribe.align.base import aligners
    from hescribe.bench.model_names import split_params
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.toy import toy_cohort

    method, params = split_params(name)
    task = PredictionTask(toy_cohort(seed, n_donors=6), read_protocol("donor-v1"))
    train = task.on_panel(task.prepared, task.choose_genes(task.prepared))
    return aligners.create(method, **params).fit(train)


def write_features(slides, embed, folder):
    """Write a bag for each slide."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for section in slides:
        np.save(folder / f"{section.id}.npy", embed(section.blind()))


def main():
    """Print the scores of both, and the difference."""
    from hescribe.bench.slides.cells import run_slides
    from hescribe.bench.slides.compare import compare_features
    from hescribe.bench.study import read_study
    from hescribe.data.toy import toy_cohort
    from hescribe.encode.features import embed_section

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--seed", type=int, default=110)
    parser.add_argument("--donors", type=int, default=60)
    parser.add_argument("--spots", type=int, default=60)
    parser.add_argument("--grade", type=float, default=0.8)
    parser.add_argument("--aligners", default=ALIGNERS)
    parser.add_argument("--models", default="linear_probe;abmil")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("downstream"))
    given = parser.parse_args()
    grades = tuple(given.grade * (i % 2) for i in range(given.donors))
    slides = toy_cohort(given.seed, n_donors=given.donors, n_spots=given.spots, grades=grades)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = [f"{s.id},{s.donor},{'mutated' if g else 'wild type'}" for s, g in zip(slides, grades, strict=True)]
    (given.out / "labels.csv").write_text("\n".join(["slide,donor,label", *lines]) + "\n", encoding="utf-8")

    def run(name, embed):
        folder = given.out / name.replace(":", "_")
        write_features(slides, embed, folder / "features")
        study = read_study(
            None, suite="spade", features=str(folder / "features"), labels=str(given.out / "labels.csv"),
            models=given.models.split(";"), seeds=list(range(given.seeds)), out=str(folder / "run"),
        )  # fmt: skip
        run_slides(study)
        return folder / "run"

    frozen = run(FROZEN, lambda s: embed_section(s, FROZEN))
    print(f"toy {given.seed}, {given.donors} donors, grade +{given.grade:g}; aligners of toy {given.train}", flush=True)
    for name in given.aligners.split(";"):
        start = time.process_time()
        aligned = run(name, fit(name, given.train).embed_image)
        for g in compare_features(aligned, frozen):
            if g.metric == "auc":
                print(
                    f"{name:18s} {g.model:14s} AUC {g.base:.3f} -> {g.value:.3f}  {g.gain:+.3f} "
                    f"[{g.low:+.3f}, {g.high:+.3f}]  {time.process_time() - start:.0f} s", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
