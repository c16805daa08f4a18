"""A perceptual hash of tissue: the same section is known again after scaling, recompression, restaining or turning.

The section is found by its stain, cut out as a square that scales with it, and kept as 48 x 48 grey
values. A DCT hash of those (Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010) picks candidate pairs; they are then laid over each other. We differ: the square
follows the tissue and not the frame of the image, all eight turns and mirrors are tried, and a
candidate must also agree in its fine structure, because neighbouring sections of one block agree in
outline.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from hescribe.data.image import ImageSource
from hescribe.units import patch_mpp

OVERVIEW_PX = 256  # longer side of the image that the tissue is looked for on
SIDE_PX = 48  # of the hash
MARGIN = 0.25  # about the spots, of the longer side of the area they cover
N_WAVES = 16  # rows and columns of the DCT that make the bits, all but the mean
N_BITS = N_WAVES**2 - 1
SPREADS = 4.2  # side of the square, in standard deviations of the tissue's area
MIN_CONTRAST = 0.1  # stain between glass and tissue; an image without any has no hash
FINE_PX = 2.0  # structure coarser than this Gaussian is taken out before two hashes are laid over each other
SCALES = (0.88, 0.92, 0.96, 1.0, 1.04, 1.08, 1.12)  # the square is found a little larger or smaller each time
MAX_SHIFT_PX = SIDE_PX // 8
# Measured on 19 sections of her2st, stutility_mob and the synthetic cohort, each against 17 changes of itself
# (benchmarks/duplicates.py): changed copies differ in at most 26 % of bits and reach a likeness of at least 0.62;
# different sections, neighbours in one block included, reach at most 0.48, and 97 % of them differ in more bits.
MAX_BITS = 0.34
MIN_LIKENESS = 0.55


def hash_image(image: ImageSource, xy_um: np.ndarray | None = None) -> np.ndarray | None:
    """Return the hash of the tissue on an image, shape ``(48, 48)`` uint8; None if nothing is stained.

    Parameters
    ----------
    image
        Read at low resolution only.
    xy_um
        Spot centres, shape ``(n_spots, 2)``: only the part of the image that holds them is looked at, with
        a margin, for a slide may carry the tissue of several donors.

    Examples
    --------
    >>> from hescribe.data.image import ArrayImage
    >>> hash_image(ArrayImage(np.full((60, 60, 3), 230, dtype=np.uint8), 8.0, "bare glass")) is None
    True
    """
    stain = _read_stain(image, xy_um)
    square = _find_square(stain)
    if square is None:
        return None
    size = (4 * SIDE_PX, 4 * SIDE_PX)
    fine = Image.fromarray(stain).transform(size, Image.Transform.EXTENT, square, Image.Resampling.BILINEAR)
    grey = np.asarray(fine).reshape(SIDE_PX, 4, SIDE_PX, 4).mean(axis=(1, 3))
    low, high = grey.min(), grey.max()
    return np.asarray(np.rint((grey - low) / max(high - low, 1e-6) * 255), dtype=np.uint8)


def _read_stain(image: ImageSource, xy_um: np.ndarray | None) -> np.ndarray:
    """Return how strongly an image is stained, at most 256 px long, float32.

    Stain colours glass: the spread of the colour channels' optical density plus half its mean.
    """
    first, last = np.zeros(2), np.array(image.size_um)
    margin = 0.0 if xy_um is None or not len(xy_um) else MARGIN * float(np.ptp(xy_um, axis=0).max())
    if xy_um is not None and margin > 0:
        first, last = np.maximum(xy_um.min(axis=0) - margin, first), np.minimum(xy_um.max(axis=0) + margin, last)
    width, height = (float(v) for v in last - first)
    mpp = max(image.mpp, patch_mpp(max(width, height), OVERVIEW_PX))
    pixels = image.read(float(first[0]), float(first[1]), (width, height), mpp)
    density = -np.log10(np.maximum(pixels, 1) / np.float32(255))
    return np.asarray(np.ptp(density, axis=2) + 0.5 * density.mean(axis=2), dtype=np.float32)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the highest correlation of the fine structure of two hashes, over turns, mirrors, scales and shifts.

    Parameters
    ----------
    one, other
        From ``hash_image``.

    Returns
    -------
    Up to 1; above ``MIN_LIKENESS`` they show the same section.

    Examples
    --------
    >>> grey = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    >>> likeness(grey, np.rot90(grey)) > 0.99
    True
    """
    return _lay_over(one, _move(other))


def count_bits(one: np.ndarray, other: np.ndarray) -> float:
    """Return which share of the 255 bits of two hashes differs, in the turn or mirror where it is least.

    Examples
    --------
    >>> grey = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    >>> count_bits(grey, grey.T)
    0.0
    """
    bits = _bits([one, other])
    return float(_differing(bits[:1], bits[1])[0]) / N_BITS


