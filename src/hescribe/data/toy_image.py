"""Rendering of a synthetic section: haematoxylin and eosin as optical densities, then a camera."""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from hescribe.data.toy_tissue import CELL_UM, TILE_PERIOD, TILE_PX, Nuclei, Tissue, worley_tile
from hescribe.units import to_px, to_um

TEXTURE_UM = 768  # period of the textures, drawn at 1 um: fat cells are 64 um
LEVELS, MAX_DENSITY = 512, 2.0  # densities are looked up in a table of colours
BLOCK_PX = 128  # rendered at a time: the working set stays in the cache
RADII_UM = np.geomspace(1.8, 8.5, 9)  # nuclei are stamped from a set of shapes
STRETCHES = np.array([1.0, 1.4, 1.9, 2.7])
ANGLES = np.arange(8) * (np.pi / 8)

# By KINDS of toy_tissue: eosin, and haematoxylin of the cytoplasm.
EOSIN = np.array([0.26, 0.28, 0.36, 0.18, 0.01, 0.01])
HAZE = np.array([0.17, 0.15, 0.03, 0.16, 0.005, 0.005])
HAEMATOXYLIN_OD = np.array([0.62, 0.66, 0.31])  # optical density per channel at unit density
EOSIN_OD = np.array([0.09, 0.80, 0.42])


@dataclass(frozen=True)
class Stain:
    """How the slides of one donor were stained and scanned.

    Parameters
    ----------
    haematoxylin, eosin
        Optical density per channel at unit density, shape ``(3,)``.
    white
        Colour of empty glass, shape ``(3,)``, up to 255.
    blur_um
        Sd of the optical blur.
    noise
        Sd of the camera noise in grey levels.
    """

    haematoxylin: np.ndarray
    eosin: np.ndarray
    white: np.ndarray
    blur_um: float
    noise: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw one donor's stain and scanner."""
    vectors = np.stack([HAEMATOXYLIN_OD, EOSIN_OD]) * np.exp(0.09 * rng.standard_normal((2, 3)))
    strength = np.exp(rng.normal([0.0, -0.1], [0.17, 0.25]))
    white = np.clip(243 + 4 * rng.standard_normal() + 1.5 * rng.standard_normal(3), 225, 253)
    blur_um, noise = rng.uniform(0.5, 1.2), rng.uniform(1.5, 4.0)
    return Stain(vectors[0] * strength[0], vectors[1] * strength[1], white, blur_um, noise)


def vary_stain(rng: np.random.Generator, stain: Stain) -> Stain:
    """Return the stain of one section of a donor: a little stronger or paler than the donor's."""
    haematoxylin, eosin = np.exp(0.04 * rng.standard_normal(2))
    return Stain(stain.haematoxylin * haematoxylin, stain.eosin * eosin, stain.white, stain.blur_um, stain.noise)


def render(rng: np.random.Generator, tissue: Tissue, stain: Stain, mpp: float) -> np.ndarray:
    """Return the image of a section, shape ``(h, w, 3)`` uint8.

    Parameters
    ----------
    rng
        Where the textures are cut, and the camera noise.
    tissue
        What lies where.
    stain
        How it is stained and scanned.
    mpp
        um per pixel of the image.
    """
    width, height = (round(float(to_px(s, mpp))) for s in tissue.size_um)
    canvas = np.zeros((height, width), dtype=np.float32)
    add_nuclei(canvas, tissue.nuclei, stain.blur_um, mpp)
    layers, colours = _layers(tissue), _colours(stain)
    period = round(float(to_px(TEXTURE_UM, mpp)))
    textures = [_cut(rng, texture, period) for texture in _textures()]
    textures = [ndimage.gaussian_filter(t, float(to_px(stain.blur_um, mpp)), truncate=2.5) for t in textures]
    noise = rng.normal(0, stain.noise / 300, (2, period + BLOCK_PX, period + BLOCK_PX)).astype(np.float32)
    glass = np.take(colours, _level(noise[0]) * LEVELS + _level(noise[1]), axis=0)
    image = np.empty((height, width, 3), dtype=np.uint8)
    down, over = (_blocks(n_px, n, mpp) for n_px, n in zip((height, width), layers.shape[1:], strict=True))
    for (rows, cell_rows, down_weights), (cols, cell_cols, over_weights) in itertools.product(down, over):
        block = rows, cols
        tile = tuple(slice(at.start % period, at.start % period + at.stop - at.start) for at in block)
        haze, base, fibre, fat = down_weights @ layers[:, cell_rows, cell_cols] @ over_weights.T
        if not haze.any():
            image[block] = glass[tile]
            continue
        along, across, wall = (texture[tile] for texture in textures)
        blue = canvas[block] + haze * (1 + 0.25 * across) + noise[0][tile]
        pink = base + fibre * along + fat * wall + noise[1][tile]
        image[block] = np.take(colours, _level(blue) * LEVELS + _level(pink), axis=0)
    return image


