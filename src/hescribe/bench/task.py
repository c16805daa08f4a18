"""A task is a cohort under a protocol: folds, gene choice, ceilings. It knows nothing of models."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.bench.protocols import Protocol
from hescribe.cards import TaskCard
from hescribe.data.cohort import Cohort
from hescribe.data.folder import data_hash, read_cohort, read_index
from hescribe.data.section import Section
from hescribe.data.validate import check_section
from hescribe.errors import InputError, LeakageError, SchemaError
from hescribe.metrics.ceiling import Ceiling, noise_ceiling
from hescribe.prep.counts import keep_deep_spots, with_lognorm
from hescribe.prep.genes import to_panel, top_moran, top_variance
from hescribe.prep.split import leave_one_out

GENE_RULES = {"variance": top_variance, "moran": top_moran}


@dataclass(frozen=True)
class Fold:
    """Train and test cohort on the fold's panel, with counts and log-normalised expression.

    Parameters
    ----------
    name
        The donor or section held out.
    train, test
        On one panel, chosen on train.
    optimistic
        Why this fold may share a donor between the sides; empty if it may not.

    Raises
    ------
    LeakageError
        If a section is on both sides, or a donor is and ``optimistic`` does not say so.
    """

    name: str
    train: Cohort
    test: Cohort
    optimistic: str = ""

    def __post_init__(self) -> None:
        if shared := {s.id for s in self.train} & {s.id for s in self.test}:
            raise LeakageError(f"fold {self.name}: sections {', '.join(sorted(shared))} are in train and in test")
        if (shared := set(self.train.donors) & set(self.test.donors)) and not self.optimistic:
            raise LeakageError(
                f"fold {self.name}: donors {', '.join(sorted(shared))} are in train and in test; split by donor"
            )

    @cached_property
    def ceilings(self) -> dict[str, Ceiling]:
        """Noise ceiling of each test section, by section id."""
        return {s.id: noise_ceiling(s.layer(keys.COUNTS), s.depth[s.kept], seed=i) for i, s in enumerate(self.test)}


@dataclass(frozen=True)
class PredictionTask:
    """Predict expression of held-out donors from their images.

    Parameters
    ----------
    cohort
        Sections without an image are left out and counted.
    protocol
        Fixes split, spots, gene choice.
    n_not_read
        Sections without an image that were not even read; counted with those left out.
    """

    cohort: Cohort
    protocol: Protocol
    n_not_read: int = 0

    @classmethod
    def read(cls, path: Path, protocol: Protocol) -> "PredictionTask":
        """Return the task on a cohort folder, of which only the sections with an image are read."""
        cohort = read_cohort(path, with_image=True)
        return cls(cohort, protocol, len(read_index(path).section) - len(cohort))

    @property
    def name(self) -> str:
        """Name of the task in rows and reports."""
        return f"predict:{self.cohort.card.id}"

    @property
    def card(self) -> TaskCard:
        """What a reader of the scores must know."""
        n_used = len(self.prepared)
        return TaskCard(
            name=self.name, protocol=self.protocol.name, revision=self.protocol.revision, cohort=self.cohort.card,
            n_sections=n_used, n_left_out=self.n_not_read + len(self.cohort) - n_used,
            optimistic=self.protocol.optimistic,
        )  # fmt: skip

    @cached_property
    def data_hash(self) -> str:
        """Hash of everything the scores depend on in the data: tables and images used."""
        import hashlib  # noqa: PLC0415 - only here

        parts = [f"{s.id} {s.donor} {data_hash(s)}" for s in self.cohort if s.image is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def folds(self, panel: tuple[str, ...] | None = None) -> Iterator[Fold]:
        """Yield the folds, in the order of their names.

        Parameters
        ----------
        panel
            Score these genes in every fold, instead of those chosen on its train donors: for the
            trust table of a model whose panel is given.

        Raises
        ------
        InputError
            If there is only one donor.
        """
        for name, train, test in leave_one_out(self.prepared, self.protocol.split):
            genes = panel or self.choose_genes(train)
            yield Fold(name, on_panel(train, genes), on_panel(test, genes), self.protocol.optimistic)

    def choose_genes(self, train: Cohort) -> tuple[str, ...]:
        """Return the panel that the protocol chooses on a prepared train cohort."""
        return GENE_RULES[self.protocol.gene_rule](train, self.protocol.n_genes)

    @cached_property
    def prepared(self) -> Cohort:
        """The sections with an image, checked and normalised spot by spot: nothing here is fitted.

        Raises
        ------
        SchemaError
            If counts, names or places are wrong: all problems of all sections.
        InputError
            If no section has an image, or none has enough spots.
        """
        name, rule = self.cohort.card.id, self.protocol
        with_image = tuple(s for s in self.cohort if s.image is not None)
        if not with_image:
            raise InputError(f"no section of cohort {name} has an image; prediction needs one")
        if problems := [p for s in with_image for p in check_section(s)]:
            raise SchemaError(f"cohort {name}", problems)
        sections = (keep_deep_spots(with_lognorm(s), rule.min_counts) for s in with_image)
        deep = tuple(s for s in sections if s.kept.sum() >= rule.min_spots)
        if not deep:
            raise InputError(
                f"no section of cohort {name} has {rule.min_spots} spots with {rule.min_counts} counts, "
                f"as protocol {rule.name} asks for"
            )
        return replace(self.cohort, sections=deep)


def on_panel(cohort: Cohort, genes: tuple[str, ...]) -> Cohort:
    """Return a prepared cohort on a panel, its layers dense: a panel is small and read many times."""

    def dense(section: Section) -> Section:
        table = to_panel(section, genes).table.copy()
        for name in (keys.COUNTS, keys.LOGNORM):
            layer = table.layers[name]
            table.layers[name] = np.asarray(layer.todense() if sparse.issparse(layer) else layer, dtype=np.float32)
        return section.with_table(table)

    return cohort.map(dense)
