"""Layout of a synthetic section: outline, compartments and nuclei, drawn from smooth random fields."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from hescribe.units import to_px

CELL_UM = 5.0  # the layout is drawn on cells of this side, the image on pixels
NUCLEUS_CELL_UM = 8.0  # at most one nucleus per cell of this side, which spaces them as in tissue
KINDS = ("tumour", "epithelium", "stroma", "immune", "fat", "lumen")
TILE_PERIOD, TILE_PX = 12, 40  # Worley tile: 12 x 12 places of 40 px, without a seam


@dataclass(frozen=True, slots=True)
class Organ:
    """How an organ is laid out; a bias is in sd of the random field that decides a compartment."""

    tumour: float
    gland: float
    immune: float
    fat: float
    gland_um: float  # distance between gland centres


ORGANS = {
    "breast": Organ(tumour=0.3, gland=-0.8, immune=-0.9, fat=-0.85, gland_um=95.0),
    "colon": Organ(tumour=-0.3, gland=0.55, immune=-0.6, fat=-1.6, gland_um=115.0),
    "kidney": Organ(tumour=-0.6, gland=0.8, immune=-1.1, fat=-1.9, gland_um=62.0),
    "lymph_node": Organ(tumour=-0.5, gland=-1.6, immune=0.35, fat=-1.1, gland_um=95.0),
}

# By KINDS: nuclei per mm2, radius in um, length over width, chromatin (haematoxylin density).
DENSITY = np.array([4200.0, 5200.0, 1000.0, 9000.0, 160.0, 0.0])
RADIUS_UM = np.array([4.0, 3.5, 2.9, 2.6, 2.2, 2.2])
ELONGATION = np.array([1.25, 1.45, 2.4, 1.05, 2.2, 1.0])
CHROMATIN = np.array([0.52, 0.6, 0.62, 0.9, 0.7, 0.6])


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a section, one entry each: place and radius in um, angle in rad, chromatin as haematoxylin density."""

    x_um: np.ndarray
    y_um: np.ndarray
    radius_um: np.ndarray
    elongation: np.ndarray
    angle: np.ndarray
    chromatin: np.ndarray


@dataclass(frozen=True)
class Tissue:
    """What lies where in a section.

    Parameters
    ----------
    size_um
        (width, height) of the section's image.
    xy_um
        Spot centres, shape ``(n_spots, 2)``.
    row, col
        Place of each spot on the array, shape ``(n_spots,)``.
    shares
        Share of each of ``KINDS`` in each cell of ``CELL_UM``, shape ``(n_kinds, rows, cols)``; 0 outside the tissue.
    looseness
        How loose the stroma is, in sd, shape ``(rows, cols)``.
    nuclei
        Every nucleus.
    """

    size_um: tuple[float, float]
    xy_um: np.ndarray
    row: np.ndarray
    col: np.ndarray
    shares: np.ndarray
    looseness: np.ndarray
    nuclei: Nuclei


