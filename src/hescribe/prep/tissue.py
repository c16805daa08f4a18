"""Find tissue on an H&E image, and lay a grid of spots over it."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import ndimage

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, SectionCard
from hescribe.data.image import ImageSource
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.units import to_px

MASK_MPP = 8.0  # um per pixel of the mask: a nucleus is one pixel
MIN_PITCH_UM = 1.0  # finer spots would lie within one cell, and a slide hold 10^9 of them
MIN_CONTRAST = 0.06  # optical density between tissue and glass; below it there is no tissue


def tissue_mask(image: ImageSource, *, mpp: float = MASK_MPP) -> np.ndarray:
    """Return where an image shows stained tissue, shape ``(h, w)`` bool at ``mpp``; see ``find_tissue``."""
    return find_tissue(image.read(0.0, 0.0, image.size_um, mpp), mpp=mpp)


def find_tissue(pixels: np.ndarray, *, mpp: float = MASK_MPP) -> np.ndarray:
    """Return where pixels show stained tissue, shape ``(h, w)`` bool.

    Stain colours glass: the threshold is Otsu's on the spread of the colour channels' optical
    density plus its mean, smoothed over about 30 um; specks and holes below 0.02 mm2 are removed.

    Parameters
    ----------
    pixels
        Shape ``(h, w, 3)`` uint8.
    mpp
        Their size, um per pixel.
    """
    density = -np.log10(np.maximum(pixels, 1) / 255.0)
    dark = pixels.max(axis=2) < 40  # pen, black border: no stain looks like this
    stain = np.where(dark, 0.0, np.ptp(density, axis=2) + 0.5 * density.mean(axis=2))
    stain = ndimage.gaussian_filter(stain, 2.0)
    threshold = _otsu(stain)
    mask = stain > max(threshold, MIN_CONTRAST)
    smallest = float(to_px(to_px(0.02e6, mpp), mpp))
    return _drop_small(~_drop_small(~mask, smallest), smallest)


def grid_section(image: ImageSource, section_id: str, pitch_um: float, *, min_tissue: float = 0.5) -> Section:
    """Return a section of spots on a square grid over the tissue of an image.

    Parameters
    ----------
    image
        Of known scale.
    section_id
        Name of the result.
    pitch_um
        Distance between spots.
    min_tissue
        Least share of a spot's square that must be tissue.

    Raises
    ------
    InputError
        If ``pitch_um`` is no distance, or no square of the grid holds enough tissue.
    """
    if not (np.isfinite(pitch_um) and pitch_um >= MIN_PITCH_UM):
        raise InputError(f"the distance between spots must be at least {MIN_PITCH_UM:g} um, got {pitch_um:g}")
    mask = tissue_mask(image)
    width_um, height_um = image.size_um
    n_cols, n_rows = int(width_um // pitch_um), int(height_um // pitch_um)
    row, col = np.divmod(np.arange(n_rows * n_cols), max(n_cols, 1))
    xy_um = np.column_stack([col + 0.5, row + 0.5]) * pitch_um
    half = max(1, int(to_px(pitch_um / 2, MASK_MPP)))
    share = ndimage.uniform_filter(mask.astype(np.float32), 2 * half + 1, mode="constant")
    at = np.minimum(np.floor(to_px(xy_um, MASK_MPP)).astype(int), np.array(mask.shape[::-1]) - 1)
    on = share[at[:, 1], at[:, 0]] >= min_tissue if len(at) else np.zeros(0, bool)
    if not on.any():
        raise InputError(f"{section_id}: no tissue found on a grid of {pitch_um:g} um; is this an H&E image?")
    obs = pd.DataFrame(
        {keys.ARRAY_ROW: row[on], keys.ARRAY_COL: col[on]},
        index=[f"{c}x{r}" for r, c in zip(row[on], col[on], strict=True)],
    )
    table = AnnData(obs=obs, obsm={keys.SPATIAL_UM: xy_um[on], keys.SPATIAL: to_px(xy_um[on], image.mpp)})
    card = SectionCard(technology=TECHNOLOGIES["slide"], pitch_um=pitch_um, mpp=image.mpp, mpp_source="image")
    return Section(section_id, "unknown", table, image, card)


def _otsu(values: np.ndarray) -> float:
    """Return the threshold that best parts a histogram in two (Otsu, IEEE SMC 1979)."""
    count, edges = np.histogram(values, bins=256)
    centre = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(count)
    above = below[-1] - below
    mean_below = np.cumsum(count * centre) / np.maximum(below, 1)
    mean_above = (np.sum(count * centre) - np.cumsum(count * centre)) / np.maximum(above, 1)
    return float(centre[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def _drop_small(mask: np.ndarray, smallest: float) -> np.ndarray:
    label, _ = ndimage.label(mask)
    size = np.bincount(label.ravel())
    size[0] = 0
    return (size >= smallest)[label]