def _blocks(n_px: int, n_cells: int, mpp: float) -> list[tuple[slice, slice, np.ndarray]]:
    """Return the blocks along one side: their pixels, the cells around them, and each cell's weight at each pixel."""
    blocks = []
    for start in range(0, n_px, BLOCK_PX):
        px = slice(start, min(start + BLOCK_PX, n_px))
        place = np.clip(to_px(to_um(np.arange(px.start, px.stop) + 0.5, mpp), CELL_UM) - 0.5, 0, n_cells - 1)
        cells = slice(int(place[0]), int(place[-1]) + 2)
        distance = np.abs(place[:, None] - np.arange(n_cells)[cells])
        blocks.append((px, cells, np.maximum(1 - distance, 0).astype(np.float32)))
    return blocks


def _level(density: np.ndarray) -> np.ndarray:
    return np.clip(density * np.float32(LEVELS / MAX_DENSITY), 0, LEVELS - 1).astype(np.int32)


def _colours(stain: Stain) -> np.ndarray:
    """Return the colour of each pair of haematoxylin and eosin levels, shape ``(LEVELS ** 2, 3)`` uint8."""
    density = (np.arange(LEVELS) + 0.5)[:, None] * (MAX_DENSITY / LEVELS)
    light = 10 ** -(density * stain.haematoxylin)[:, None] * 10 ** -(density * stain.eosin)
    return np.asarray(stain.white * light, dtype=np.uint8).reshape(-1, 3)


def _cut(rng: np.random.Generator, texture: np.ndarray, period: int) -> np.ndarray:
    """Return a texture from a random place on, scaled to ``period`` pixels and repeated for one block more."""
    at = np.arange(period + BLOCK_PX) * texture.shape[0] // period
    y, x = rng.integers(0, texture.shape[0], 2)
    return texture[np.ix_((at + y) % texture.shape[0], (at + x) % texture.shape[1])]


