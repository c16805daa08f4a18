"""Micrometres, pixels and mpp (um per pixel). The only file that multiplies by mpp."""

import numpy as np

from hescribe.errors import UnitsError

MIN_MPP, MAX_MPP = 0.05, 50.0  # finest oil immersion; a thumbnail of a whole slide
CONTRADICTION = 0.05  # two statements of one scale may differ by 5 % (shrinkage, rounding)


def check_mpp(mpp: float | None, where: str) -> float:
    """Return ``mpp`` if it is a plausible pixel size.

    Parameters
    ----------
    mpp
        Size of a pixel in um, or None if nothing states it.
    where
        File or section, for the message.

    Raises
    ------
    UnitsError
        If it is missing, not finite, or outside [0.05, 50] um.

    Examples
    --------
    >>> check_mpp(0.5, "a.svs")
    0.5
    """
    if mpp is None:
        raise UnitsError(
            f"{where}: the size of a pixel is not recorded; give it with --mpp (the scanner report "
            "states um per pixel) or declare it in an import manifest"
        )
    if not np.isfinite(mpp) or not MIN_MPP <= mpp <= MAX_MPP:
        raise UnitsError(
            f"{where}: mpp {mpp:g} is not a pixel size in um ({MIN_MPP:g} to {MAX_MPP:g}); "
            "a magnification such as 20 is not an mpp"
        )
    return float(mpp)


def check_agreement(stated: dict[str, float], where: str) -> None:
    """Refuse two statements of one scale that differ by more than 5 %.

    Parameters
    ----------
    stated
        mpp by the place that states it, for example ``{"--mpp": 0.5, "spot pitch": 0.68}``.

    Raises
    ------
    UnitsError
        If the largest is over 1.05 times the smallest.
    """
    if stated and max(stated.values()) > min(stated.values()) * (1 + CONTRADICTION):
        said = ", ".join(f"{k} says {v:.4g}" for k, v in stated.items())
        raise UnitsError(f"{where}: the scale is contradictory ({said} um per pixel); give the right one only")


def to_px(um: float | np.ndarray, mpp: float) -> float | np.ndarray:
    """Return a length in pixels of ``mpp`` for a length in um.

    Examples
    --------
    >>> to_px(112.0, 0.5)
    224.0
    """
    return um / mpp


def to_um(px: float | np.ndarray, mpp: float) -> float | np.ndarray:
    """Return a length in um for a length in pixels of ``mpp``.

    Examples
    --------
    >>> to_um(224, 0.5)
    112.0
    """
    return px * mpp


def patch_mpp(fov_um: float, px: int) -> float:
    """Return the pixel size at which a field of view fills ``px`` pixels.

    Examples
    --------
    >>> patch_mpp(112.0, 224)
    0.5
    """
    return fov_um / px


def mpp_of_dpi(dpi: float) -> float:
    """Return um per pixel for a number of pixels in an inch.

    Examples
    --------
    >>> mpp_of_dpi(50_800)
    0.5
    """
    return 25_400 / dpi


def mpp_from_pitch(pitch_um: float, pitch_px: float) -> float:
    """Return um per pixel for the distance of neighbouring spots in um and in pixels.

    Examples
    --------
    >>> mpp_from_pitch(200.0, 400.0)
    0.5
    """
    return pitch_um / pitch_px


def reduce_mpp(mpp: float, downsample: float) -> float:
    """Return um per pixel of an image made ``downsample`` times smaller.

    Examples
    --------
    >>> reduce_mpp(0.25, 4.0)
    1.0
    """
    return mpp * downsample
