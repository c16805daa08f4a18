"""Cut the image square of each spot, sized in micrometres, out of a section's image."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hescribe import settings
from hescribe.data.image import ImageSource
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.units import patch_mpp

CHUNK = 64  # patches held at once: 10 MB at 224 px


def iter_patches(section: Section, fov_um: float, px: int, chunk: int = CHUNK) -> Iterator[np.ndarray]:
    """Yield the patches of all spots, in spot order, chunk by chunk.

    Parameters
    ----------
    section
        Every spot is cut, also those that are no target: they serve as image context.
    fov_um
        Side of a patch in tissue, um, centred on the spot. Outside the image its edge pixels are repeated.
    px
        Side of a patch in pixels, whatever the image's own resolution is.
    chunk
        Patches per array, which bounds the memory used.

    Yields
    ------
    Shape ``(n, px, px, 3)`` uint8, ``n`` at most ``chunk``.

    Raises
    ------
    InputError
        If the section has no image, a spot has no coordinates or lies outside of the image, or a size
        is not positive.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from hescribe.data.image import ArrayImage
    >>> table = AnnData(np.zeros((3, 1)), obsm={"spatial_um": np.full((3, 2), 50.0)})
    >>> image = ArrayImage(np.full((100, 100, 3), 200, np.uint8), mpp=1.0, fingerprint="grey")
    >>> [p.shape for p in iter_patches(Section("s", "d", table, image), 20.0, 32, chunk=2)]
    [(2, 32, 32, 3), (1, 32, 32, 3)]
    """
    if section.image is None:
        raise InputError(f"section {section.id} has no image to cut patches from; leave it out or import it with one")
    if not (np.isfinite(fov_um) and fov_um > 0 and px > 0 and chunk > 0):
        raise InputError(f"a patch needs a positive field of view and size, got {fov_um} um, {px} px, chunk {chunk}")
    corners = section.xy_um - fov_um / 2
    if not np.isfinite(corners).all():
        where = section.table.obs_names[~np.isfinite(corners).all(axis=1)][0]
        raise InputError(f"spot {where} of section {section.id} has no finite coordinates")
    outside = ((section.xy_um < 0) | (section.xy_um > section.image.size_um)).any(axis=1)
    if outside.any():
        where = section.table.obs_names[outside][0]
        raise InputError(f"spot {where} of section {section.id} lies outside of its image; do they belong together?")
    return _cut(section.image, corners, fov_um, px, chunk)


def _cut(image: ImageSource, corners: np.ndarray, fov_um: float, px: int, chunk: int) -> Iterator[np.ndarray]:
    mpp = patch_mpp(fov_um, px)

    def read(corner: np.ndarray) -> np.ndarray:
        return image.read(float(corner[0]), float(corner[1]), (fov_um, fov_um), mpp)

    with ThreadPoolExecutor(settings.n_workers()) as pool:  # scaling runs outside the interpreter lock
        for start in range(0, len(corners), chunk):
            yield np.stack(list(pool.map(read, corners[start : start + chunk])))
