"""Expression of a synthetic section: a known mean field over the layout, then depth and counts."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from hescribe.data.toy_tissue import CELL_UM, DENSITY, ORGANS, RADIUS_UM, Tissue, cell_of, smooth_field
from hescribe.units import to_px

SPOT_UM = 100.0  # diameter of a spot
DRIVERS = ("composition", "context", "density", "size", "smooth", "noise")
DRIVER_SHARES = (0.40, 0.14, 0.06, 0.06, 0.16, 0.18)  # of the genes
N_SMOOTH, N_HIDDEN = 4, 6  # programs in space, programs of single spots; the image shows neither
# Mean and sd of the features over the breast sections of seeds 0-5: what a loading of 1 refers to.
CENTRE = np.array([0.43, 0.06, 0.28, 0.08, 0.12, 0.44, 0.06, 0.29, 0.08, 0.12, 0.96, 0.16])
SCALE = np.array([0.39, 0.13, 0.31, 0.20, 0.26, 0.18, 0.07, 0.12, 0.07, 0.13, 0.65, 0.17])

# Below: calibrated on her2st with benchmarks/calibrate_toy.py. All sd are of the logarithm.
VISIBLE_SD = {"composition": 0.23, "context": 0.26, "density": 0.28, "size": 0.28}  # inside a section, by driver
SMOOTH_SD, HIDDEN_SD = 0.6, 0.26
SMOOTH_SHARE = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 0.0])  # of SMOOTH_SD, by DRIVERS
COMMON, OWN = 0.8, 0.6  # parts of a gene's loadings shared by all organs, and the organ's own
BASE_SD, REST = 0.7, 1300  # of a gene's level; genes outside the panel, in genes of the panel
LEVEL_SD, GAIN_SD = 0.6, 1.1  # of a donor's gene levels; of its factors on the loadings
SHALLOW = 0.6  # how much less of its counts the shallowest donor has on the panel
DISPERSION, DISPERSION_SD = 0.02, 0.5
DROPOUT = 0.002
LOW_DEPTH, HIGH_DEPTH = 650.0, 12000.0  # median counts per spot: donors lie between
DEPTH_SD, DEPTH_SD_SD = 0.92, 0.15  # shallow donors are more uneven: times e^0.5 to e^-0.5
DEPTH_CELLULAR, DEPTH_DRIFT, DEPTH_SPOT = 0.75, 0.5, 0.4  # nuclear density, place, chance
EMPTY_SHARE, EMPTY_DEPTH = 0.008, 60.0  # spots with next to no counts
FIRST_ORGANS = ("breast", "colon", "kidney")  # those that came later are drawn last: the others stay as they were
CHUNK = 4096  # spots whose counts are drawn at a time


@dataclass(frozen=True)
class Panel:
    """What is known of each gene; arrays have the genes last.

    Parameters
    ----------
    names
        ``TOY0001`` and so on.
    driver
        Index into ``DRIVERS``.
    base
        Log of the mean share of a spot's counts.
    loadings
        Effect of each image-visible feature, by organ, shape ``(n_features, n_genes)``.
    smooth, hidden
        Effect of the programs that no image shows, shapes ``(N_SMOOTH, n_genes)`` and ``(N_HIDDEN, n_genes)``.
    dispersion
        Of the negative binomial: variance = mean + dispersion * mean ** 2.
    dropout
        Chance that a count is lost altogether.
    """

    names: tuple[str, ...]
    driver: np.ndarray
    base: np.ndarray
    loadings: dict[str, np.ndarray]
    smooth: np.ndarray
    hidden: np.ndarray
    dispersion: np.ndarray
    dropout: np.ndarray


@dataclass(frozen=True)
class Sampling:
    """How one donor's expression and depth differ from the panel's.

    Parameters
    ----------
    offset
        Added to every gene's log mean, shape ``(n_genes,)``.
    loadings
        Effect of each visible feature, shape ``(n_features, n_genes)``.
    depth
        Median counts per spot.
    spread
        Sd of log depth.
    """

    offset: np.ndarray
    loadings: np.ndarray
    depth: float
    spread: float


def draw_panel(rng: np.random.Generator, n_genes: int) -> Panel:
    """Draw the genes of a cohort."""
    driver = rng.permutation(rng.choice(len(DRIVERS), n_genes, p=DRIVER_SHARES))
    mean = np.exp(BASE_SD * rng.standard_normal(n_genes))
    base = np.log(mean / mean.sum() * n_genes / (n_genes + REST))  # 300 genes hold 19 % of a spot's counts
    common = _loadings(rng, driver)

    def own(organ: str) -> tuple[str, np.ndarray]:
        return organ, COMMON * common + OWN * _loadings(rng, driver)

    loadings = dict(own(organ) for organ in FIRST_ORGANS)
    panel = Panel(
        names=tuple(f"TOY{i + 1:04d}" for i in range(n_genes)),
        driver=driver,
        base=base,
        loadings=loadings,
        smooth=SMOOTH_SD * rng.standard_normal((N_SMOOTH, n_genes)) / np.sqrt(N_SMOOTH) * SMOOTH_SHARE[driver],
        hidden=HIDDEN_SD * rng.standard_normal((N_HIDDEN, n_genes)) / np.sqrt(N_HIDDEN) * (driver != 5),
        dispersion=DISPERSION * np.exp(DISPERSION_SD * rng.standard_normal(n_genes)),
        dropout=DROPOUT * rng.standard_exponential(n_genes),
    )
    loadings |= dict(own(organ) for organ in ORGANS if organ not in FIRST_ORGANS)
    return panel


def _loadings(rng: np.random.Generator, driver: np.ndarray) -> np.ndarray:
    """Return the effect of 5 shares, 5 shares of the surroundings, density and size, shape ``(12, n_genes)``."""
    n_genes = len(driver)
    rows = {"composition": slice(0, 5), "context": slice(5, 10), "density": slice(10, 11), "size": slice(11, 12)}
    loadings = np.zeros((12, n_genes))
    draws = rng.standard_normal((12, n_genes))
    for kind, row in rows.items():
        n_features = row.stop - row.start
        loadings[row] = VISIBLE_SD[kind] / np.sqrt(n_features) * draws[row] * (driver == DRIVERS.index(kind))
    return loadings


def draw_sampling(rng: np.random.Generator, panel: Panel, organ: str, level: float) -> Sampling:
    """Draw what sets a donor apart.

    Parameters
    ----------
    rng
        The donor's source of randomness.
    panel
        The cohort's genes.
    organ
        Gives the loadings, which each donor follows more or less.
    level
        Place of the donor's depth between the lowest (0) and the highest (1), on a log scale.
    """
    n_genes = len(panel.names)
    return Sampling(
        offset=LEVEL_SD * rng.standard_normal(n_genes) - SHALLOW * (1 - level),
        loadings=panel.loadings[organ] * (1 + GAIN_SD * rng.standard_normal(n_genes)),
        depth=float(LOW_DEPTH * (HIGH_DEPTH / LOW_DEPTH) ** level),
        spread=float(DEPTH_SD * np.exp(0.5 - level + DEPTH_SD_SD * rng.standard_normal())),
    )


def visible_features(tissue: Tissue, pitch_um: float) -> np.ndarray:
    """Return what the image shows of each spot, shape ``(n_spots, 12)``.

    Shares of tumour, epithelium, stroma, immune cells and fat in the spot's circle; the same in
    the square of 5 by 5 array places around it, less the spot's own square; log of the nuclear
    density and log of the mean nuclear radius in the circle, both centred at typical values.
    """
    n = tissue.shares.shape[1:]
    flat = cell_of(tissue.nuclei.y_um, n[0]) * n[1] + cell_of(tissue.nuclei.x_um, n[1])
    count = np.bincount(flat, minlength=n[0] * n[1])
    radius = np.bincount(flat, tissue.nuclei.radius_um, minlength=n[0] * n[1])
    fields = np.concatenate([tissue.shares[:5], count.reshape(1, *n), radius.reshape(1, *n)])
    spot = _in_circle(fields, tissue.xy_um)
    per_mm2 = spot[:, 5] / (CELL_UM * 1e-3) ** 2
    density = np.log((per_mm2 + 300) / DENSITY[2])  # 300: fat has few nuclei and is not infinitely far away
    size = np.log((spot[:, 6] + 0.02 * RADIUS_UM[2]) / (spot[:, 5] + 0.02) / RADIUS_UM[2])
    around = _around(tissue.shares[:5], tissue.xy_um, pitch_um)
    return np.column_stack([spot[:, :5], around, density, size])


def _circle(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets of the cells within a radius."""
    y, x = np.indices((2 * int(radius) + 1,) * 2) - int(radius)
    inside = y**2 + x**2 <= radius**2
    return y[inside], x[inside]


