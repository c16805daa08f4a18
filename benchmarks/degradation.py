"""What alignment costs expression prediction: encoder by aligner by head, aligned less frozen, paired by donor.

Arguments: ``toy:0-1`` (seeds of toy cohorts of four donors) or the path of an imported cohort; --sections A1,B4 of the
cohort; --encoders, --aligners (names with parameters, separated by semicolons), --heads, --seeds 0,1,2; --out. The
aligner ``infonce:epochs=0`` is the head as it is drawn: what fewer dimensions alone cost.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ALIGNERS = "infonce:epochs=0;infonce;infonce:epochs=14;siglip"


def tasks(name, sections):
    """Yield prediction tasks under donor-v1."""
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.folder import read_cohort
    from hescribe.data.toy import toy_cohort

    protocol = read_protocol("donor-v1")
    if name.startswith("toy:"):
        first, _, last = name.removeprefix("toy:").partition("-")
        for seed in range(int(first), int(last or first) + 1):
            yield PredictionTask(toy_cohort(seed, n_donors=4), protocol)
        return
    cohort = read_cohort(Path(name), with_image=True)
    yield PredictionTask(cohort.where(lambda s: s.id in sections) if sections else cohort, protocol)


def main():
    """Print the table."""
    from hescribe.bench.degradation import HEADS, measure_degradation

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="+")
    parser.add_argument("--sections", default="")
    parser.add_argument("--encoders", default="efficientnet_lite0;color")
    parser.add_argument("--aligners", default=ALIGNERS)
    parser.add_argument("--heads", default=";".join(HEADS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", default="degradation")
    given = parser.parse_args()
    sections = [s for s in given.sections.split(",") if s]
    lines = measure_degradation(
        [task for name in given.cohorts for task in tasks(name, sections)],
        Path(given.out),
        encoders=given.encoders.split(";"),
        aligners=given.aligners.split(";"),
        heads=given.heads.split(";"),
        seeds=[int(s) for s in given.seeds.split(",")],
    )
    for x in lines:
        spread = (
            "  ".join(f"{v:+.3f}" for v in x.change.by_donor.values())
            if x.change.low is None
            else f"[{x.change.low:+.4f}, {x.change.high:+.4f}]"
        )
        what = f"{x.metric:22s} {x.encoder:20s} {x.aligner:24s} {x.head:6s}"
        print(what, f"{x.frozen.value:.4f} -> {x.aligned.value:.4f}  {x.change.value:+.4f} {spread}")


if __name__ == "__main__":
    main()
