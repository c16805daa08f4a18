"""What the quality of a section is judged by: depth, zeros, order in space, focus and stain."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from hescribe import keys
from hescribe.data.image import ImageSource
from hescribe.data.section import Section
from hescribe.prep.alignment import Alignment, check_alignment
from hescribe.prep.counts import log_normalise
from hescribe.prep.graph import spot_graph
from hescribe.prep.moran import morans_i
from hescribe.prep.tissue import MASK_MPP, find_tissue

HISTOGRAM_EDGES = np.logspace(0, 6, 49)  # counts of a spot: eight bins a decade
SHALLOW = 100  # counts; a spot below says little
MIN_SPOTS = 30  # fewer say nothing about order in space
ORDER_GENES = 50
FOCUS_MPP, FOCUS_UM, FOCUS_PATCHES = 1.0, 128.0, 64
COARSEST_MPP = 1.25  # a coarser image holds too little of the structure that focus is read from
WHITE = 255.0
# Limits of the flaws. The order of the 40 sections of her2st and stutility_mob is at least 7.1, that of 1,200
# permutations of their spots at most 3.6. Sharp images, real and synthetic, have a focus of at least 0.13, after a
# Gaussian blur of 1 um of at most 0.06.
MIN_ORDER, MIN_FOCUS = 4.0, 0.09
SHALLOW_SHARE, SHALLOW_TIMES = 0.1, 5
MIN_ON_TISSUE = 0.3
FAR_DENSITY, FAR_HUE = 0.1, 30.0  # from the median of the other sections: less is how stains differ between days
MIN_OTHERS = 3  # sections that one is compared with


@dataclass(frozen=True, kw_only=True)
class CountQuality:
    """What the table of a section looks like.

    Parameters
    ----------
    depth
        5th, 50th and 95th percentile of the counts of a spot over all measured genes.
    genes
        The same of the number of genes of the panel seen in a spot.
    missing
        Share of zeros in the table.
    shallow
        Share of spots with under 100 counts.
    order
        From ``spatial_order``: how far neighbouring spots are alike beyond chance; None if undefined.
    histogram
        Spots by depth, between ``HISTOGRAM_EDGES``; shape ``(48,)``.
    """

    depth: tuple[float, float, float]
    genes: tuple[float, float, float]
    missing: float
    shallow: float
    order: float | None
    histogram: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ImageQuality:
    """What the image of a section looks like.

    Parameters
    ----------
    alignment
        How well spots and image fit.
    focus
        From ``measure_focus``; None where the image is too coarse to tell.
    density
        Mean optical density of tissue above that of glass.
    hue
        Colour that the stain absorbs, in degrees: 0 red, 120 green, 240 blue.
    dark_glass
        Whether most of the image is dark, as under fluorescent light.
    """

    alignment: Alignment
    focus: float | None
    density: float
    hue: float
    dark_glass: bool


def measure_counts(section: Section) -> CountQuality:
    """Return what the table of a section looks like.

    Parameters
    ----------
    section
        With sound counts and at least one spot.
    """
    counts = sparse.csr_matrix(section.table.layers[keys.COUNTS])
    n_genes = np.asarray((counts > 0).sum(axis=1)).ravel()
    depth = section.depth
    low, middle, high = np.percentile(depth, [5, 50, 95])
    genes = np.percentile(n_genes, [5, 50, 95])
    return CountQuality(
        depth=(float(low), float(middle), float(high)),
        genes=(float(genes[0]), float(genes[1]), float(genes[2])),
        missing=1.0 - float(n_genes.sum()) / max(counts.shape[0] * counts.shape[1], 1),
        shallow=float((depth < SHALLOW).mean()),
        order=spatial_order(section),
        histogram=np.histogram(np.maximum(depth, 1.0), bins=HISTOGRAM_EDGES)[0],
    )


def spatial_order(section: Section) -> float | None:
    """Return how far the 50 most abundant genes together are ordered in space: a standard score.

    Tissue makes neighbours alike; counts that were given to the wrong spots score about 0, with a
    standard deviation of 1. It is the sum of the genes' standardised Moran's I, divided by what the sum
    varies by if spots are independent: variance and mean of one I are those of normal values (Cliff and
    Ord, Spatial Processes, 1981, section 2.3), and two genes' I are correlated as the square of their
    own correlation.

    Returns
    -------
    None for under 30 spots, if no two are neighbours, or if no gene varies.
    """
    n, graph = section.n_spots, spot_graph(section)
    if n < MIN_SPOTS or graph.nnz == 0:
        return None
    counts = sparse.csc_matrix(section.table.layers[keys.COUNTS])
    abundant = np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")[:ORDER_GENES]
    values = log_normalise(sparse.csr_matrix(counts[:, abundant]), section.depth).toarray()
    values = values[:, np.ptp(values, axis=0) > 0]
    if not values.size:
        return None
    total, both = float(graph.sum()), graph + graph.T
    s1 = float(both.multiply(both).sum()) / 2
    s2 = float(np.square(np.asarray(graph.sum(axis=0)).ravel() + np.asarray(graph.sum(axis=1)).ravel()).sum())
    expected = -1.0 / (n - 1)
    variance = (n * n * s1 - n * s2 + 3 * total**2) / ((n * n - 1) * total**2) - expected**2
    scores = (morans_i(values, graph) - expected) / np.sqrt(variance)
    return float(scores.sum() / np.linalg.norm(np.atleast_2d(np.corrcoef(values, rowvar=False))))


def measure_image(section: Section) -> ImageQuality:
    """Return what the image of a section looks like.

    Parameters
    ----------
    section
        With an image and spot coordinates in um.
    """
    image = section.image
    assert image is not None
    pixels = image.read(0.0, 0.0, image.size_um, MASK_MPP)
    mask = find_tissue(pixels)
    density, hue = measure_stain(pixels, mask)
    return ImageQuality(
        alignment=check_alignment(section, pixels, mask),
        focus=measure_focus(image, section.xy_um),
        density=density,
        hue=hue,
        dark_glass=bool(np.median(pixels.max(axis=2)) < WHITE / 3),
    )


def measure_focus(image: ImageSource, xy_um: np.ndarray) -> float | None:
    """Return the variance of the Laplacian over that of the grey values, at 1 um per pixel, median over patches.

    The ratio does not change with the strength of stain or light. Pech-Pacheco et al., Diatom
    autofocusing in brightfield microscopy, ICPR 2000, doi:10.1109/ICPR.2000.903548, use the
    numerator alone.

    Parameters
    ----------
    image
        None is returned for an image coarser than 1.25 um per pixel.
    xy_um
        Spot centres, shape ``(n_spots, 2)``; up to 64 of them, evenly chosen, get a patch of 128 um.
    """
    if image.mpp > COARSEST_MPP or not len(xy_um):
        return None
    chosen = np.unique(np.linspace(0, len(xy_um) - 1, FOCUS_PATCHES).astype(int))
    found = []
    for x, y in xy_um[chosen]:
        patch = image.read(float(x) - FOCUS_UM / 2, float(y) - FOCUS_UM / 2, (FOCUS_UM, FOCUS_UM), FOCUS_MPP)
        grey = patch.astype(np.float32).mean(axis=2)
        found.append(ndimage.laplace(grey)[1:-1, 1:-1].var() / max(float(grey.var()), 1.0))
    return float(np.median(found))


def measure_stain(pixels: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the mean optical density of tissue above that of glass, and its hue in degrees; NaN without tissue.

    The hue is that of the density, not of the light (van der Laak et al., Hue-saturation-density model
    for stain recognition, Cytometry 2000).

    Parameters
    ----------
    pixels
        Shape ``(h, w, 3)`` uint8.
    mask
        Where tissue is, shape ``(h, w)`` bool.

    Examples
    --------
    >>> pixels = np.full((2, 2, 3), 255, dtype=np.uint8)
    >>> pixels[0] = [255, 26, 255]  # magenta: absorbs green alone
    >>> density, hue = measure_stain(pixels, np.array([[True, True], [False, False]]))
    >>> round(density, 2), round(hue)
    (0.33, 120)
    """
    if not mask.any():
        return float("nan"), float("nan")
    density = -np.log10(np.maximum(pixels, 1) / np.float32(WHITE))
    glass = np.median(density[~mask], axis=0) if (~mask).any() else np.zeros(3)
    red, green, blue = density[mask].mean(axis=0) - glass
    hue = np.degrees(np.arctan2(np.sqrt(3.0) * (green - blue), 2 * red - green - blue))
    return float((red + green + blue) / 3), float(hue % 360)


