"""What an aligner is, where they are registered, and the pairs it makes of a cohort."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.metrics.pairs import Pairs
from hescribe.prep.scale import Scale
from hescribe.registry import Registry


class Embeds(Protocol):
    """Anything that embeds both sides of the spots of a section."""

    def embed_image(self, section: Section) -> np.ndarray:
        """Return one vector of length 1 a spot by its image, shape ``(n_spots, n_dims)`` float32."""
        ...

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return one vector of length 1 a spot by its raw counts, shape ``(n_spots, n_dims)`` float32."""
        ...


@runtime_checkable
class Aligner(Embeds, Protocol):
    """Anything with ``fit`` and both embeddings; no base class is needed.

    ``fit`` learns from the kept spots of train sections. ``embed_image`` is given a blind section.
    """

    name: ClassVar[str]
    card: ClassVar[MethodCard]

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn from a train cohort and return the aligner.

        Parameters
        ----------
        train
            Sections with an image and raw counts.
        val
            Score the inner choices here instead of on inner folds of ``train``.
        """
        ...


@runtime_checkable
class Refines(Protocol):
    """A fitted aligner from which others can learn on, in its space."""

    def refine(self, train: Cohort, parts: Sequence[np.ndarray], *, epochs: int, both: bool = False) -> list[Self]:
        """Return a copy for each part, trained on from here.

        Parameters
        ----------
        train
            The cohort of the fit.
        parts
            Which of its kept spots each copy learns from, masks of shape ``(n_kept,)`` over all sections.
        epochs
            Passes over them.
        both
            Train the head on expression too; else all copies share it, and with it the space.
        """
        ...


@runtime_checkable
class ChecksWeights(Protocol):
    """An aligner that can tell whether the weights it was given are those of its heads, before it embeds anything."""

    def check_weights(self) -> None:
        """Raise ``FormatError`` if a weight is missing, unknown or of another shape."""
        ...


aligners: Registry[Aligner] = Registry("aligner", "hescribe.align", besides=("streamed",))


def to_pairs(embeds: Embeds, cohort: Cohort, *, reference: Cohort | None = None) -> Pairs:
    """Return both embeddings of the kept spots of a cohort, as retrieval is scored on.

    Parameters
    ----------
    embeds
        A fitted aligner.
    cohort
        With images and counts.
    reference
        Train cohort by which the target is scaled to say how alike two spots express; None leaves that out, and with
        it pools of other donors.

    Raises
    ------
    InputError
        If no spot is kept.
    """
    used = [s for s in cohort if s.kept.any()]
    if not used:
        raise InputError(f"no spot of cohort {cohort.card.id} is kept; there is nothing to embed")
    n_kept = [int(s.kept.sum()) for s in used]
    profile = None
    if reference is not None:
        scale = Scale.of(reference.stack(keys.TARGET))
        profile = np.concatenate([scale.apply(s.layer(keys.TARGET)) for s in used])
    return Pairs(
        image=np.concatenate([embeds.embed_image(s.blind())[s.kept] for s in used]),
        expression=np.concatenate([embeds.embed_expression(s)[s.kept] for s in used]),
        section=np.repeat([s.id for s in used], n_kept),
        donor=np.repeat([s.donor for s in used], n_kept),
        depth=np.concatenate([s.depth[s.kept] for s in used]),
        profile=profile,
    )
