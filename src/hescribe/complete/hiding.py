"""Hide measured counts, as the judge does and as completers do to learn: the answer is known, and not shown."""

from typing import Literal

import numpy as np

from hescribe import keys
from hescribe.complete.base import View
from hescribe.data.section import Section

# What a spot's depth counts once some of its counts are hidden. "full" lets the hidden sum be read off.
DepthSeen = Literal["visible", "full"]


def hide_counts(section: Section, where: np.ndarray, *, depth_seen: DepthSeen = "visible") -> Section:
    """Return the section with some counts hidden.

    Parameters
    ----------
    section
        With counts and depth.
    where
        True at the entries to hide, shape ``(n_spots, n_genes)``.
    depth_seen
        Whether the hidden counts leave the depth too. Whoever sees the full depth can read the sum of what is
        hidden off it, as in SpaRED's own test.

    Returns
    -------
    Counts, dense, are 0 where they are hidden.
    """
    view = View.of(section)
    table = section.table.copy()
    table.layers = {keys.COUNTS: np.where(where, 0, view.counts)}
    hidden = np.where(where, view.counts, 0).sum(axis=1) if depth_seen == "visible" else 0.0
    table.obs[keys.DEPTH] = view.depth - hidden
    return section.with_table(table)


def draw_hidden(view: View, share: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which measured entries to hide, each with a probability, shape ``(n_spots, n_genes)`` bool.

    Parameters
    ----------
    share
        Probability, one for all or one for each gene, shape ``(n_genes,)``.
    """
    return view.observed & (rng.random(view.counts.shape, dtype=np.float32) < share)