def add_nuclei(canvas: np.ndarray, nuclei: Nuclei, blur_um: float, mpp: float) -> None:
    """Add the haematoxylin of every nucleus to ``canvas``, shape ``(h, w)`` float32 at ``mpp``."""
    size = np.abs(np.log(nuclei.radius_um[:, None] / RADII_UM)).argmin(1)
    stretch = np.abs(nuclei.elongation[:, None] - STRETCHES).argmin(1)
    turn = np.round(nuclei.angle / ANGLES[1]).astype(int) % len(ANGLES)
    y, x = (np.asarray(to_px(a, mpp), dtype=int) for a in (nuclei.y_um, nuclei.x_um))
    (height, width), flat = canvas.shape, canvas.reshape(-1)
    for i, shapes in enumerate(_shapes(blur_um, mpp)):
        reach = shapes.shape[-1] // 2
        whole = (y >= reach) & (x >= reach) & (y < height - reach) & (x < width - reach)
        offsets = (np.arange(-reach, reach + 1)[:, None] * width + np.arange(-reach, reach + 1)).ravel()
        which = np.flatnonzero(whole & (size == i))
        for some in np.array_split(which, len(which) // 2000 + 1):
            ink = shapes[stretch[some], turn[some]] * nuclei.chromatin[some, None, None].astype(np.float32)
            np.add.at(flat, ((y[some] * width + x[some])[:, None] + offsets).ravel(), ink.ravel())
    np.minimum(canvas, 1.9, out=canvas)  # overlapping nuclei do not add without end


def _layers(tissue: Tissue) -> np.ndarray:
    """Return haematoxylin haze, eosin base, fibre strength and fat per cell, shape ``(4, rows, cols)``."""
    stroma, fat = tissue.shares[2], tissue.shares[4]
    loose = np.clip(tissue.looseness, -2, 2)
    haze = np.tensordot(HAZE, tissue.shares, 1)
    base = np.tensordot(EOSIN, tissue.shares, 1) - 0.07 * stroma * loose
    fibre = stroma * (0.07 + 0.02 * loose) + 0.025 * (tissue.shares[0] + tissue.shares[1])
    return np.stack([haze, base, fibre, 0.22 * fat]).astype(np.float32)


@cache
def _textures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return fibres, fine grain (mean 0, sd 1 each) and the walls of fat cells (0 to 1) as seamless tiles of 1 um."""
    rng = np.random.default_rng(2)  # fixed textures; sections differ in where they cut them
    white = rng.standard_normal((3, TEXTURE_UM, TEXTURE_UM)).astype(np.float32)
    bend = 26 * _unit(ndimage.gaussian_filter(white[0], 48, mode="wrap", truncate=2))
    streaks = ndimage.gaussian_filter(white[1], (1.0, 16), mode="wrap", truncate=2)
    y, x = np.indices(streaks.shape)
    fibre = streaks[(y + bend.astype(int)) % TEXTURE_UM, x]
    grain = ndimage.gaussian_filter(white[2], 1.3, mode="wrap")
    nearest, second = worley_tile()
    at = (np.arange(TEXTURE_UM) * (TILE_PERIOD * TILE_PX / TEXTURE_UM)).astype(int)
    wall = np.exp(-(((second - nearest) / 0.05) ** 2))[np.ix_(at, at)]
    return _unit(fibre), _unit(grain), wall


def _unit(field: np.ndarray) -> np.ndarray:
    return np.asarray((field - field.mean()) / field.std())


@cache
def _shapes(blur_um: float, mpp: float) -> list[np.ndarray]:
    """Return nuclei at unit chromatin, per radius an array of shape ``(4, 8, side, side)`` by stretch and angle."""
    return [_shapes_of_radius(float(radius), blur_um, mpp) for radius in RADII_UM]


def _shapes_of_radius(radius: float, blur_um: float, mpp: float) -> np.ndarray:
    reach = int(np.ceil(to_px(radius * 1.6 + 2 * blur_um + 0.5, mpp)))
    y, x = np.asarray(to_um(np.indices((2 * reach + 1, 2 * reach + 1)) - reach, mpp))
    stretch = np.sqrt(STRETCHES)[:, None, None, None]
    cos, sin = np.cos(ANGLES)[:, None, None], np.sin(ANGLES)[:, None, None]
    along, across = (x * cos + y * sin) / stretch, (y * cos - x * sin) * stretch
    r = np.sqrt(along**2 + across**2) / radius
    edge = (0.55 + 0.25 * blur_um) / radius
    body = 1 / (1 + np.exp(np.clip((r - 1) / edge, -30, 30)))
    vesicle = np.clip((radius - 3.0) / 3.5, 0, 0.5) * np.exp(-((r / 0.62) ** 2))  # large nuclei are pale inside
    nucleolus = 0.35 * (radius > 4.2) * np.exp(-((along - 0.9) ** 2 + across**2) / 0.9)
    return np.asarray(body * (1 - vesicle) + nucleolus, dtype=np.float32)
