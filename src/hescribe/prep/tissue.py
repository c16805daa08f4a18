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
DARK = 40  # grey levels of the lightest channel; what is darker is a border, a background or a pen, and no stain
# Inks absorb what H&E does not: blue, green and black ones red, red and orange ones blue. Pencil, dust and the edge of
# a coverslip absorb all alike. In optical density; the rest as shares of another channel's.
BLUE_INK, RED_INK, MIN_INK, MIN_HUE = 0.15, 0.8, 0.3, 0.15
# Of the pixels that are not dark under fluorescent light, which are few: dim, or of one pure colour. Tissue under white
# light has over 0.6 of the light in its lightest channel, and over 0.3 of that in its darkest.
MOSTLY, DIM, PURE = 0.5, 0.45, 0.2


def tissue_mask(image: ImageSource, *, mpp: float = MASK_MPP) -> np.ndarray:
    """Return where an image shows stained tissue, shape ``(h, w)`` bool at ``mpp``; see ``find_tissue``."""
    return find_tissue(image.read(0.0, 0.0, image.size_um, mpp), mpp=mpp)


def find_tissue(pixels: np.ndarray, *, mpp: float = MASK_MPP) -> np.ndarray:
    """Return where pixels show stained tissue, shape ``(h, w)`` bool.

    Stain colours glass: the threshold is Otsu's on the spread of the colour channels' optical
    density plus its mean, smoothed over about 30 um; specks and holes below 0.02 mm2 are removed. Pen, pencil, black
    borders and a background that was blacked out are no tissue; a fold is.

    Parameters
    ----------
    pixels
        Shape ``(h, w, 3)`` uint8.
    mpp
        Their size, um per pixel.
    """
    density = -np.log10(np.maximum(pixels, 1) / 255.0)
    no_stain = (pixels.max(axis=2) < DARK) | find_ink(density)
    stain = np.where(no_stain, 0.0, np.ptp(density, axis=2) + 0.5 * density.mean(axis=2))
    stain = ndimage.gaussian_filter(stain, 2.0)
    threshold = _otsu(stain)
    mask = stain > max(threshold, MIN_CONTRAST)
    smallest = float(to_px(to_px(0.02e6, mpp), mpp))
    return _drop_small(~_drop_small(~mask, smallest), smallest)


def find_ink(density: np.ndarray) -> np.ndarray:
    """Return which pixels are in a colour that H&E does not have, of shape ``(h, w)``.

    Parameters
    ----------
    density
        Optical density, shape ``(h, w, 3)``.
    """
    red, green, blue = np.moveaxis(density, 2, 0)
    mean = density.mean(axis=2)
    cold, warm = red - green > BLUE_INK, (green > MIN_INK) & (blue > RED_INK * green)
    grey = (mean > MIN_INK) & (np.ptp(density, axis=2) < MIN_HUE * mean)
    return np.asarray(cold | warm | grey)


def check_white_light(pixels: np.ndarray, section_id: str) -> None:
    """Raise ``InputError`` for an image that is light on dark, as fluorescence is.

    A slide whose background was blacked out is no such image: its tissue is as light as under white light.

    Parameters
    ----------
    pixels
        Shape ``(h, w, 3)`` uint8.
    section_id
        For the message.
    """
    lightest, darkest = pixels.max(axis=2), pixels.min(axis=2)
    lit = lightest >= DARK
    dim = np.median(lightest[lit]) < 255 * DIM if lit.any() else True
    pure = np.median(darkest[lit] / lightest[lit]) < PURE if lit.any() else True
    if (~lit).mean() > MOSTLY and (dim or pure):
        raise InputError(
            f"{section_id} is light on dark, as under fluorescent light; predictions need H&E under white light"
        )


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
    pixels = image.read(0.0, 0.0, image.size_um, MASK_MPP)
    check_white_light(pixels, section_id)
    mask = find_tissue(pixels)
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


def placed_section(image: ImageSource, section_id: str, names: list[str], xy_um: np.ndarray) -> Section:
    """Return a section of spots at given places of an image, cells for example.

    Parameters
    ----------
    image
        Of known scale.
    section_id
        Name of the result.
    names, xy_um
        Of the spots; their centres from the upper left corner, shape ``(n_spots, 2)``.

    Raises
    ------
    InputError
        If a place lies outside of the image.
    """
    outside = ((xy_um < 0) | (xy_um > image.size_um)).any(axis=1)
    if outside.any():
        first, (width, height) = names[int(np.flatnonzero(outside)[0])], image.size_um
        raise InputError(
            f"{outside.sum():,} of {len(names):,} places are outside of {section_id} ({width:.0f} x {height:.0f} um), "
            f"such as {first}; are they of this slide, in um or in pixels at full resolution?"
        )
    table = AnnData(
        obs=pd.DataFrame(index=pd.Index(names, dtype=object)),
        obsm={keys.SPATIAL_UM: xy_um, keys.SPATIAL: np.asarray(to_px(xy_um, image.mpp))},
    )
    card = SectionCard(technology=TECHNOLOGIES["slide"], mpp=image.mpp, mpp_source="image")
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
