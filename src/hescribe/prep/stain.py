"""Stain normalisation: make one slide look as if it had been stained like others.

Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009,
doi:10.1109/ISBI.2009.5193250, and Reinhard et al., Color transfer between images, IEEE Computer Graphics and
Applications 2001, doi:10.1109/38.946629. We differ: both look at stained pixels only, of patches from the whole
section, and what they aim at is the mean of the training donors, not one chosen picture. Macenko et al. call a pixel
stained if every channel is, which leaves out eosin: it absorbs little red.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hescribe.data.image import CoveredImage, ImageSource
from hescribe.data.section import Section
from hescribe.errors import InputError

Method = Literal["macenko", "reinhard"]
METHODS: tuple[Method, ...] = ("macenko", "reinhard")
STAINED = 0.1  # mean optical density (log10) of a pixel's channels above which it is stained
ANGLE = 1.0  # percentile of the angles that stand for the pure stains; of the paper
STRONG = 99.0  # percentile of a stain's concentrations that is brought to the reference's; of the paper
N_PATCHES, PATCH_UM, PATCH_MPP = 100, 112.0, 1.0  # that a section's stain is read from, evenly over its spots
MIN_PIXELS = 2000  # stained; fewer are too little tissue to say how it was stained
MIN_SPREAD = 2.0  # degrees between the two stains; below, only one colour is there
DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)

# From linear RGB to cone responses, and from their logarithms to l, alpha, beta: equations 4 and 6 of Reinhard et al.
LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
LAB = np.diag([1 / np.sqrt(3), 1 / np.sqrt(6), 1 / np.sqrt(2)]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


@dataclass(frozen=True)
class Stain:
    """How a section, or the mean of several, is stained.

    Parameters
    ----------
    first, second
        Macenko: optical density of haematoxylin and of eosin, unit length, shape ``(2, 3)``, and the 99th percentile of
        their concentrations, shape ``(2,)``. Reinhard: mean and sd of l, alpha and beta, shape ``(3,)`` both.
    """

    first: np.ndarray
    second: np.ndarray


def measure_stain(pixels: np.ndarray, method: Method) -> Stain:
    """Return the stain of pixels.

    Parameters
    ----------
    pixels
        Shape ``(..., 3)`` uint8; what is not stained is left out.
    method
        ``"macenko"`` or ``"reinhard"``.

    Raises
    ------
    InputError
        If under 2,000 of them are stained, or Macenko finds one colour only.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> both = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    >>> both = both / np.linalg.norm(both, axis=1, keepdims=True)
    >>> density = rng.gamma(1.0, 0.5, (5000, 2)) @ both
    >>> pixels = (255 * 10.0**-density).round().astype(np.uint8)
    >>> bool(np.abs(measure_stain(pixels, "macenko").first - both).max() < 0.02)
    True
    """
    if method not in METHODS:
        raise InputError(f"stain normalisation is macenko or reinhard, got {method!r}")
    pixels = pixels.reshape(-1, 3)
    density = DENSITY[pixels].astype(np.float64)
    stained = density.mean(axis=1) > STAINED
    if stained.sum() < MIN_PIXELS:
        raise InputError(
            f"{stained.sum():,} of {len(pixels):,} pixels are stained, at least {MIN_PIXELS:,} are needed to see how: "
            "there is too little tissue"
        )
    if method == "reinhard":
        lab = _to_lab(pixels[stained])
        return Stain(lab.mean(axis=0), np.maximum(lab.std(axis=0), 1e-3))
    return _measure_macenko(density[stained])


def mean_stain(stains: Sequence[Stain], method: Method) -> Stain:
    """Return the mean of several stains; that of Macenko's vectors has unit length again."""
    first, second = (np.mean([getattr(s, part) for s in stains], axis=0) for part in ("first", "second"))
    return Stain(first / np.linalg.norm(first, axis=1, keepdims=True) if method == "macenko" else first, second)


def normalise(pixels: np.ndarray, method: Method, source: Stain, reference: Stain) -> np.ndarray:
    """Return pixels of one stain as they would look in another, shape as given, uint8; white stays white.

    Parameters
    ----------
    pixels
        Shape ``(..., 3)`` uint8.
    method
        By which both stains were measured.
    source, reference
        Of the pixels, and the one to bring them to.
    """
    if method == "reinhard":
        lab = (_to_lab(pixels) - source.first) / source.second * reference.second + reference.first
        stained = DENSITY[pixels].mean(axis=-1, keepdims=True)
        share = np.clip(stained / STAINED, 0, 1)  # glass is no stain, and the edge of tissue must not show a step
        return np.asarray(np.rint(share * _from_lab(lab) + (1 - share) * pixels), np.uint8)
    # A pixel's concentrations are linear in its density, and so is what it becomes.
    scale = np.diag(reference.second / np.maximum(source.second, 1e-6))
    change = (np.linalg.pinv(source.first) @ scale @ reference.first).astype(np.float32)
    density = DENSITY[pixels] @ change
    return np.asarray(np.rint(255 * np.power(np.float32(10), -np.maximum(density, 0))), np.uint8)


