"""A known batch shift of a section: another stain, a duller scanner, fewer counts, and counts of the neighbourhood.

Stain is changed in optical density (Ruifrok and Johnston, Anal Quant Cytol Histol 23, 2001: the law of Beer and
Lambert, and their vectors of haematoxylin and eosin), blur in light. Depth is lost by binomial thinning; ambient RNA is
a share of each spot's counts that comes from the section as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np
from scipy import ndimage, sparse

from hescribe import keys
from hescribe.data.image import ImageSource
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.units import to_px, to_um

Kind = Literal["stain", "blur", "depth", "ambient"]
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
DENSITY = -np.log10((np.arange(256) + 1) / 256)  # + 1: black stays finite, white is 0
# At strength 1. The donors of toy@1 differ by factors of e^.17 and e^.25 (sd) in stain and of 18 (range) in depth.
FADED, DEEPENED, BLUR_UM, LEFT, AMBIENT = 0.5, 1.6, 3.0, 0.25, 0.4
REACH = 3  # sd of the blur that are read around a region


@dataclass(frozen=True, kw_only=True)
class BatchShift:
    """What happened to a slide and to its counts; the defaults change nothing.

    Parameters
    ----------
    haematoxylin, eosin
        Factors on the optical density of either stain.
    blur_um
        Sd of the blur of the scanner, um.
    left
        Share of the counts that is left.
    ambient
        Share of a spot's counts that comes from the mean of its section.

    Raises
    ------
    InputError
        If a number is out of its limits.

    Examples
    --------
    >>> BatchShift.of(1.0)
    BatchShift(haematoxylin=0.5, eosin=1.6, blur_um=3.0, left=0.25, ambient=0.4)
    """

    haematoxylin: float = 1.0
    eosin: float = 1.0
    blur_um: float = 0.0
    left: float = 1.0
    ambient: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.haematoxylin < np.inf and 0 < self.eosin < np.inf and 0 <= self.blur_um < np.inf):
            raise InputError(f"stain factors must be above 0 and blur_um not negative, got {self}")
        if not (0 < self.left <= 1 and 0 <= self.ambient <= 1):
            raise InputError(f"left must be in (0, 1] and ambient in [0, 1], got {self}")

    @classmethod
    def of(cls, strength: float, kinds: Sequence[Kind] = get_args(Kind)) -> Self:
        """Return the shift of a strength: 0 is none; at 1 haematoxylin is halved, eosin 1.6 times as dense.

        Blur and ambient RNA grow in proportion, factors as powers: at 1 the blur has an sd of 3 um, a quarter of the
        counts is left, and .4 of them come from the mean of the section.

        Raises
        ------
        InputError
            If the strength is negative, or a kind unknown.
        """
        if strength < 0 or not np.isfinite(strength):
            raise InputError(f"strength of a batch shift must be 0 or more, got {strength}")
        if unknown := set(kinds) - set(get_args(Kind)):
            raise InputError(f"no batch shift is called {min(unknown)!r}; there are {', '.join(get_args(Kind))}")
        return cls(
            haematoxylin=FADED**strength if "stain" in kinds else 1.0,
            eosin=DEEPENED**strength if "stain" in kinds else 1.0,
            blur_um=BLUR_UM * strength if "blur" in kinds else 0.0,
            left=LEFT**strength if "depth" in kinds else 1.0,
            ambient=min(AMBIENT * strength, 1.0) if "ambient" in kinds else 0.0,
        )

    def apply(self, section: Section, *, seed: int = 0) -> Section:
        """Return the section as this batch would show it, its raw counts alone: what was made of them is left out.

        Parameters
        ----------
        section
            With raw counts; its image is changed when it is read.
        seed
            Of the counts that are lost and gained, with the section's name.
        """
        image = None if section.image is None else ShiftedImage(section.image, self)
        rng = np.random.default_rng([seed, *section.id.encode()])
        table = section.table.copy()
        counts = sparse.csr_matrix(table.layers[keys.COUNTS], dtype=np.int64)
        beyond = np.maximum(section.depth.astype(np.int64) - _totals(counts), 0)  # counts of genes outside the panel
        counts = self._blend(self._thin(counts, rng), rng)
        table.layers = {keys.COUNTS: counts.astype(np.float32)}
        table.obs[keys.DEPTH] = _totals(counts) + rng.binomial(beyond, self.left)
        return replace(section, table=table, image=image)

    def _thin(self, counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
        counts.data = rng.binomial(counts.data, self.left)
        counts.eliminate_zeros()
        return counts

    def _blend(self, counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
        """Return counts of which a share was lost, and as many drawn from the profile of all spots."""
        whole = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
        if not self.ambient or not whole.sum():
            return counts
        kept = counts.copy()
        kept.data = rng.binomial(counts.data, 1 - self.ambient)
        gained = rng.multinomial(_totals(counts) - _totals(kept), whole / whole.sum())
        return sparse.csr_matrix(kept + sparse.csr_matrix(gained))


@dataclass(frozen=True)
class ShiftedImage:
    """An image as another batch would show it, changed when it is read.

    Parameters
    ----------
    image
        As it was.
    shift
        Of stain and blur.
    """

    image: ImageSource
    shift: BatchShift

    @property
    def mpp(self) -> float:
        """Size of a pixel at full resolution in um."""
        return self.image.mpp

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        return self.image.size_um

    @property
    def fingerprint(self) -> str:
        """Identifies every pixel that ``read`` can return."""
        s = self.shift
        return f"{self.image.fingerprint} haematoxylin {s.haematoxylin} eosin {s.eosin} blur {s.blur_um}"

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8."""
        sd_px = float(to_px(self.shift.blur_um, mpp))
        margin = int(np.ceil(REACH * sd_px))
        more = float(to_um(margin, mpp))
        pixels = self.image.read(x_um - more, y_um - more, (size_um[0] + 2 * more, size_um[1] + 2 * more), mpp)
        light = self._restain(pixels)
        if margin:
            light = ndimage.gaussian_filter(light, (sd_px, sd_px, 0), truncate=REACH, mode="nearest")
            light = light[margin:-margin, margin:-margin]
        return np.asarray(np.clip(np.round(light), 0, 255), dtype=np.uint8)

    def _restain(self, pixels: np.ndarray) -> np.ndarray:
        """Return the light of pixels with other amounts of both stains; what is neither goes with haematoxylin."""
        if self.shift.haematoxylin == self.shift.eosin == 1:
            return pixels.astype(np.float32)
        stains = np.stack([v / np.linalg.norm(v) for v in (HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN))])
        change = (
            np.linalg.inv(stains)
            @ np.diag([self.shift.haematoxylin, self.shift.eosin, self.shift.haematoxylin])
            @ stains
        )
        density = DENSITY.astype(np.float32)[pixels] @ change.astype(np.float32)
        return np.asarray(256 * np.power(np.float32(10), -density) - 1)


def _totals(counts: sparse.csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
