"""Where an H&E image lies on a Xenium section: the files that Xenium Explorer exports.

Either file leads from pixels of the H&E image to pixels of the morphology (DAPI) image: a 3 x 3
matrix (``*_imagealignment.csv``, as 10x's own downloads have), or pairs of landmarks with the
columns ``fixedX, fixedY`` (morphology) and ``alignmentX, alignmentY`` (H&E).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hescribe.errors import FormatError, SchemaError
from hescribe.units import CONTRADICTION

LANDMARKS = ("alignmentX", "alignmentY", "fixedX", "fixedY")
MIN_LANDMARKS = 3  # an affine map has six unknowns, a pair of points gives two


def read_alignment(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the map from H&E pixels to morphology pixels.

    Parameters
    ----------
    path
        Matrix without a head line, or landmarks with one.

    Returns
    -------
    Affine matrix of shape ``(3, 3)``, and what to say about it.

    Raises
    ------
    FormatError
        If the file is neither.
    SchemaError
        If the matrix is not affine, flattens the image, or stretches one axis 5 % more than the other.
    """
    try:
        table = pd.read_csv(path, header=None, dtype=str)
        if set(LANDMARKS) <= set(table.iloc[0]):
            table.columns = table.iloc[0]
            matrix, notes = _fit(table[list(LANDMARKS)].iloc[1:].to_numpy(dtype=np.float64), path)
        else:
            matrix, notes = table.to_numpy(dtype=np.float64), ()
    except SchemaError:
        raise
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{path} is no alignment: neither 3 lines of 3 numbers nor landmarks in columns {', '.join(LANDMARKS)}"
        ) from error
    _check(matrix, path)
    return matrix, notes


def find_scale(matrix: np.ndarray) -> float:
    """Return how many morphology pixels an H&E pixel spans, the mean of both axes.

    Examples
    --------
    >>> find_scale(np.array([[0.0, -2.0, 5.0], [2.0, 0.0, 7.0], [0.0, 0.0, 1.0]]))
    2.0
    """
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def to_he_px(xy_px: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return pixels of the morphology image, shape ``(n, 2)``, as pixels of the H&E image.

    Examples
    --------
    >>> to_he_px(np.array([[3.0, 7.0]]), np.array([[2.0, 0.0, 1.0], [0.0, 2.0, -1.0], [0.0, 0.0, 1.0]]))
    array([[1., 4.]])
    """
    return np.linalg.solve(matrix[:2, :2], (xy_px - matrix[:2, 2]).T).T


def _fit(points: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the affine map of landmarks by least squares, and how well it fits."""
    he, fixed = np.column_stack([points[:, :2], np.ones(len(points))]), points[:, 2:]
    if len(points) < MIN_LANDMARKS or np.linalg.matrix_rank(he) < 3 or not np.isfinite(points).all():
        problem = f"it has {len(points)} landmarks; at least {MIN_LANDMARKS} that are not in one line are needed"
        raise SchemaError(str(path), [problem])
    solution = np.linalg.lstsq(he, fixed, rcond=None)[0]
    residual_px = float(np.sqrt(np.mean(np.sum((he @ solution - fixed) ** 2, axis=1))))
    return np.vstack([solution.T, [0.0, 0.0, 1.0]]), (
        f"{len(points)} landmarks place its H&E image, {residual_px:.1f} morphology pixels off on average",
    )


def _check(matrix: np.ndarray, path: Path) -> None:
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.allclose(matrix[2], [0, 0, 1]):
        raise SchemaError(str(path), ["an alignment is a matrix of 3 x 3 finite numbers whose last line is 0, 0, 1"])
    long, short = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if not short > 0 or long > short * (1 + CONTRADICTION):
        problem = (
            f"it stretches the image {long:.3g}-fold along one axis and {short:.3g}-fold along the other, so that no "
            f"one pixel size holds (they may differ by {CONTRADICTION:.0%}); check the landmarks"
        )
        raise SchemaError(str(path), [problem])