def section_stain(section: Section, method: Method) -> Stain:
    """Return the stain of a section, from up to 100 patches evenly over its spots.

    Raises
    ------
    InputError
        If it has no image, or too little of it is stained.
    """
    if section.image is None:
        raise InputError(f"section {section.id} has no image whose stain could be normalised; leave it out")
    image = section.image.base if isinstance(section.image, CoveredImage) else section.image
    chosen = np.unique(np.linspace(0, section.n_spots - 1, N_PATCHES).astype(int))
    corners = section.xy_um[chosen] - PATCH_UM / 2
    try:
        patches = [image.read(float(x), float(y), (PATCH_UM, PATCH_UM), PATCH_MPP) for x, y in corners]
        return measure_stain(np.stack(patches), method)
    except InputError as error:
        raise InputError(f"the stain of section {section.id} cannot be normalised: {error}") from error


def with_stain(section: Section, method: Method, reference: Stain) -> Section:
    """Return the section with its image brought to a reference stain.

    Raises
    ------
    InputError
        If its own stain cannot be measured.
    """
    source, image = section_stain(section, method), section.image
    assert image is not None
    if isinstance(image, CoveredImage):  # what covers a place is no tissue
        return replace(section, image=replace(image, base=StainedImage(image.base, method, source, reference)))
    return replace(section, image=StainedImage(image, method, source, reference))


@dataclass(frozen=True)
class StainedImage:
    """Another image, brought from one stain to another wherever it is read.

    Parameters
    ----------
    base
        The image.
    method, source, reference
        See ``normalise``.
    """

    base: ImageSource
    method: Method
    source: Stain
    reference: Stain

    @property
    def mpp(self) -> float:
        """Size of a pixel at full resolution in um."""
        return self.base.mpp

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in um."""
        return self.base.size_um

    @property
    def fingerprint(self) -> str:
        """Of the image and both stains."""
        arrays = (self.source.first, self.source.second, self.reference.first, self.reference.second)
        stains = b"".join(np.asarray(a, np.float32).tobytes() for a in arrays)
        return hashlib.sha256(f"{self.base.fingerprint} {self.method} ".encode() + stains).hexdigest()

    def read(self, x_um: float, y_um: float, size_um: tuple[float, float], mpp: float) -> np.ndarray:
        """Return a region, shape ``(h, w, 3)`` uint8."""
        return normalise(self.base.read(x_um, y_um, size_um, mpp), self.method, self.source, self.reference)


def _measure_macenko(density: np.ndarray) -> Stain:
    """Return both stains of stained pixels, from the extreme angles in the plane of most variance."""
    _, vectors = np.linalg.eigh(np.cov(density.T))
    plane = vectors[:, :0:-1]  # (3, 2): of greatest variance first
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    angle = np.arctan2(*(density @ plane).T[::-1])
    low, high = np.percentile(angle, [ANGLE, 100 - ANGLE])
    if np.degrees(high - low) < MIN_SPREAD:
        raise InputError("only one stain is to be seen; haematoxylin and eosin are needed")
    both = np.stack([plane @ [np.cos(a), np.sin(a)] for a in (low, high)])
    both *= np.where(both.sum(axis=1, keepdims=True) < 0, -1, 1)
    both = both[np.argsort(-both[:, 0])]  # haematoxylin absorbs more of the red
    strong = np.percentile(density @ np.linalg.pinv(both), STRONG, axis=0)
    return Stain(both, np.maximum(strong, 1e-3))


def _to_lab(pixels: np.ndarray) -> np.ndarray:
    """Return l, alpha and beta, shape as given, float64."""
    return np.log10(np.maximum(pixels, 1) / 255 @ LMS.T) @ LAB.T


def _from_lab(lab: np.ndarray) -> np.ndarray:
    """Return the grey levels of l, alpha and beta, from 0 to 255."""
    return np.clip(255 * (10 ** (lab @ np.linalg.inv(LAB).T) @ np.linalg.inv(LMS).T), 0, 255)