def find_flaws(counts: Mapping[str, CountQuality], images: Mapping[str, ImageQuality | None]) -> dict[str, list[str]]:
    """Return what is unusual about each section, one short sentence each; a reader must judge whether it is wrong.

    Parameters
    ----------
    counts, images
        By section, of one cohort: some flaws show only beside the other sections.

    Returns
    -------
    By section, in the order of ``counts``; an empty list where nothing is unusual.
    """
    found = {name: _table_flaws(quality) for name, quality in counts.items()}
    typical = np.median([q.depth[1] for q in counts.values()] or [0.0])
    for name, quality in counts.items():
        if quality.depth[1] * SHALLOW_TIMES < typical:
            found[name].append(
                f"shallow: a median of {quality.depth[1]:,.0f} counts, {typical / max(quality.depth[1], 1):.0f} times "
                "below the other sections"
            )
    there = {name: q for name, q in images.items() if q is not None}
    for name, image in there.items():
        found[name] += _image_flaws(image)
    for what, unit, floor in (("density", "", FAR_DENSITY), ("hue", " degrees", FAR_HUE)):
        values = {name: getattr(q, what) for name, q in there.items()}
        for name, middle in _outliers(values, floor).items():
            text = f"stain: {what} {values[name]:.2g}{unit}, {middle:.2g}{unit} in the other sections"
            found[name].append(text)
    return found


