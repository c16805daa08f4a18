"""Faults of slides, planted into images of known content: another stain, blur, ink, empty glass.

A detector of bad images is tested on the same slide with and without the fault. Images must be held in memory.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.units import to_px

GLASS, GLASS_NOISE = 240, 3  # grey levels
MARKERS = {"blue": (40, 60, 170), "green": (30, 130, 60), "black": (30, 30, 30), "red": (190, 30, 40)}


def restain(section: Section, density: tuple[float, float, float]) -> Section:
    """Return the section with the optical density of red, green and blue multiplied: another stain or scanner.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_section
    >>> section = colour_section(0, "D0")
    >>> (restain(section, (1.0, 1.0, 1.0)).image.pixels == section.image.pixels).all()
    np.True_
    """
    levels = np.maximum(np.arange(256), 1) / 255
    tables = [np.clip(np.round(255 * levels**times), 0, 255).astype(np.uint8) for times in density]
    tables = [np.where(levels > 1 / 255, table, 0).astype(np.uint8) for table in tables]  # black stays black
    pixels = _pixels(section)
    return _with_pixels(
        section, np.stack([t[pixels[..., c]] for c, t in enumerate(tables)], axis=-1), f"stain {density}"
    )


def blur(section: Section, sd_um: float) -> Section:
    """Return the section out of focus: a Gaussian of this standard deviation."""
    assert section.image is not None
    sd = float(to_px(sd_um, section.image.mpp))
    pixels = _pixels(section)
    channels = [ndimage.gaussian_filter(pixels[..., c], sd) for c in range(3)]
    return _with_pixels(section, np.stack(channels, axis=-1), f"blur {sd_um}")


def draw_pen(section: Section, spots: Sequence[int], *, colour: str = "blue", width_um: float = 120.0) -> Section:
    """Return the section with a dot of a marker pen over some spots, through which a little tissue shines."""
    pixels = _pixels(section).copy()
    for rows, columns, inside in _discs(section, spots, width_um / 2):
        patch = pixels[rows, columns]
        patch[inside] = (0.1 * patch[inside] + 0.9 * np.array(MARKERS[colour])).astype(np.uint8)
    return _with_pixels(section, pixels, f"pen {colour} {width_um} {list(spots)}")


def wipe_tissue(section: Section, spots: Sequence[int], *, width_um: float = 300.0) -> Section:
    """Return the section with empty glass in place of the tissue of some spots."""
    pixels, rng = _pixels(section).copy(), np.random.default_rng(0)
    for rows, columns, inside in _discs(section, spots, width_um / 2):
        patch = pixels[rows, columns]
        patch[inside] = np.clip(rng.normal(GLASS, GLASS_NOISE, (int(inside.sum()), 3)), 0, 255).astype(np.uint8)
    return _with_pixels(section, pixels, f"glass {width_um} {list(spots)}")


def _discs(section: Section, spots: Sequence[int], radius_um: float) -> list[tuple[slice, slice, np.ndarray]]:
    """Return rows, columns and a mask of the pixels around each spot."""
    assert section.image is not None
    height, width = _pixels(section).shape[:2]
    radius, found = float(to_px(radius_um, section.image.mpp)), []
    for x, y in np.asarray(to_px(section.xy_um[list(spots)], section.image.mpp)):
        rows = slice(max(int(y - radius), 0), min(int(y + radius) + 2, height))
        columns = slice(max(int(x - radius), 0), min(int(x + radius) + 2, width))
        at_y, at_x = np.ogrid[rows, columns]
        found.append((rows, columns, np.hypot(at_x - x, at_y - y) <= radius))
    return found


def _pixels(section: Section) -> np.ndarray:
    assert isinstance(section.image, ArrayImage), "faults are planted into images in memory"
    return section.image.pixels


def _with_pixels(section: Section, pixels: np.ndarray, change: str) -> Section:
    assert section.image is not None
    image = ArrayImage(np.ascontiguousarray(pixels), section.image.mpp, f"{section.image.fingerprint} {change}")
    return replace(section, image=image)
