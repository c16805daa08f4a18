"""Measures toy@1 with the quantities that describe her2st, and prints both: python benchmarks/calibrate_toy.py.

With --cohort DIR a cohort folder is measured in place of the synthetic seeds, by the same code.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.folder import read_cohort
from hescribe.data.section import Section
from hescribe.data.toy import toy_cohort
from hescribe.encode.color import Color
from hescribe.metrics.ceiling import noise_ceiling
from hescribe.metrics.gene import correlate, remove_linear
from hescribe.predict.ridge import ALPHAS, RidgePath
from hescribe.prep.counts import log_normalise

MIN_COUNTS, PANEL, FOVS_UM, PATCH_PX = 100, 250, (112.0, 224.0), 224
# her2st: mean over three donors, then the range of the donors (legacy ST, spots with at least 100 counts).
HER2ST = {
    "noise ceiling": (0.553, 0.493, 0.623),
    "noise ceiling, depth-partial": (0.445, 0.400, 0.482),
    "depth oracle": (0.179, 0.060, 0.390),
    "8 neighbours' own expression": (0.234, 0.199, 0.296),
    "8 neighbours, depth-partial": (0.126, np.nan, np.nan),
    "colour ridge": (0.122, 0.063, 0.218),
    "colour ridge, depth-partial": (0.034, 0.02, 0.06),
    "MSE of the train mean": (1.288, 0.938, 1.658),
    "MSE of the own-section mean": (0.683, 0.376, 1.091),
    "zeros on the panel": (0.348, 0.098, 0.664),
    "panel's share of all counts": (0.197, 0.129, 0.244),
    "median counts per spot": (5043, 661, 10184),
    "sd of log counts": (0.893, 0.525, 1.384),
}


@dataclass
class Spots:
    """The deep spots of one section."""

    donor: str
    counts: np.ndarray
    depth: np.ndarray
    y: np.ndarray
    x: np.ndarray
    near: np.ndarray
    truths: dict[str, np.ndarray]

    @classmethod
    def of(cls, section: Section) -> "Spots":
        """Return the deep spots of a section, with their colours."""
        depth = section.depth
        deep = depth >= MIN_COUNTS
        counts = section.table.layers[keys.COUNTS].toarray()[deep].astype(np.int64)
        array = section.table.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy(dtype=float)[deep]
        gap = np.abs(np.round(array)[:, None] - np.round(array)[None]).max(-1)
        truths = {k: section.layer(k)[deep] for k in (keys.TRUTH, keys.TRUTH_VISIBLE) if k in section.table.layers}
        y = log_normalise(counts, depth[deep])
        return cls(section.donor, counts, depth[deep], y, colour(section)[deep], gap == 1, truths)

    @property
    def log_depth(self) -> np.ndarray:
        """Log of the counts of each spot."""
        return np.log(self.depth)

    def partial(self, prediction: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Correlation per gene after removing log depth from both sides."""
        return correlate(remove_linear(self.y[:, genes], self.log_depth), remove_linear(prediction, self.log_depth))


def colour(section: Section) -> np.ndarray:
    """Return the 22 colour statistics of every spot."""
    blocks = []
    for fov in FOVS_UM:
        corners = section.xy_um - fov / 2
        patches = np.stack([section.image.read(x, y, (fov, fov), fov / PATCH_PX) for x, y in corners])
        blocks.append(Color().encode(patches))
    return np.hstack(blocks).astype(np.float64)


def by_donor(sections: list[Spots], donors: list[str], measure) -> np.ndarray:
    """Mean over sections, per donor."""
    return np.array([np.mean([measure(s) for s in sections if s.donor == d], axis=0) for d in donors])


def choose_panel(train: list[Spots], donors: list[str]) -> np.ndarray:
    return np.argsort(-by_donor(train, donors, lambda s: s.y.var(axis=0)).mean(axis=0), kind="stable")[:PANEL]


def fit_ridge(train: list[Spots], test: list[Spots], genes: np.ndarray) -> list[list[np.ndarray]]:
    """Predictions of each test section for each penalty."""
    x, y = np.concatenate([s.x for s in train]), np.concatenate([s.y[:, genes] for s in train])
    mean, sd = x.mean(axis=0), x.std(axis=0) + 1e-9
    path = RidgePath.fit((x - mean) / sd, y)
    return [list(path.predict_each((s.x - mean) / sd, ALPHAS)) for s in test]


