"""Which regions of the image a prediction rests on: cover one square after the other, and predict again.

Occlusion as in Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014,
doi:10.1007/978-3-319-10590-1_53, section 3.2. It asks the predictor and nothing else, so that it works for any; it says
what the *model* looks at, not what makes the tissue express a gene. A covered square is no tissue that the model has
seen, and what two squares tell together shows in neither.
"""

from dataclasses import dataclass, replace

import numpy as np

from hescribe.bench.model_folder import FittedModel
from hescribe.data.image import CoveredImage, ImageSource
from hescribe.data.section import Section
from hescribe.errors import InputError, PanelError
from hescribe.prep.graph import pitch_um
from hescribe.progress import track
from hescribe.units import patch_mpp

N_SIDE = 9  # squares along the side: with a width of six pitches, three to two spots
WIDTH_PITCHES = 6.0  # of what is covered in turn: the patch of the spot, and two rings of spots around it
COLOUR_PX = 64  # side at which the mean colour is taken


@dataclass(frozen=True)
class Regions:
    """How much the prediction of one gene in one spot falls when a square of the image is covered.

    Parameters
    ----------
    gene, spot
        What was predicted.
    predicted
        Value with the whole image.
    section_mean
        Mean of the prediction over the section: what the value is read against.
    corner_um, side_um
        Upper left corner (x, y) of the grid, and side of one square.
    fall
        Prediction with the whole image less that without the square, shape ``(n_side, n_side)``, rows from the top:
        above 0 where the square speaks for the gene.
    """

    gene: str
    spot: str
    predicted: float
    section_mean: float
    corner_um: tuple[float, float]
    side_um: float
    fall: np.ndarray


def cover_regions(
    model: FittedModel, section: Section, spot: str, gene: str, *, n_side: int = N_SIDE, width_um: float | None = None
) -> Regions:
    """Return what every square of the image around a spot does to the prediction of a gene there.

    Parameters
    ----------
    model
        Any predictor; one that reads pixels and no frozen features reads the whole section again for every square.
    section
        With an image.
    spot, gene
        Names.
    n_side
        Squares along the side of the grid, which is centred on the spot.
    width_um
        Side of the grid; six times the distance between spots by default.

    Raises
    ------
    InputError
        If the section has no such spot or no image, or the grid no square.
    PanelError
        If the model does not predict the gene.
    """
    row, column = check_asked(model, section, spot, gene)
    width = WIDTH_PITCHES * pitch_um(section) if width_um is None else width_um
    if n_side < 1 or not width > 0:
        raise InputError(f"a grid needs at least one square and a width above 0 um, got {n_side} and {width}")
    image, blind = section.image, section.blind()
    assert image is not None  # checked above
    left, top = (float(v) for v in section.xy_um[row] - width / 2)
    side, rgb = width / n_side, _mean_colour(image, left, top, width)
    whole = model.predictor.predict(blind).mean[:, column]
    fall = np.empty((n_side, n_side))
    for i, j in track(list(np.ndindex(n_side, n_side)), f"covering the image around {spot}"):
        covered = replace(blind, image=CoveredImage(image, (left + j * side, top + i * side), side, rgb))
        fall[i, j] = whole[row] - model.predictor.predict(covered).mean[row, column]
    return Regions(gene, spot, float(whole[row]), float(whole.mean()), (left, top), side, fall)


def check_asked(model: FittedModel, section: Section, spot: str, gene: str) -> tuple[int, int]:
    """Return the row of a spot and the column of a gene.

    Raises
    ------
    InputError
        If the section has no such spot or no image.
    PanelError
        If the model does not predict the gene.
    """
    if gene not in model.info.genes:
        raise PanelError(
            f"the model does not predict {gene}; it predicts {len(model.info.genes)} genes, which model.json names"
        )
    if section.image is None:
        raise InputError(f"section {section.id} has no image, of which a square could be covered")
    found = np.flatnonzero(section.table.obs_names == spot)
    if not len(found):
        example = section.table.obs_names[0]
        raise InputError(f"section {section.id} has no spot {spot!r}; its spots are named like {example!r}")
    return int(found[0]), model.info.genes.index(gene)


def _mean_colour(image: ImageSource, left: float, top: float, width: float) -> tuple[int, int, int]:
    """Return the mean colour of the grid: a square of it hides what it covers and is no hole in the tissue."""
    pixels = image.read(left, top, (width, width), patch_mpp(width, COLOUR_PX))
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0).round().astype(int)
    return int(red), int(green), int(blue)
