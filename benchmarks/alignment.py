"""Which share of misplaced spots the check of a cohort notices, and how often it calls good ones in question.

The spots of every section of her2st and stutility_mob with an image (where ../shared/data is) and of thirty synthetic
ones are shifted by one and by two pitches in eight directions, and turned and mirrored in seven ways.
"""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from hescribe import keys
from hescribe.data.importing import import_cohort
from hescribe.data.toy import toy_cohort
from hescribe.prep.alignment import STEPS, check_alignment, turned_places
from hescribe.prep.graph import pitch_um
from hescribe.prep.tissue import MASK_MPP, find_tissue

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def read_sections(folder):
    """Yield the real sections that are there, and synthetic ones."""
    for name in ("her2st", "stutility_mob"):
        if (SHARED / name).is_dir():
            yield from (s for s in import_cohort(SHARED / name, "st", folder / name, card=name).cohort if s.image)
    for seed in range(10):
        yield from toy_cohort(seed, n_donors=3, n_spots=120, n_genes=30, mpp=4.0)


def places(section):
    """Yield (kind, spot centres in um): as they are, shifted, turned."""
    xy, pitch = section.xy_um, pitch_um(section)
    yield "as they are", xy
    for n in (1, 2):
        yield from ((f"shifted by {n} pitch{'es' * (n > 1)}", xy + n * pitch * np.array(step)) for step in STEPS)
    yield from (("turned or mirrored", turned) for turned in turned_places(xy, *section.image.size_um).values())


def main():
    """Print the shares."""
    noticed, n_tried = Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for section in read_sections(Path(folder)):
            pixels = section.image.read(0.0, 0.0, section.image.size_um, MASK_MPP)
            mask = find_tissue(pixels)
            for kind, xy in places(section):
                table = section.table.copy()
                table.obsm[keys.SPATIAL_UM] = xy
                n_tried[kind] += 1
                noticed[kind] += bool(check_alignment(section.with_table(table), pixels, mask).problems)
    for kind, n in n_tried.items():
        print(f"{kind:22} {noticed[kind]:4} of {n:4} called in question ({noticed[kind] / n:.0%})")
    assert noticed["as they are"] == 0


if __name__ == "__main__":
    main()
