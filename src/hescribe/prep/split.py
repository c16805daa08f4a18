"""Who trains, who is tested, and the one rule for inner choices."""

from dataclasses import replace

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError

N_BLOCKS = 4  # stripes of a section when one donor must do for both sides


def leave_one_out(cohort: Cohort, by: str) -> list[tuple[str, Cohort, Cohort]]:
    """Return (name, train, test) with each donor, or each section, held out in turn.

    Parameters
    ----------
    cohort
        At least two donors or sections.
    by
        ``"donor"``, or ``"section"``: optimistic wherever a donor has several sections.

    Raises
    ------
    InputError
        If there is only one.
    """

    def label(section: Section) -> str:
        return section.donor if by == "donor" else section.id

    names = sorted({label(s) for s in cohort})
    if len(names) < 2:
        raise InputError(f"cohort {cohort.card.id} has one {by} only ({names[0]}); holding one out needs at least two")
    folds = []
    for name in names:
        test = tuple(s for s in cohort if label(s) == name)
        train = tuple(s for s in cohort if label(s) != name)
        folds.append((name, replace(cohort, sections=train), replace(cohort, sections=test)))
    return folds


def inner_folds(train: Cohort, *, view_um: float = 0.0) -> list[tuple[Cohort, Cohort]]:
    """Return the (train, validation) pairs that every inner choice is made on.

    With two or more donors each is left out in turn. With one donor its sections are cut into
    four stripes; a stripe validates and the rest trains, less the spots within ``view_um`` of it.
    The margin is given up where it would cost more than half of the training spots.

    Parameters
    ----------
    train
        The fold's train cohort.
    view_um
        Width of the image that a prediction sees.
    """
    if len(train.donors) > 1:
        return [(rest, out) for _, rest, out in leave_one_out(train, "donor")]
    return [_stripe(train, k, view_um) for k in range(N_BLOCKS)]


def _stripe(train: Cohort, k: int, view_um: float) -> tuple[Cohort, Cohort]:
    masks = [_stripe_masks(s, k, view_um) for s in train]
    inner = tuple(s.with_kept(a) for s, (a, _) in zip(train, masks, strict=True))
    outer = tuple(s.with_kept(b) for s, (_, b) in zip(train, masks, strict=True))
    return replace(train, sections=inner), replace(train, sections=outer)


def _stripe_masks(section: Section, k: int, view_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of training and validation spots for stripe ``k`` along the longer side."""
    xy, kept = section.xy_um, section.kept
    along = xy[:, int(np.argmax(np.ptp(xy, axis=0)))]
    edges = np.quantile(along[kept] if kept.any() else along, np.linspace(0, 1, N_BLOCKS + 1))
    low, high = edges[k], edges[k + 1]
    inside = (along >= low) & ((along < high) if k < N_BLOCKS - 1 else (along <= high))
    outside = kept & ~inside
    clear = outside & ((along < low - view_um) | (along > high + view_um))
    return (clear if clear.sum() * 2 >= outside.sum() else outside), kept & inside