def cell_of(um: np.ndarray, n_cells: int) -> np.ndarray:
    """Return the row or column of the cell at each place, at most the last."""
    cell = np.asarray(to_px(um, CELL_UM), dtype=int)
    return np.asarray(np.clip(cell, 0, n_cells - 1))


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Return a random field of mean 0 and sd 1 that varies over about two ``scale`` cells, shape ``shape``."""
    size = [int(np.ceil(n / scale)) + 4 for n in shape]
    down, across = (_spline(n, scale, m, rng.uniform()) for n, m in zip(shape, size, strict=True))
    field: np.ndarray = down @ rng.standard_normal(size) @ across.T
    return field * (315 / 151)  # 151 / 315: what splines leave of a variance


def _spline(n: int, scale: float, n_knots: int, start: float) -> np.ndarray:
    """Return the weights of cubic B-splines on ``n_knots`` knots at ``n`` places, shape ``(n, n_knots)``."""
    place = start + np.arange(n) / scale
    knot, t = place.astype(int), place % 1
    weights = np.zeros((n, n_knots))
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for i, piece in enumerate(pieces):
        weights[np.arange(n), knot + i] = piece / 6
    return weights


@cache
def worley_tile() -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the nearest and second nearest of jittered places, in spacings, as a seamless tile."""
    rng = np.random.default_rng(1)  # a fixed texture; sections differ in where they cut it
    lattice = np.stack(np.meshgrid(np.arange(TILE_PERIOD), np.arange(TILE_PERIOD), indexing="ij"), -1).reshape(-1, 2)
    points = (lattice + 0.5 + rng.uniform(-0.28, 0.28, lattice.shape)) % TILE_PERIOD
    places = (np.arange(TILE_PERIOD * TILE_PX) + 0.5) / TILE_PX
    query = np.stack(np.meshgrid(places, places, indexing="ij"), -1)
    nearest, _ = cKDTree(points, boxsize=TILE_PERIOD).query(query, k=2)
    return nearest[..., 0].astype(np.float32), nearest[..., 1].astype(np.float32)


def draw_tissue(rng: np.random.Generator, organ: Organ, n_spots: int, pitch_um: float, tilt: np.ndarray) -> Tissue:
    """Draw the layout of one section.

    Parameters
    ----------
    rng
        Source of all randomness of the layout.
    organ
        Which compartments are common.
    n_spots
        Spots in the tissue: the outline is cut so that exactly these places of the array lie inside.
    pitch_um
        Distance of neighbouring places of the array.
    tilt
        What the donor adds to the biases of tumour, gland, immune, fat and to the nuclear grade, shape ``(5,)``.
    """
    side = int(np.ceil(np.sqrt(n_spots / 0.66)))
    margin_um = max(1.3 * pitch_um, 150.0)
    size_um = ((side - 1) * pitch_um + 2 * margin_um,) * 2
    n = int(np.ceil(to_px(size_um[0], CELL_UM)))
    score = _outline(rng, n)
    row, col = (a.ravel() for a in np.indices((side, side)))
    xy_um = margin_um + pitch_um * np.stack([col, row], 1)
    at = cell_of(xy_um, n)
    at_score = score[at[:, 1], at[:, 0]]
    chosen = np.sort(np.argsort(-at_score, kind="stable")[:n_spots])
    inside = np.clip((score - at_score[chosen].min()) * 40 + 1.5, 0, 1)  # soft edge, last spot well inside
    shares = _compartments(rng, organ, n, tilt) * inside
    grade = 0.8 * smooth_field(rng, (n, n), 130) + tilt[4]
    nuclei = _nuclei(rng, shares, grade)
    looseness = smooth_field(rng, (n, n), 14) + 0.6 * smooth_field(rng, (n, n), 60)
    return Tissue(size_um, xy_um[chosen], row[chosen], col[chosen], shares.astype(np.float32), looseness, nuclei)


