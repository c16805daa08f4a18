"""Tests of predicted genes: how often unrelated smooth maps are called related, and what a test of a section costs.

The rival is what a user would take instead: scipy's Pearson test, which takes every spot for an independent draw.
"""

import time

import numpy as np
from scipy import stats
from scipy.ndimage import gaussian_filter

from hescribe.analysis.significance import associate

N_MAPS, SIDE = 1000, 18


def smooth_maps(rng, smoothness):
    """Return independent maps on the spots of a section with holes, cut from wider ones."""
    wide = rng.normal(size=(N_MAPS, 3 * SIDE, 3 * SIDE))
    wide = gaussian_filter(wide, (0, smoothness, smoothness)) if smoothness else wide
    return wide[:, SIDE : 2 * SIDE, SIDE : 2 * SIDE].reshape(N_MAPS, -1).T


def false_positives():
    rng = np.random.default_rng(0)
    places = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1).reshape(-1, 2).astype(float)
    print(f"{N_MAPS} pairs of unrelated maps, tested at 5 %:")
    for smoothness in (0, 1, 2, 3, 4):
        kept = rng.random(SIDE * SIDE) < 0.85
        x, y = smooth_maps(rng, smoothness)[kept], smooth_maps(rng, smoothness)[kept]
        found = associate(x, y, places[kept])
        naive = [stats.pearsonr(a, b, alternative="greater").pvalue for a, b in zip(x.T, y.T, strict=True)]
        print(
            f"  smoothness {smoothness} pitches, {kept.sum()} spots ({np.median(found.n_effective):.0f} independent): "
            f"scipy {np.mean(np.array(naive) < 0.05):.1%}, this test {np.mean(found.p < 0.05):.1%}"
        )


def seconds():
    rng = np.random.default_rng(0)
    for side, n_genes in ((15, 250), (64, 250), (64, 785), (130, 250)):
        places = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2).astype(float)
        x, y = rng.normal(size=(2, side * side, n_genes))
        start = time.perf_counter()
        associate(x, y, places)
        print(f"  {side * side} spots, {n_genes} genes: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    false_positives()
    seconds()
