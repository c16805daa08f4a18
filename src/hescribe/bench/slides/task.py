"""A slide-level task is a table of labels and its bags under a protocol. It knows nothing of models."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hescribe.bench.slides.cards import SlideTaskCard
from hescribe.bench.slides.folds import deal_groups, draw_shots
from hescribe.bench.slides.protocol import SlideProtocol
from hescribe.cards import DatasetCard, TaskCard
from hescribe.data.plain import hash_file
from hescribe.errors import InputError
from hescribe.slide.bag_files import FileBag
from hescribe.slide.bags import Bag, JoinedBag, match_bags
from hescribe.slide.labels import SLIDE, SlideTable
from hescribe.slide.targets import Target


@dataclass(frozen=True)
class SlideFold:
    """Rows of the table that are learned from and that are told.

    Parameters
    ----------
    name
        ``"fold0"`` ..., or ``"k=4"``.
    train, test
        Rows; no donor on both sides.
    """

    name: str
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class SlideTask:
    """Tell what slides are of donors that were not learned from.

    Parameters
    ----------
    facts
        Card of the task.
    table
        Its labels, a row for each bag; without those of unknown label.
    bags
        Of the slides, or with early fusion of the donors.
    protocol
        Fixes folds and fusion.
    n_unknown
        Slides of the table without a label of this task.
    """

    suite: ClassVar[str] = "spade"
    facts: SlideTaskCard
    table: SlideTable
    bags: tuple[Bag, ...]
    protocol: SlideProtocol
    n_unknown: int = 0

    @classmethod
    def of(
        cls, facts: SlideTaskCard, table: SlideTable, bags: Mapping[str, Bag], protocol: SlideProtocol
    ) -> "SlideTask":
        """Return the task on all labelled slides of a table.

        Raises
        ------
        InputError
            If labels and slides do not match (both are listed), or slides of a donor that are to be joined differ in
            their label.
        """
        matched = match_bags(bags, table.slides)
        columns = facts.columns(table)
        known = np.flatnonzero((table.table[list(columns)] != "").all(axis=1))
        own, of_known = table.take(known), tuple(matched[i] for i in known)
        if protocol.fusion != "none":
            _check_one_label(own, columns)
        if protocol.fusion == "early":
            own, of_known = _join_slides(own, of_known)
        return cls(facts, own, of_known, protocol, len(table.table) - len(known))

    @property
    def name(self) -> str:
        """Name in rows and reports."""
        return self.facts.name

    @property
    def card(self) -> TaskCard:
        """What a reader of the scores must know."""
        cohort = DatasetCard(id=self.facts.cohort, title=self.facts.title, licence=self.facts.licence)
        return TaskCard(
            name=self.name, protocol=self.protocol.name, revision=self.protocol.revision, cohort=cohort,
            n_sections=len(self.bags), n_left_out=self.n_unknown,
        )  # fmt: skip

    @property
    def rules(self) -> dict[str, Any]:
        """The protocol, field by field."""
        return self.protocol.model_dump()

    @cached_property
    def target(self) -> Target:
        """What each bag is."""
        columns = self.facts.columns(self.table)
        if self.facts.kind == "survival":
            return self.table.survival(*columns)
        return self.table.classes(columns[0], ordered=self.facts.kind == "grades")

    @cached_property
    def data_hash(self) -> str:
        """Hash of labels and of the files of the bags."""
        digest = hashlib.sha256(self.table.table.to_csv(index=False).encode())
        for bag in self.bags:
            for part in bag.parts if isinstance(bag, JoinedBag) else (bag,):
                file = part.path if isinstance(part, FileBag) and part.path.is_file() else None
                content = part.read().tobytes() if file is None else hash_file(file)
                digest.update(content.encode() if isinstance(content, str) else content)
        return digest.hexdigest()

    def folds(self, seed: int) -> Iterator[SlideFold]:
        """Yield the folds of a seed.

        Raises
        ------
        InputError
            If there are too few donors, or sites, or of a class too few donors for the shots asked for.
        """
        rule, strata, rows = self.protocol, self.target.strata, np.arange(len(self.bags))
        groups = self.table.sites if rule.keep == "site" else self.table.donors
        dealt = deal_groups(strata, groups, rule.n_folds, 0 if rule.shots else seed)
        if rule.shots:
            test, rest = rows[dealt == 0], rows[dealt > 0]
            for k in rule.shots:
                yield SlideFold(f"k={k}", draw_shots(strata, self.table.donors, rest, k, seed), test)
            return
        for i in range(rule.n_folds):
            yield SlideFold(f"fold{i}", rows[dealt != i], rows[dealt == i])


def _check_one_label(table: SlideTable, columns: Sequence[str]) -> None:
    for donor, rows in table.table.groupby(table.donors):
        for column in columns:
            if len(labels := sorted(rows[column].unique())) > 1:
                raise InputError(
                    f"slides of donor {donor} have the labels {labels[0]!r} and {labels[1]!r} in {column}; only slides "
                    "that share theirs can be joined"
                )


def _join_slides(table: SlideTable, bags: Sequence[Bag]) -> tuple[SlideTable, tuple[Bag, ...]]:
    """Return a table with a row a donor, and the joined bags."""
    donors = table.donors
    first = np.sort(np.unique(donors, return_index=True)[1])
    joined = [JoinedBag(d, tuple(b for b, o in zip(bags, donors, strict=True) if o == d)) for d in donors[first]]
    own = table.take(first)
    return SlideTable(own.table.assign(**{SLIDE: donors[first]}), own.source), tuple(joined)
