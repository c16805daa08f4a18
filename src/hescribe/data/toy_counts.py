"""Expression of a synthetic section: a known mean field over the layout, then depth and counts."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from hescribe.data.toy_tissue import CELL_UM, DENSITY, ORGANS, RADIUS_UM, Tissue, smooth_field
from hescribe.units import to_px

SPOT_UM = 100.0  # diameter of a spot
DRIVERS = ("composition", "context", "density", "size", "smooth", "noise")
DRIVER_SHARES = (0.40, 0.14, 0.06, 0.06, 0.16, 0.18)  # of the genes
N_SMOOTH, N_HIDDEN = 4, 6  # programs in space, programs of single spots; the image shows neither
LOW_DEPTH, HIGH_DEPTH = 650.0, 12000.0  # median UMI per spot: donors lie between
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
    mean = np.exp(rng.normal(0.0, 1.0, n_genes))
    base = np.log(mean / mean.sum() * n_genes / (n_genes + 800))  # 300 genes hold 27 % of a spot's counts
    common = _loadings(rng, driver)
    return Panel(
        names=tuple(f"TOY{i + 1:04d}" for i in range(n_genes)),
        driver=driver,
        base=base,
        loadings={name: 0.8 * common + 0.6 * _loadings(rng, driver) for name in ORGANS},
        smooth=0.45 * rng.standard_normal((N_SMOOTH, n_genes)) / np.sqrt(N_SMOOTH) * (driver == 4),
        hidden=0.35 * rng.standard_normal((N_HIDDEN, n_genes)) / np.sqrt(N_HIDDEN) * (driver != 5),
        dispersion=np.exp(rng.normal(np.log(0.08), 0.5, n_genes)),
        dropout=rng.beta(1, 40, n_genes),
    )


def _loadings(rng: np.random.Generator, driver: np.ndarray) -> np.ndarray:
    """Return the effect of 5 shares, 5 shares of the surroundings, density and size, shape ``(12, n_genes)``."""
    n_genes = len(driver)
    visible = {0: slice(0, 5), 1: slice(5, 10), 2: slice(10, 11), 3: slice(11, 12)}
    scale = {0: 0.55, 1: 0.8, 2: 0.35, 3: 0.35}
    loadings = np.zeros((12, n_genes))
    draws = rng.standard_normal((12, n_genes))
    for kind, rows in visible.items():
        loadings[rows] += scale[kind] * draws[rows] * (driver == kind)
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
        offset=0.55 * rng.standard_normal(n_genes),
        loadings=panel.loadings[organ] * (1 + 0.5 * rng.standard_normal(n_genes)),
        depth=float(LOW_DEPTH * (HIGH_DEPTH / LOW_DEPTH) ** level),
        spread=float(0.7 * np.exp(0.2 * rng.standard_normal())),
    )


def visible_features(tissue: Tissue, pitch_um: float) -> np.ndarray:
    """Return what the image shows of each spot, shape ``(n_spots, 12)``.

    Shares of tumour, epithelium, stroma, immune cells and fat in the spot's circle; the same in
    the square of 5 by 5 array places around it, less the spot's own square; log of the nuclear
    density and log of the mean nuclear radius in the circle, both centred at typical values.
    """
    n = tissue.shares.shape[1:]
    at = tuple(np.minimum(to_px(tissue.nuclei.__dict__[k], CELL_UM).astype(int), n[0] - 1) for k in ("y_um", "x_um"))
    flat = at[0] * n[1] + at[1]
    count = np.bincount(flat, minlength=n[0] * n[1])
    radius = np.bincount(flat, tissue.nuclei.radius_um, minlength=n[0] * n[1])
    fields = np.concatenate([tissue.shares[:5], count.reshape(1, *n), radius.reshape(1, *n)])
    spot = _in_circle(fields, tissue.xy_um)
    area_mm2 = np.pi * (SPOT_UM / 2e3) ** 2
    cells = int(to_px(SPOT_UM, CELL_UM))
    circle_cells = len(_circle(cells / 2)[0])
    density = np.log((spot[:, 5] * circle_cells / area_mm2 + 300) / DENSITY[2])
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
    x, y = to_px(xy_um, CELL_UM).astype(int).T
    last = fields.shape[1] - 1
    total = np.zeros((len(xy_um), len(fields)))
    for i, j in zip(dy, dx, strict=True):
        total += fields[:, np.clip(y + i, 0, last), np.clip(x + j, 0, last)].T
    return total / len(dy)


def _around(shares: np.ndarray, xy_um: np.ndarray, pitch_um: float) -> np.ndarray:
    """Return the mean shares in the tissue two places around each spot, its own place left out."""
    x, y = np.minimum(to_px(xy_um, CELL_UM).astype(int), shares.shape[1] - 1).T
    place = max(1, round(float(to_px(pitch_um, CELL_UM))))
    wide, own = (
        np.stack([ndimage.uniform_filter(s, size, mode="constant")[y, x] for s in shares], 1) * size**2
        for size in (5 * place, place)
    )
    ring = np.maximum(wide - own, 0)
    return ring / np.maximum(ring.sum(1, keepdims=True), 1e-6)


def draw_truth(
    rng: np.random.Generator, panel: Panel, sampling: Sampling, tissue: Tissue, features: np.ndarray
) -> np.ndarray:
    """Return each gene's expected share of a spot's counts, shape ``(n_spots, n_genes)``."""
    cells = tissue.shares.shape[1:]
    x, y = np.minimum(to_px(tissue.xy_um, CELL_UM).astype(int), cells[0] - 1).T
    smooth = np.stack([smooth_field(rng, cells, 330 / CELL_UM)[y, x] for _ in range(N_SMOOTH)], 1)
    hidden = rng.standard_normal((len(features), N_HIDDEN))
    log_mean = panel.base + sampling.offset + ((features - CENTRE) / SCALE) @ sampling.loadings
    log_mean += smooth @ panel.smooth + hidden @ panel.hidden
    mean = np.exp(log_mean)
    rest = 1 - np.exp(panel.base).sum()
    return mean / (rest + mean.sum(1, keepdims=True))


# Of ``visible_features``, over many sections: what a loading of 1 refers to.
CENTRE = np.array([0.4, 0.08, 0.25, 0.13, 0.14, 0.4, 0.08, 0.25, 0.13, 0.14, 1.0, 0.15])
SCALE = np.array([0.35, 0.15, 0.28, 0.2, 0.22, 0.25, 0.13, 0.2, 0.12, 0.18, 0.7, 0.2])


def draw_depth(rng: np.random.Generator, sampling: Sampling, tissue: Tissue, features: np.ndarray) -> np.ndarray:
    """Return the expected counts of each spot over all genes, shape ``(n_spots,)``.

    Cellular spots are deeper, depth drifts over the section, and about one spot in a hundred is nearly empty.
    """
    cells = tissue.shares.shape[1:]
    x, y = np.minimum(to_px(tissue.xy_um, CELL_UM).astype(int), cells[0] - 1).T
    drift = smooth_field(rng, cells, 400 / CELL_UM)[y, x]
    z = (features - CENTRE) / SCALE
    cellular = 0.5 * z[:, 10] + 0.35 * z[:, 0] - 0.35 * z[:, 4]
    log_depth = np.log(sampling.depth) + sampling.spread * (
        0.55 * cellular + 0.35 * drift + 0.55 * rng.standard_normal(len(x))
    )
    empty = rng.random(len(x)) < 0.008
    return np.where(empty, rng.uniform(1, 60, len(x)), np.exp(log_depth))


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