def like_pairs(hashes: Sequence[np.ndarray]) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of hashes that show the same section, as (earlier, later, likeness)."""
    if not hashes:
        return
    bits = _bits(hashes)
    for j in range(1, len(hashes)):
        candidates = np.flatnonzero(_differing(bits[:j], bits[j]) <= MAX_BITS * N_BITS)
        moved = _move(hashes[j]) if len(candidates) else None
        for i in candidates.tolist():
            if moved is not None and (alike := _lay_over(hashes[i], moved)) >= MIN_LIKENESS:
                yield i, j, alike


def _move(grey: np.ndarray) -> np.ndarray:
    """Return the spectra of the fine structure of all scales and turns, shape ``(56, 48, 25)`` complex."""
    moved = [_fine(turn) for scale in SCALES for turn in _turns(_scaled(grey, scale))]
    return np.asarray(fft.rfft2(np.stack(moved)))


def _lay_over(still: np.ndarray, moved: np.ndarray) -> float:
    """Return the highest correlation over all that ``_move`` gave and over small shifts."""
    maps = fft.irfft2(np.conj(fft.rfft2(_fine(still.astype(np.float32)))) * moved, s=still.shape)
    near = np.r_[-MAX_SHIFT_PX : MAX_SHIFT_PX + 1]
    return float(maps[:, near[:, None], near].max())


def _find_square(stain: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the square about the tissue (x0, y0, x1, y1) in pixels.

    Its threshold is taken again within the square until nothing moves, so that it does not depend on
    how much glass the image shows.
    """
    smooth = ndimage.gaussian_filter(stain, 1.0)
    y, x = np.mgrid[: stain.shape[0], : stain.shape[1]]
    inside = np.ones(stain.shape, dtype=bool)
    low, high = np.percentile(smooth, [10, 99])
    if high - low < MIN_CONTRAST:
        return None
    for _ in range(6):
        low, high = np.percentile(smooth[inside], [10, 99])
        tissue = inside & (smooth >= (low + high) / 2)
        centre_x, centre_y = x[tissue].mean(), y[tissue].mean()
        spread = max(float(np.sqrt((x[tissue].var() + y[tissue].var()) / 2)), 2.0)
        before, inside = inside, (abs(x - centre_x) < 3 * spread) & (abs(y - centre_y) < 3 * spread)
        if (inside == before).all():
            break
    half = SPREADS * spread / 2
    return (centre_x + 0.5 - half, centre_y + 0.5 - half, centre_x + 0.5 + half, centre_y + 0.5 + half)


def _bits(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the packed bits of all eight turns, the first unturned, shape ``(n, 8, 32)`` uint8."""
    waves = np.stack([fft.dctn(h.astype(np.float64), norm="ortho")[:N_WAVES, :N_WAVES] for h in hashes])
    return np.stack([_pack(turn) for turn in _turns_of_waves(waves)], axis=1)


def _differing(turned: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return how many bits of one hash differ from each of others in its best turn, shape ``(n,)``."""
    return np.asarray(np.bitwise_count(turned ^ bits[0]).sum(axis=2, dtype=np.int64).min(axis=1))


def _pack(waves: np.ndarray) -> np.ndarray:
    """Return which frequencies are above their median, shape ``(n, 32)`` uint8."""
    flat = waves.reshape(len(waves), -1)[:, 1:]
    return np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)


def _turns(grey: np.ndarray) -> list[np.ndarray]:
    return [m for g in (grey, grey.T) for m in (g, g[::-1], g[:, ::-1], g[::-1, ::-1])]


def _turns_of_waves(waves: np.ndarray) -> list[np.ndarray]:
    """Return what the eight turns and mirrors do to cosine waves: odd ones change sign, axes change place."""
    sign = np.where(np.arange(N_WAVES) % 2, -1.0, 1.0)
    both = (waves, waves.swapaxes(1, 2))
    return [m for w in both for m in (w, w * sign[:, None], w * sign, w * sign[:, None] * sign)]


def _scaled(grey: np.ndarray, scale: float) -> np.ndarray:
    margin = (SIDE_PX - SIDE_PX / scale) / 2
    box = (margin, margin, SIDE_PX - margin, SIDE_PX - margin)
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.transform((SIDE_PX,) * 2, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR))


def _fine(grey: np.ndarray) -> np.ndarray:
    """Return the fine structure, faded out at the edges, of mean 0 and length 1."""
    fade = np.sqrt(np.hanning(SIDE_PX + 2)[1:-1])
    fine = (grey - ndimage.gaussian_filter(grey, FINE_PX)) * fade[:, None] * fade
    fine = fine - fine.mean()
    return np.asarray(fine / max(float(np.linalg.norm(fine)), 1e-6))