def _table_flaws(quality: CountQuality) -> list[str]:
    flaws = []
    if quality.order is not None and quality.order < MIN_ORDER:
        flaws.append("disorder: neighbouring spots are no more alike than chance; are the counts those of these spots?")
    if quality.shallow > SHALLOW_SHARE:
        flaws.append(f"shallow: {quality.shallow:.0%} of the spots have under {SHALLOW} counts")
    return flaws


def _image_flaws(image: ImageQuality) -> list[str]:
    flaws = [f"alignment: {problem}" for problem in image.alignment.problems]
    if image.alignment.on_tissue < MIN_ON_TISSUE and not flaws:
        flaws.append(f"alignment: only {image.alignment.on_tissue:.0%} of the spots are on stained tissue")
    if image.focus is not None and image.focus < MIN_FOCUS:
        flaws.append(f"focus: {image.focus:.2f}, blurred or enlarged; sharp images have over {MIN_FOCUS:g}")
    if image.dark_glass:
        flaws.append("stain: most of the image is dark; is it H&E under white light?")
    return flaws


def _outliers(values: Mapping[str, float], floor: float) -> dict[str, float]:
    """Return those far from the others' median and that median: over 3.5 robust deviations and the floor."""
    found = {}
    for name, value in values.items():
        others = np.array([v for k, v in values.items() if k != name])
        if len(others) < MIN_OTHERS or not np.isfinite(value):
            continue
        middle = float(np.nanmedian(others))
        spread = 1.4826 * float(np.nanmedian(np.abs(others - middle)))
        if abs(value - middle) > max(3.5 * spread, floor):
            found[name] = middle
    return found
