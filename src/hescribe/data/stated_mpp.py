"""The size of a pixel as an image file states it, wherever its format puts it."""

from pathlib import Path

from hescribe.data.plain import is_tiff, read_dpi
from hescribe.data.tiff_levels import read_tiff_mpp
from hescribe.errors import DataAccessError, UnitsError
from hescribe.units import CONTRADICTION, check_agreement, check_mpp, mpp_of_dpi

OURS = (None, "aperio", "generic-tiff")  # what OpenSlide calls the TIFF that are read tile by tile here
FINEST_TAG, COARSEST_TAG = 0.05, 5.0  # um per pixel: beyond it, a resolution tag means print, not a scanner


def read_stated_mpp(path: Path) -> float | None:
    """Return um per pixel as the file itself states it, None if it does not.

    Raises
    ------
    UnitsError
        If the file states different sizes, for x and y or in two places.
    """
    stated = _read_places(path)
    check_agreement(stated, str(path))
    return sum(stated.values()) / len(stated) if stated else None


def settle_mpp(path: Path, given: float | None) -> float:
    """Return um per pixel of an image from what the file and the user say.

    Parameters
    ----------
    path
        The image.
    given
        Said by the user; None if nothing was. It decides between places of the file that contradict each other.

    Raises
    ------
    UnitsError
        If nobody says it, or the file contradicts itself or the user.
    """
    places = _read_places(path)
    agreeing = [v for v in places.values() if given and max(v, given) <= min(v, given) * (1 + CONTRADICTION)]
    if agreeing and len(agreeing) < len(places):
        return check_mpp(given, str(path))
    of_file = read_stated_mpp(path)
    stated = {k: v for k, v in {"the file": of_file, "mpp": given}.items() if v is not None}
    check_agreement(stated, str(path))
    try:
        return check_mpp(next(iter(stated.values()), None), str(path))
    except UnitsError as error:
        power = None if stated else _read_power(path)
        hint = f"; it was scanned at {power:g}x, where 20x is mostly about 0.5 and 40x about 0.25" if power else ""
        raise UnitsError(f"{error}{hint}") from None


def _read_places(path: Path) -> dict[str, float]:
    """Return um per pixel by the place that states it; what no scanner would say is left out."""
    if not path.is_file():
        raise DataAccessError(f"image {path} {'is no file' if path.exists() else 'does not exist'}")
    properties = _read_properties(path)
    stated = {f"its {axis} axis": float(v) for axis in "xy" if (v := properties.get(f"openslide.mpp-{axis}"))}
    if is_tiff(path) and properties.get("openslide.vendor") in OURS:
        stated |= read_tiff_mpp(path)  # of other formats the first picture may be the label
    elif not properties:
        stated |= {f"its {a} resolution": mpp_of_dpi(v) for a, v in zip("xy", read_dpi(path), strict=False) if v > 0}
    return {k: v for k, v in stated.items() if FINEST_TAG <= v <= COARSEST_TAG}


def _read_properties(path: Path) -> dict[str, str]:
    """Return what OpenSlide reads of a slide; nothing of other images."""
    import openslide  # noqa: PLC0415 - loads a C library

    try:
        with openslide.OpenSlide(path) as slide:
            return dict(slide.properties)
    except openslide.OpenSlideError:
        return {}


def _read_power(path: Path) -> float | None:
    value = _read_properties(path).get("openslide.objective-power", "")
    return float(value) if value.replace(".", "", 1).isdigit() else None
