"""Blocks of spots that lie together, and the features of those that are done: a killed run goes on where it stopped."""

import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from hescribe._support import write_whole
from hescribe.encode import accelerate
from hescribe.encode.base import ImageEncoder

BLOCK = 512  # spots that are kept at a time: what a kill costs
SQUARE_UM = 2000.0  # spots within a square are read one after the other, so that its tiles are decoded once


def order_blocks(xy_um: np.ndarray) -> list[np.ndarray]:
    """Return the spots in blocks, square after square.

    Parameters
    ----------
    xy_um
        Shape ``(n_spots, 2)``.

    Returns
    -------
    Numbers of spots, each once, up to 512 in an array.

    Examples
    --------
    >>> [b.tolist() for b in order_blocks(np.array([[0.0, 0.0], [9000.0, 0.0], [1.0, 0.0]]))]
    [[0, 2, 1]]
    """
    if not np.isfinite(xy_um).all():
        return [np.arange(len(xy_um))]  # whoever cuts the patches says which spot lies nowhere
    column, row = np.floor(xy_um / SQUARE_UM).T
    order = np.lexsort((np.arange(len(xy_um)), column, row))
    return [order[i : i + BLOCK] for i in range(0, len(order), BLOCK)]


class Kept:
    """Features of finished blocks on disk, each written whole.

    Parameters
    ----------
    folder
        Named after all that the features depend on, so that nothing stale can lie in it.
    encoder
        What ran another way (on another machine, say) is not mixed with what is computed now.
    """

    def __init__(self, folder: Path, encoder: ImageEncoder) -> None:
        self.folder, self._encoder = folder, encoder

    def any(self) -> bool:
        """Return whether a block was kept."""
        return self.folder.is_dir() and any(self.folder.glob("*.npz"))

    def read(self, block: int, shape: tuple[int, int]) -> np.ndarray | None:
        """Return the features of a block; None if they are not there, damaged, or were computed another way."""
        try:
            with np.load(self._place(block), allow_pickle=False) as kept:
                rows, crc32, way = kept["rows"], int(kept["crc32"]), str(kept["way"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        is_whole = rows.shape == shape and rows.dtype == np.float32 and zlib.crc32(rows.tobytes()) == crc32
        return rows if is_whole and way == accelerate.backend(self._encoder) else None

    def write(self, block: int, rows: np.ndarray) -> None:
        """Keep the features of a block."""
        with write_whole(self._place(block)) as tmp, tmp.open("wb") as out:
            np.savez(out, rows=rows, crc32=zlib.crc32(rows.tobytes()), way=accelerate.backend(self._encoder))

    def remove(self) -> None:
        """Remove what was kept, once all of it is in its place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npz"
