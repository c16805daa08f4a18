"""What is wrong with the image at a spot, whatever a model was trained on: blur, pen, folds, too little tissue."""

import numpy as np

from hescribe.encode.look import FACTS

MIN_FOCUS = np.log10(0.09)  # as in prep.quality, whose measure is the same without the logarithm
MIN_TISSUE = 0.1  # share of the patch
PEN = 0.15  # optical density of red above green: H&E absorbs more green than red
RED_PEN = 0.8  # blue over green density; that of eosin is about 0.5, of a red pen near 1
BLACK = 0.9  # optical density in the channel that absorbs least, of the darkest twentieth: two layers, or a pen
FLAGS = ("little tissue", "blurred", "pen", "fold or ink")  # a later one replaces an earlier


def flag_spots(facts: np.ndarray) -> np.ndarray:
    """Return what is wrong at each spot, an empty text where nothing is, shape ``(n_spots,)``.

    Parameters
    ----------
    facts
        From the encoder ``look``, shape ``(n_spots, 8)``.

    Examples
    --------
    >>> sharp, blurred = [-0.2, 0.9, 0.3, 0.4, 0.2, 0.0, 0.4, 0.3], [-1.9, 0.9, 0.3, 0.4, 0.2, 0.0, 0.4, 0.3]
    >>> flag_spots(np.array([sharp, blurred])).tolist()
    ['', 'blurred']
    """
    of = dict(zip(FACTS, np.asarray(facts, dtype=np.float64).T, strict=True))
    green, blue = of["green density"], of["blue density"]
    found = {
        "little tissue": of["tissue"] < MIN_TISSUE,
        "blurred": (of["focus"] < MIN_FOCUS) & (of["tissue"] >= MIN_TISSUE),
        "pen": (of["blue ink"] > PEN) | ((green > 2 * PEN) & (blue > RED_PEN * green)),
        "fold or ink": of["black ink"] > BLACK,
    }
    flags = np.full(len(green), "", dtype=object)
    for name in FLAGS:
        flags[found[name]] = name
    return flags
