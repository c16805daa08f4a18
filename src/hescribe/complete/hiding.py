"""Lessons: counts that were measured and are not shown, so that the answer is known.

The judge draws them to score completers, and completers draw them to learn.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hescribe import keys
from hescribe.complete.base import View, to_values
from hescribe.data.section import Section
from hescribe.errors import InputError

# What is taken away: whole measured counts, or a part of every count, so that a fresh measurement is the answer.
Missing = Literal["measured", "any"]
# What a spot's depth counts once some of its counts are hidden. "full" lets the hidden sum be read off.
DepthSeen = Literal["visible", "full"]
FRESH = 0.5  # share of every count that is set aside in learning "any": a fresh measurement as deep as what is shown


@dataclass(frozen=True)
class Lesson:
    """A section with counts hidden, and what they were.

    Parameters
    ----------
    section
        What is shown: visible counts, dense, and their depth; of the rest of the table what a blind section keeps.
    where
        True at the entries asked for, shape ``(n_spots, n_genes)``.
    answer
        log2(1 + 1e6 * count / depth) of what is hidden, same shape; its depth is that of the hidden measurement.
    """

    section: Section
    where: np.ndarray
    answer: np.ndarray


def draw_lesson(
    section: Section,
    share: float | np.ndarray,
    rng: np.random.Generator,
    *,
    missing: Missing = "measured",
    depth_seen: DepthSeen = "visible",
) -> Lesson:
    """Return a lesson drawn from a section's counts.

    Parameters
    ----------
    section
        With counts and depth.
    share
        ``"measured"``: probability that a measured count is hidden, one or one for each gene; ``"any"``: share
        of every count that is set aside.
    rng
        For ``"measured"`` one uniform number is drawn for each entry, in its order.
    missing
        ``"measured"``: whole measured counts are hidden, and asked for; the answer is relative to the depth shown.
        ``"any"``: each count is split in two (binomial thinning), and where the visible part is 0 the other is
        asked for, zeros included.
    depth_seen
        For ``"measured"``: whether hidden counts leave the depth. Whoever sees the full depth can read the sum of
        what is hidden off it, as in SpaRED's own test.

    Raises
    ------
    InputError
        If a share is not between 0 and 1.
    """
    if not ((np.asarray(share) >= 0) & (np.asarray(share) <= 1)).all():
        raise InputError(f"the share to hide must be between 0 and 1, got {share}")
    view = View.of(section)
    if missing == "any":
        return _thin(view, float(np.mean(share)), rng)
    hidden = draw_hidden(view, share, rng)
    shown = hide_counts(section, hidden, depth_seen=depth_seen)
    return Lesson(shown, hidden, to_values(view.counts, shown.depth))


def learned_shares(missing: Missing, wanted: tuple[float, float]) -> tuple[float, float]:
    """Return the least and the greatest share to hide in learning: what is wanted, or half of every count for "any".

    What is set aside of every count is as deep as its share is large, and no completer can know how deep the answer
    will be; so it learns of one as deep as what it sees.

    Examples
    --------
    >>> learned_shares("measured", (0.2, 0.6)), learned_shares("any", (0.2, 0.6))
    ((0.2, 0.6), (0.5, 0.5))
    """
    return (FRESH, FRESH) if missing == "any" else wanted


def draw_hidden(view: View, share: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which measured entries to hide, each with a probability, shape ``(n_spots, n_genes)`` bool.

    Parameters
    ----------
    share
        Probability, one for all or one for each gene, shape ``(n_genes,)``.
    """
    return view.observed & (rng.random(view.counts.shape) < share)


def hide_counts(section: Section, where: np.ndarray, *, depth_seen: DepthSeen = "visible") -> Section:
    """Return the section with the counts hidden where asked, shape ``(n_spots, n_genes)``; see ``draw_lesson``."""
    view = View.of(section)
    hidden = np.where(where, view.counts, 0)
    depth = view.depth - hidden.sum(axis=1) if depth_seen == "visible" else view.depth
    return _with_counts(section, view.counts - hidden, depth)


def _thin(view: View, share: float, rng: np.random.Generator) -> Lesson:
    """Return a lesson of two measurements: what is shown, and a fresh one that is asked for."""
    counts = view.counts.astype(np.int64)
    others = np.maximum(view.depth.astype(np.int64) - counts.sum(axis=1), 0)
    aside, others_aside = rng.binomial(counts, share), rng.binomial(others, share)
    shown = counts - aside
    depth_shown = shown.sum(axis=1) + others - others_aside
    depth_aside = aside.sum(axis=1) + others_aside
    where = (shown == 0) & (depth_aside > 0)[:, None]
    return Lesson(_with_counts(view.section, shown, depth_shown), where, to_values(aside, depth_aside))


def _with_counts(section: Section, counts: np.ndarray, depth: np.ndarray) -> Section:
    """Return the section with nothing but these counts, their depth, and what does not come from counts."""
    table = section.blind().table
    table.layers[keys.COUNTS] = counts.astype(np.float32)
    table.obs[keys.DEPTH] = depth.astype(np.float64)
    return section.with_table(table)