def _in_circle(fields: np.ndarray, xy_um: np.ndarray) -> np.ndarray:
    """Return the mean of each field over each spot's circle, shape ``(n_spots, n_fields)``."""
    dy, dx = _circle(float(to_px(SPOT_UM / 2, CELL_UM)))
    last = fields.shape[1] - 1
    x, y = cell_of(xy_um, last + 1).T
    total = np.zeros((len(xy_um), len(fields)))
    for i, j in zip(dy, dx, strict=True):
        total += fields[:, np.clip(y + i, 0, last), np.clip(x + j, 0, last)].T
    return total / len(dy)


def _around(shares: np.ndarray, xy_um: np.ndarray, pitch_um: float) -> np.ndarray:
    """Return the mean shares in the tissue two places around each spot, its own place left out."""
    x, y = cell_of(xy_um, shares.shape[1]).T
    place = max(1, round(float(to_px(pitch_um, CELL_UM))))
    wide, own = (
        np.stack([ndimage.uniform_filter(s, size, mode="constant")[y, x] for s in shares], 1) * size**2
        for size in (5 * place, place)
    )
    ring = np.maximum(wide - own, 0)
    return np.asarray(ring / np.maximum(ring.sum(1, keepdims=True), 1e-6))


def draw_truth(
    rng: np.random.Generator, panel: Panel, sampling: Sampling, tissue: Tissue, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each gene's expected share of a spot's counts, and the same without what no image shows.

    Returns
    -------
    Two arrays of shape ``(n_spots, n_genes)``; in the second the smooth and hidden programs are 0.
    """
    cells = tissue.shares.shape[1:]
    x, y = cell_of(tissue.xy_um, cells[0]).T
    smooth = np.stack([smooth_field(rng, cells, 330 / CELL_UM)[y, x] for _ in range(N_SMOOTH)], 1)
    hidden = rng.standard_normal((len(features), N_HIDDEN))
    visible = panel.base + sampling.offset + ((features - CENTRE) / SCALE) @ sampling.loadings
    whole = visible + smooth @ panel.smooth + hidden @ panel.hidden
    rest = 1 - np.exp(panel.base).sum()
    for values in (whole, visible):  # in place: these are the largest arrays of a cohort
        np.exp(values, out=values)
        np.divide(values, rest + values.sum(1, keepdims=True), out=values)
    return whole, visible


def draw_depth(rng: np.random.Generator, sampling: Sampling, tissue: Tissue, features: np.ndarray) -> np.ndarray:
    """Return the expected counts of each spot over all genes, shape ``(n_spots,)``.

    Cellular spots are deeper, depth drifts over the section, and about one spot in a hundred is nearly empty.
    """
    cells = tissue.shares.shape[1:]
    x, y = cell_of(tissue.xy_um, cells[0]).T
    drift = smooth_field(rng, cells, 400 / CELL_UM)[y, x]
    z = (features - CENTRE) / SCALE
    parts = DEPTH_CELLULAR * z[:, 10], DEPTH_DRIFT * drift, DEPTH_SPOT * rng.standard_normal(len(x))
    log_depth = np.log(sampling.depth) + sampling.spread * sum(parts)
    empty = rng.random(len(x)) < EMPTY_SHARE
    return np.where(empty, rng.uniform(1, EMPTY_DEPTH, len(x)), np.exp(log_depth))


def draw_counts(
    rng: np.random.Generator, panel: Panel, share: np.ndarray, depth: np.ndarray
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return counts of the panel, shape ``(n_spots, n_genes)`` float32, and of all genes, shape ``(n_spots,)``."""
    blocks = []
    for at in range(0, len(share), CHUNK):
        mean = share[at : at + CHUNK] * depth[at : at + CHUNK, None]
        rate = mean * rng.gamma(1 / panel.dispersion, panel.dispersion, mean.shape)
        kept = rng.random(mean.shape) >= panel.dropout
        blocks.append(sparse.csr_matrix((rng.poisson(rate) * kept).astype(np.float32)))
    counts = sparse.vstack(blocks, format="csr")
    others = rng.poisson(depth * np.maximum(1 - share.sum(1), 0))
    total = np.asarray(counts.sum(1)).ravel() + others
    return counts, np.maximum(total, 1)  # a table lists no spot without a count
