"""Aligners on test donors whose batch shifts away from the train donors': AUC within sections by strength.

Arguments: ``toy:100-104`` (seeds of toy cohorts of four donors) or the path of an imported cohort, whose images alone
are shifted (stain, blur); --kinds "stain,blur;depth,ambient", a panel for each, in place of that; --models
"robust;infonce"; --sections A1,B4 of the cohort; --seeds N of the aligners; --strengths 0,0.5,1; --fov 112;
--out FIGURE.svg.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
IMAGE = ("stain", "blur")
MODELS = "robust;infonce;ridge retriever"


def mean_of(curves):
    """Return the mean curve of several seeds, donor by donor."""
    from hescribe.metrics.stats import donor_mean

    return {
        strength: donor_mean([item for c in curves for item in c[strength].by_donor.items()]) for strength in curves[0]
    }


def main():
    """Print the curves and write the figure."""
    from aligners import folds_of, models

    from hescribe.bench.shifted import Kind, shift_curve
    from hescribe.report.robustness import describe_robustness, robustness_figure

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="+")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--sections", default="")
    parser.add_argument("--kinds", default="")
    parser.add_argument("--strengths", default="0,0.25,0.5,0.75,1")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--fov", type=float, default=112.0)
    parser.add_argument("--out", type=Path, default=Path("robustness.svg"))
    given = parser.parse_args()
    every, panels = models((given.fov,)), {}
    strengths = [float(s) for s in given.strengths.split(",")]
    for name in given.cohorts:
        folds = folds_of(name, given.sections)
        usual = ",".join(Kind.__args__ if name.startswith("toy") else IMAGE)
        for kinds in (given.kinds or usual).split(";"):
            title = f"{name.rpartition('/')[2]}: {kinds.replace(',', ', ')}"
            panels[title] = {}
            for model in given.models.split(";"):
                aligner = every[model]
                n_seeds = given.seeds if "seed" in aligner.get_params() else 1
                seeded = [aligner.with_params(seed=s) if n_seeds > 1 else aligner for s in range(n_seeds)]
                curve = mean_of([shift_curve(a, folds, strengths=strengths, kinds=kinds.split(",")) for a in seeded])
                panels[title][model] = curve
                print(f"{title:40s} {model:20s}", *(f"{s:g}: {m.value:.3f}" for s, m in curve.items()), flush=True)
            print(describe_robustness(panels[title]))
    robustness_figure(panels).savefig(given.out)


if __name__ == "__main__":
    main()
