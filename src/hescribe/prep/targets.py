"""What a protocol asks to predict: the expression of each spot in the unit that the protocol fixes.

The default is the one we trust, ``lognorm``. The others are what published evaluations scored, and exist so
that they can be reproduced and what they add to a score be measured.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section
from hescribe.prep.counts import TARGET_SUM, log_normalise
from hescribe.prep.graph import spot_graph

Unit = Literal["lognorm", "gene_axis", "log_counts"]
UNITS: tuple[Unit, ...] = get_args(Unit)

# Counts (n_spots, n_genes) and depth (n_spots,) to the values that are predicted, (n_spots, n_genes).
Normalise = Callable[[np.ndarray, np.ndarray], np.ndarray]


def gene_axis(counts: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return log10(1 + 1e4 * count / the gene's counts over all spots): each gene scaled, and no spot.

    The evaluation target of the mclSTExp code (Min et al., Briefings in Bioinformatics 2024, bbae551), which
    normalises the transposed table. Depth stays in, so that a spot's total counts alone score high.

    Parameters
    ----------
    counts
        Of one section, shape ``(n_spots, n_genes)``.

    Examples
    --------
    >>> gene_axis(np.array([[1.0, 0.0], [3.0, 0.0]]), np.ones(2)).round(3)
    array([[3.398, 0.   ],
           [3.875, 0.   ]])
    """
    total = np.maximum(counts.sum(axis=0), 1.0)
    return np.log10(1 + TARGET_SUM * counts / total)


def log_counts(counts: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return ln(1 + count): the label of HEST-Benchmark (Jaume et al., NeurIPS 2024), depth left in."""
    return np.log1p(counts)


_FUNCTIONS: dict[Unit, Normalise] = {"lognorm": log_normalise, "gene_axis": gene_axis, "log_counts": log_counts}


def normaliser(section: Section, unit: Unit, *, smooth: bool = False) -> Normalise:
    """Return the function from the counts of a section's kept spots to its target.

    Parameters
    ----------
    section
        Whose kept spots are meant; their places decide what is smoothed.
    unit
        Scaling of the counts.
    smooth
        Whether each value becomes the mean over the spot and its touching spots, as TRIPLEX (Chung et al.,
        CVPR 2024) and others smooth the labels that they are scored on.
    """
    scale = _FUNCTIONS[unit]
    if not smooth:
        return scale
    touching = (spot_graph(section, kept_only=True) > 0).astype(np.float64)
    near = touching + sparse.identity(touching.shape[0], format="csr")
    mean = sparse.diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near
    return lambda counts, depth: mean @ scale(counts, depth)


def with_target(section: Section, normalise: Normalise) -> Section:
    """Return the section with ``layers["target"]``; spots that are not kept hold 0 there."""
    table, kept = section.table.copy(), section.kept
    target = np.zeros((section.n_spots, len(section.genes)), dtype=np.float32)
    target[kept] = normalise(section.layer(keys.COUNTS).astype(np.float64), section.depth[kept])
    table.layers[keys.TARGET] = target
    return section.with_table(table)
