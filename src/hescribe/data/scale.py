"""Where the size of a pixel comes from: the image, the user, or the pitch of the spots."""

import numpy as np

from hescribe.cards import Grid
from hescribe.errors import UnitsError
from hescribe.units import check_agreement, check_mpp

# Area of one step in array columns times one in rows, in squared pitches. On a hex array neighbours in
# a row are two columns apart, and rows are sqrt(3)/2 of a pitch apart.
CELL_AREA: dict[Grid, float] = {"square": 1.0, "checker": 0.5, "hex": np.sqrt(3) / 4}
MAX_RESIDUAL = 0.25  # of a pitch: a grid that fits worse is not the one the pixels were taken from


def find_pitch_px(xy_px: np.ndarray, array_xy: np.ndarray, grid: Grid, where: str) -> float:
    """Return the distance between neighbouring spots in pixels.

    An affine map from places on the array to pixels is fitted by least squares, so that a turned
    or mirrored section does not matter.

    Parameters
    ----------
    xy_px
        Spot centres in pixels, shape ``(n_spots, 2)``.
    array_xy
        Column and row on the capture array, shape ``(n_spots, 2)``.
    grid
        Layout of the array.
    where
        Section, for the message.

    Raises
    ------
    UnitsError
        If the spots are too few or in one line, or do not lie on such a grid.

    Examples
    --------
    >>> array_xy = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    >>> round(find_pitch_px(array_xy * 300.0, array_xy, "square", "s1"), 6)
    300.0
    """
    design = np.column_stack([array_xy, np.ones(len(array_xy))])
    if not spans_grid(array_xy):
        raise UnitsError(f"{where}: its {len(array_xy)} spots do not span a grid to take the scale from; give --mpp")
    if grid != "square" and len(set(np.unique((array_xy.sum(axis=1)) % 2))) > 1:
        raise UnitsError(f"{where}: its spots do not lie on a {grid} array (row + column is both odd and even)")
    affine = np.linalg.lstsq(design, xy_px, rcond=None)[0]
    pitch_px = float(np.sqrt(abs(np.linalg.det(affine[:2])) / CELL_AREA[grid]))
    residual = float(np.sqrt(np.mean(np.sum((design @ affine - xy_px) ** 2, axis=1))))
    if not pitch_px > 0 or residual > MAX_RESIDUAL * pitch_px:
        raise UnitsError(
            f"{where}: the pixel coordinates do not follow the places on the array (they are off by {residual:.0f} px "
            f"at a pitch of {pitch_px:.0f} px); check that both belong to this section"
        )
    return pitch_px


def spans_grid(array_xy: np.ndarray) -> bool:
    """Return whether places on an array, shape ``(n_spots, 2)``, are not all in one line.

    Examples
    --------
    >>> spans_grid(np.array([[0, 0], [1, 1], [2, 2]]))
    False
    """
    return len(array_xy) > 2 and bool(np.linalg.matrix_rank(array_xy - array_xy[0]) == 2)


def choose_mpp(stated: dict[str, float | None], where: str) -> tuple[float, str]:
    """Return the um per pixel and who stated it: the first that does.

    Raises
    ------
    UnitsError
        If none does, two differ by more than 5 %, or it is no pixel size.

    Examples
    --------
    >>> choose_mpp({"image": None, "--mpp": 0.5}, "s1")
    (0.5, '--mpp')
    """
    known = {source: check_mpp(mpp, f"{where} ({source})") for source, mpp in stated.items() if mpp is not None}
    check_agreement(known, where)
    if not known:
        raise UnitsError(
            f"{where}: the size of a pixel is stated neither by the image, --mpp, an import manifest nor the spot "
            "pitch of its technology; give --mpp (um per pixel, in the scanner's report), or pitch_um (distance of "
            "neighbouring spot centres) in a manifest"
        )
    return next(iter((mpp, source) for source, mpp in known.items()))