def _outline(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a height that falls from the middle of the tissue to its ragged edge, shape ``(n, n)``."""
    y, x = (np.indices((n, n), dtype=np.float32) + 0.5) * (2 / n) - 1
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = (np.abs(along / 1.1) ** 2.6 + np.abs(across) ** 2.6) ** (1 / 2.6)
    wobble: np.ndarray = 0.07 * smooth_field(rng, (n, n), n / 3.2) + 0.015 * smooth_field(rng, (n, n), n / 17)
    return np.asarray(wobble - radius)


def _compartments(rng: np.random.Generator, organ: Organ, n: int, tilt: np.ndarray) -> np.ndarray:
    """Return the share of each of KINDS, shape ``(n_kinds, n, n)``, sum 1."""

    def field(um: float, fine_um: float, fine: float) -> np.ndarray:
        return smooth_field(rng, (n, n), um / CELL_UM) + fine * smooth_field(rng, (n, n), fine_um / CELL_UM)

    nearest, second = _worley(rng, n, 170.0)
    septa = np.exp(-(((second - nearest) / 0.13) ** 2))  # strands of stroma between nests
    tumour = field(230, 55, 0.5) + organ.tumour + tilt[0] - 0.9 * septa
    gland = field(330, 90, 0.35) + organ.gland + tilt[1]
    immune = field(130, 45, 0.45) + organ.immune + tilt[2] - 0.25 * np.abs(tumour)  # gathers at the tumour's border
    fat = field(380, 80, 0.3) + organ.fat + tilt[3]
    rough = 0.12 * smooth_field(rng, (n, n), 5)
    logits = np.stack([tumour, gland, rough, immune, fat]).astype(np.float64) * 9
    shares = np.exp(logits - logits.max(0))
    shares /= shares.sum(0)
    nearest, _ = _worley(rng, n, organ.gland_um)
    lumen = np.clip((0.24 - nearest) * 20 + 0.5, 0, 1)
    wall = np.clip((0.47 - nearest) * 20 + 0.5, 0, 1) - lumen
    tumour, gland, stroma, immune, fat = shares
    return np.stack([tumour, gland * wall, stroma + gland * (1 - wall - lumen), immune, fat, gland * lumen])


def _worley(rng: np.random.Generator, n: int, spacing_um: float) -> list[np.ndarray]:
    """Return the two distances of ``worley_tile`` per cell, bent so that no two places look alike."""
    size, bends = TILE_PERIOD * TILE_PX, ((24, 11), (160, 60))  # scale in cells, amplitude in pixels of the tile
    place = np.indices((n, n)) * (TILE_PX * CELL_UM / spacing_um) + rng.integers(0, size, (2, 1, 1))
    place += np.stack([sum(by * smooth_field(rng, (n, n), scale) for scale, by in bends) for _ in range(2)])
    y, x = place.astype(int) % size
    return [distance[y, x] for distance in worley_tile()]


def _nuclei(rng: np.random.Generator, shares: np.ndarray, grade: np.ndarray) -> Nuclei:
    """Scatter nuclei by compartment; a higher grade means larger, paler and more crowded tumour nuclei."""
    n = int(grade.shape[0] * CELL_UM // NUCLEUS_CELL_UM)
    at = ((np.arange(n) + 0.5) * (NUCLEUS_CELL_UM / CELL_UM)).astype(int)
    coarse, grade = shares[:, at[:, None], at], grade[at[:, None], at]
    density = np.tensordot(DENSITY, coarse, 1) * np.exp(0.28 * grade * coarse[0])
    chance = -np.expm1(-density * (NUCLEUS_CELL_UM * 1e-3) ** 2)
    y, x = np.nonzero(rng.random(chance.shape) < chance)
    local, grade = coarse[:, y, x] * DENSITY[:, None], grade[y, x]
    kind = np.argmax(np.cumsum(local, 0) >= rng.random(len(y)) * local.sum(0), axis=0)
    n, malignant = len(y), np.where(kind == 0, 1.0, 0.35)
    size = np.exp(malignant * 0.2 * grade + np.where(kind == 0, 0.2, 0.11) * rng.standard_normal(n))
    return Nuclei(
        x_um=(x + rng.uniform(0.1, 0.9, n)) * NUCLEUS_CELL_UM,
        y_um=(y + rng.uniform(0.1, 0.9, n)) * NUCLEUS_CELL_UM,
        radius_um=RADIUS_UM[kind] * size,
        elongation=1 + (ELONGATION[kind] - 1) * rng.uniform(0.5, 1.5, n),
        angle=np.where(kind == 2, 0.5, np.pi) * rng.uniform(-1, 1, n),  # spindles lie along the fibres
        chromatin=CHROMATIN[kind] * np.exp(0.14 * rng.standard_normal(n)),
    )