def colour_ridge(train: list[Spots], test: list[Spots], genes: np.ndarray) -> list[np.ndarray]:
    """Predictions of the test sections, the penalty chosen by inner leave-one-donor-out."""
    scores = []
    for donor in sorted({s.donor for s in train}):
        held = [s for s in train if s.donor == donor]
        paths = fit_ridge([s for s in train if s.donor != donor], held, genes)
        one = [[np.nanmean(correlate(s.y[:, genes], p)) for p in path] for s, path in zip(held, paths, strict=True)]
        scores.append(np.mean(one, axis=0))
    best = int(np.nanargmax(np.mean(scores, axis=0)))
    return [path[best] for path in fit_ridge(train, test, genes)]


def measure_section(s: Spots, prediction: np.ndarray, train_mean: np.ndarray, genes: np.ndarray) -> dict[str, float]:
    y, ceiling = s.y[:, genes], noise_ceiling(s.counts[:, genes], s.depth, log_normalise)
    n_near = s.near.sum(axis=1)
    near = (s.near @ y)[n_near > 0] / n_near[n_near > 0, None]
    beside, log_depth = y[n_near > 0], s.log_depth[n_near > 0]
    apart = correlate(remove_linear(beside, log_depth), remove_linear(near, log_depth))
    found = {
        "noise ceiling": ceiling.pearson,
        "noise ceiling, depth-partial": ceiling.pearson_depth_partial,
        "depth oracle": correlate(y, np.repeat(s.log_depth[:, None], len(genes), axis=1)),
        "8 neighbours' own expression": correlate(beside, near),
        "8 neighbours, depth-partial": apart,
        "colour ridge": correlate(y, prediction),
        "colour ridge, depth-partial": s.partial(prediction, genes),
        "MSE of the train mean": (y - train_mean) ** 2,
        "MSE of the own-section mean": y.var(axis=0),
        "zeros on the panel": s.counts[:, genes] == 0,
        "panel's share of all counts": s.counts[:, genes].sum() / s.depth.sum(),
        "median counts per spot": np.median(s.depth),
        "sd of log counts": s.log_depth.std(),
    }
    for name, truth in s.truths.items():
        found[f"`{name}`"] = correlate(y, truth[:, genes])
        found[f"`{name}`, depth-partial"] = s.partial(truth[:, genes], genes)
    return {name: float(np.nanmean(value)) for name, value in found.items()}


def measure(cohort: Cohort) -> dict[str, list[float]]:
    """Every quantity per donor, leave-one-donor-out."""
    return measure_spots([Spots.of(s) for s in cohort])


def measure_spots(sections: list[Spots]) -> dict[str, list[float]]:
    donors = sorted({s.donor for s in sections})
    found: dict[str, list[float]] = {}
    for donor in donors:
        others = [d for d in donors if d != donor]
        train, test = [s for s in sections if s.donor != donor], [s for s in sections if s.donor == donor]
        genes = choose_panel(train, others)
        mean = by_donor(train, others, lambda s, genes=genes: s.y[:, genes].mean(axis=0)).mean(axis=0)
        predictions = colour_ridge(train, test, genes)
        each = [measure_section(s, p, mean, genes) for s, p in zip(test, predictions, strict=True)]
        for name in each[0]:
            found.setdefault(name, []).append(float(np.mean([e[name] for e in each])))
    return found


def print_table(seeds: list[dict[str, list[float]]]) -> None:
    """Mean over donors and seeds; range of the seeds' means; range of all donors; beside her2st's mean and range."""
    print("| quantity | toy | range of seeds | range of donors | her2st | range of donors |")
    print("|---|---|---|---|---|---|")
    for name in seeds[0]:
        means, donors = [np.mean(s[name]) for s in seeds], np.concatenate([s[name] for s in seeds])
        mean, low, high = HER2ST.get(name, (np.nan,) * 3)
        cells = [(np.mean(means),), (min(means), max(means)), (donors.min(), donors.max()), (mean,), (low, high)]
        texts = [" to ".join(f"{v:.0f}" if abs(v) >= 100 else f"{v:.3f}" for v in c) for c in cells]
        print(f"| {name} | {' | '.join('-' if 'nan' in t else t for t in texts)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--cohort", type=Path, help="a cohort folder to measure in place of the seeds")
    args = parser.parse_args()
    if args.cohort:
        cohort = read_cohort(args.cohort)
        print_table([measure(cohort.where(lambda s: s.image is not None))])
    else:
        print_table([measure(toy_cohort(seed)) for seed in args.seeds])


if __name__ == "__main__":
    main()
