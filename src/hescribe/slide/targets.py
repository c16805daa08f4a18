"""What a slide-level model learns of each slide: a class, a grade, or a time and whether it ended in an event."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from hescribe.errors import InputError

SurvivalLoss = Literal["nll", "cox"]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """A class of each slide.

    Parameters
    ----------
    codes
        Place of each slide's class in ``names``, shape ``(n_slides,)``.
    names
        Of the classes; the lowest grade first if they are ordered.
    ordered
        True for grades, which a model may use the order of.

    Raises
    ------
    InputError
        If there is one class only, or a code that is none.

    Examples
    --------
    >>> Classes.of(["high", "low", "low"]).codes.tolist()
    [0, 1, 1]
    """

    codes: np.ndarray
    names: tuple[str, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise InputError(f"there is one class only ({', '.join(self.names)}); telling apart needs at least two")
        if len(self.codes) and not (0 <= self.codes.min() <= self.codes.max() < len(self.names)):
            raise InputError(f"codes of classes must be between 0 and {len(self.names) - 1}")

    @classmethod
    def of(cls, labels: list[str], *, names: tuple[str, ...] | None = None, ordered: bool = False) -> Self:
        """Return the classes of labels; names are those that occur, sorted, unless given.

        Raises
        ------
        InputError
            If a label is not among the names.
        """
        known = tuple(sorted(set(labels))) if names is None else names
        if odd := sorted(set(labels) - set(known)):
            raise InputError(f"label {odd[0]!r} is none of the classes {', '.join(known)}")
        return cls(codes=np.array([known.index(x) for x in labels], dtype=np.int64), names=known, ordered=ordered)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def strata(self) -> np.ndarray:
        """What folds are balanced by, shape ``(n_slides,)``."""
        return self.codes

    def take(self, rows: np.ndarray) -> "Classes":
        """Return the classes of some slides."""
        return replace(self, codes=self.codes[rows])

    def check_all_seen(self) -> None:
        """Raise ``InputError`` if a class has no slide: a model cannot learn what it never sees."""
        if unseen := sorted(set(range(len(self.names))) - set(self.codes.tolist())):
            raise InputError(
                f"no train slide is of class {self.names[unseen[0]]!r}; leave the class out, or add slides"
            )


@dataclass(frozen=True, kw_only=True)
class Survival:
    """Follow-up of each slide's donor.

    Parameters
    ----------
    time
        Until the event or the end of the follow-up, above 0, in one unit, shape ``(n_slides,)``.
    event
        True where it ended in the event, False where it was cut off (censored), same shape.

    Raises
    ------
    InputError
        If a time is not above 0 or not finite, or the shapes differ.
    """

    time: np.ndarray
    event: np.ndarray

    def __post_init__(self) -> None:
        if self.time.shape != self.event.shape or self.event.dtype != bool:
            raise InputError("a survival target needs a time and a yes or no for each slide")
        if (bad := ~(np.isfinite(self.time) & (self.time > 0))).any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(f"survival time {self.time[row]} of slide {row} is not above 0; leave the slide out")

    def __len__(self) -> int:
        return len(self.time)

    @property
    def strata(self) -> np.ndarray:
        """What folds are balanced by, shape ``(n_slides,)``."""
        return self.event.astype(np.int64)

    def take(self, rows: np.ndarray) -> "Survival":
        """Return the follow-up of some slides."""
        return replace(self, time=self.time[rows], event=self.event[rows])

    def check_all_seen(self) -> None:
        """Raise ``InputError`` if no slide has an event: there is nothing to learn."""
        if not self.event.any():
            raise InputError("no train slide has an event; risk cannot be learned from censored follow-up alone")


Target = Classes | Survival
