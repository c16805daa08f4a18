"""A task of completion: folds of donors, genes chosen on train, and what is hidden of each held-out section."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hescribe import keys
from hescribe.bench.completion.protocol import CompletionProtocol
from hescribe.cards import TaskCard
from hescribe.complete.base import View
from hescribe.complete.hiding import Lesson, draw_lesson
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import Pair, check_apart, find_twins
from hescribe.data.folder import data_hash
from hescribe.data.section import Section
from hescribe.data.validate import check_section
from hescribe.errors import InputError, LeakageError, SchemaError
from hescribe.prep.spared import SparedPreparation


@dataclass(frozen=True)
class CompletionFold:
    """Train and test sections on one panel, with counts and the depth over the genes that SpaRED retains.

    Parameters
    ----------
    name
        The donors held out.
    train
        What a completer is fitted on; None where it is fitted on the section that it completes.
    test
        Whole counts; ``lessons`` hides some of them.
    places
        Place of each test section in the order of names, which seeds what is hidden of it.
    protocol
        Says what is hidden.

    Raises
    ------
    LeakageError
        If a donor is on both sides.
    """

    name: str
    train: Cohort | None
    test: Cohort
    places: dict[str, int]
    protocol: CompletionProtocol

    def __post_init__(self) -> None:
        if self.train and (shared := set(self.train.donors) & set(self.test.donors)):
            raise LeakageError(f"fold {self.name}: donors {', '.join(sorted(shared))} are in train and in test")

    def lessons(self, share: float) -> Iterator[tuple[Section, Lesson]]:
        """Yield each test section with what is hidden of it; the same at each call."""
        rule = self.protocol
        for section in self.test:
            rng = np.random.default_rng([rule.mask_seed, self.places[section.id]])
            hidden = share if rule.rule == "uniform" else np.minimum(1, share / np.maximum(self._measured, 1e-9))
            yield section, draw_lesson(section, hidden, rng, missing=rule.missing, depth_seen=rule.depth_seen)

    @cached_property
    def _measured(self) -> np.ndarray:
        """Share of train spots with a count, shape ``(n_genes,)``."""
        return np.concatenate([View.of(s).observed for s in self.train or self.test]).mean(axis=0)


@dataclass(frozen=True)
class CompletionTask:
    """Complete sections of held-out donors, scored on counts that were measured.

    Parameters
    ----------
    cohort
        Sections with counts; no image is needed.
    protocol
        Fixes folds, genes and what is hidden.
    """

    suite: ClassVar[str] = "completion"
    cohort: Cohort
    protocol: CompletionProtocol

    @property
    def name(self) -> str:
        """Name of the task in rows and reports."""
        return f"complete:{self.cohort.card.id}"

    def name_at(self, share: float) -> str:
        """Return the name in rows of the part of the task that hides a share."""
        return name_at(self.name, share)

    @property
    def card(self) -> TaskCard:
        """What a reader of the scores must know."""
        rule = self.protocol
        return TaskCard(
            name=self.name, protocol=rule.name, revision=rule.revision, cohort=self.cohort.card,
            n_sections=len(self.cohort), optimistic=rule.optimistic,
        )  # fmt: skip

    @property
    def rules(self) -> dict[str, Any]:
        """The protocol, field by field."""
        return self.protocol.model_dump(mode="json")

    @cached_property
    def data_hash(self) -> str:
        """Hash of everything the scores depend on in the data."""
        parts = [f"{s.id} {s.donor} {data_hash(s)}" for s in self.cohort]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def folds(self) -> Iterator[CompletionFold]:
        """Yield the folds, in the order of their donors.

        Raises
        ------
        SchemaError
            If counts, names or places are wrong: all problems of all sections.
        InputError
            If there is only one donor and donors are held out, or no gene is measured often enough.
        LeakageError
            If spots of one section are on both sides under another name.
        """
        if problems := [p for s in self.cohort for p in check_section(s)]:
            raise SchemaError(f"cohort {self.cohort.card.id}", problems)
        places = {name: i for i, name in enumerate(sorted(s.id for s in self.cohort))}
        twins = find_twins(self.cohort) if self.protocol.held_out == "donor" else []
        for donors in self._deal_donors():
            yield self._fold(donors, places, twins)

    def _fold(self, donors: tuple[str, ...], places: dict[str, int], twins: list[Pair]) -> CompletionFold:
        rule, name = self.protocol, "+".join(donors)
        test = self.cohort.where(lambda s: s.donor in donors)
        train = self.cohort.where(lambda s: s.donor not in donors) if rule.held_out == "donor" else None
        if train:
            check_apart(twins, name, train, test, by_donor=True)
        prepared = self._chosen_on_all if rule.genes_from == "all" else self._choose_genes(train or self.cohort)

        def choose(section: Section) -> Section:
            section, depth = prepared.choose(section)
            table = section.table.copy()
            table.layers = {keys.COUNTS: View.of(section).counts}
            table.obs[keys.DEPTH] = np.asarray(depth, dtype=np.float64)
            return section.with_table(table)

        return CompletionFold(name, train.map(choose) if train else None, test.map(choose), places, rule)

    @cached_property
    def _chosen_on_all(self) -> SparedPreparation:
        return self._choose_genes(self.cohort)

    def _choose_genes(self, seen: Cohort) -> SparedPreparation:
        n_genes = self.protocol.n_genes
        return SparedPreparation(lengths="none", batch="none", n_genes=n_genes, allow_fewer=True).fit(seen)

    def _deal_donors(self) -> list[tuple[str, ...]]:
        """Return the donors of each fold."""
        donors, rule = self.cohort.donors, self.protocol
        if rule.held_out == "none":
            return [donors]
        if len(donors) < 2:
            raise InputError(
                f"cohort {self.cohort.card.id} has one donor only ({donors[0]}); completion across donors needs two"
            )
        n_folds = min(rule.n_folds or len(donors), len(donors))
        return [donors[i::n_folds] for i in range(n_folds)]


def name_at(task: str, share: float) -> str:
    """Return the name in rows of the part of a task that hides a share of the counts.

    Examples
    --------
    >>> name_at("complete:her2st", 0.3)
    'complete:her2st, 30% hidden'
    """
    return f"{task}, {share:.0%} hidden"
