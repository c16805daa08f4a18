"""A task is a cohort under a protocol: folds, gene choice, ceilings. It knows nothing of models."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.bench.labels import fill_labels
from hescribe.bench.protocols import MEASURED, Protocol, read_protocol
from hescribe.bench.store import model_code_hash
from hescribe.cards import TaskCard
from hescribe.complete.base import completers
from hescribe.data.catalogue import load_catalogue
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import Pair, check_apart, find_twins
from hescribe.data.folder import data_hash, read_cohort, read_index
from hescribe.data.section import Section
from hescribe.data.validate import check_section
from hescribe.errors import InputError, LeakageError, SchemaError
from hescribe.metrics.ceiling import Ceiling, noise_ceiling
from hescribe.prep.batch import Combat
from hescribe.prep.counts import halve_counts, keep_deep_spots, with_lognorm
from hescribe.prep.dispersion import top_dispersion
from hescribe.prep.genes import to_panel, top_moran, top_variance
from hescribe.prep.split import leave_one_out
from hescribe.prep.targets import normaliser, with_target

GENE_RULES = {"variance": top_variance, "moran": top_moran, "dispersion": top_dispersion}
POOLED = "pooled"  # name of the score of all test sections as one


@dataclass(frozen=True)
class Fold:
    """Train and test cohort on the fold's panel, with counts and log-normalised expression.

    Parameters
    ----------
    name
        The donor or section held out.
    train, test
        On one panel, chosen on train, with counts and the target.
    protocol
        What is scored and how; only one that splits by section lets a donor be on both sides.
    validation
        Sections of a published split that choose what other protocols choose by the inner rule; None without.

    Raises
    ------
    LeakageError
        If a section is on both sides, or a donor is and the protocol does not split by section.
    """

    name: str
    train: Cohort
    test: Cohort
    protocol: Protocol = field(default_factory=lambda: read_protocol("donor-v1"))
    validation: Cohort | None = None

    def __post_init__(self) -> None:
        if shared := {s.id for s in self.train} & {s.id for s in self.test}:
            raise LeakageError(f"fold {self.name}: sections {', '.join(sorted(shared))} are in train and in test")
        if (shared := set(self.train.donors) & set(self.test.donors)) and self.protocol.split == "donor":
            raise LeakageError(
                f"fold {self.name}: donors {', '.join(sorted(shared))} are in train and in test; split by donor"
            )

    @property
    def val(self) -> Cohort | None:
        """Sections on which a model may choose its parameters in place of the inner rule; the test's are a shortcut."""
        return self.test if self.protocol.choose_on == "test" else self.validation

    @cached_property
    def scored(self) -> dict[str, Cohort]:
        """Test sections that get one score, by the name it is given: each alone, or all as one."""
        if self.protocol.pool == "fold":
            return {POOLED: self.test}
        return {s.id: replace(self.test, sections=(s,)) for s in self.test}

    @cached_property
    def ceilings(self) -> dict[str, Ceiling]:
        """Noise ceiling of what is scored, by name."""
        return {name: self._ceiling(sections, i) for i, (name, sections) in enumerate(self.scored.items())}

    def _ceiling(self, sections: Cohort, seed: int) -> Ceiling:
        rule = self.protocol
        parts = [normaliser(s, rule.target, smooth=rule.smooth_target) for s in sections]
        ends = np.cumsum([s.kept.sum() for s in sections])[:-1]

        def normalise(counts: np.ndarray, depth: np.ndarray) -> np.ndarray:
            pairs = zip(parts, np.split(counts, ends), np.split(depth, ends), strict=True)
            return np.concatenate([part(c, d) for part, c, d in pairs])

        depth = np.concatenate([s.depth[s.kept] for s in sections])
        return noise_ceiling(sections.stack(keys.COUNTS), depth, normalise, seed=seed)


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

    suite: ClassVar[str] = "prediction"
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

    @property
    def rules(self) -> dict[str, Any]:
        """The protocol, field by field."""
        return asdict(self.protocol)

    @cached_property
    def data_hash(self) -> str:
        """Hash of everything the scores depend on in the data: tables, images, and what fills train labels."""
        import hashlib  # noqa: PLC0415 - only here

        parts = [f"{s.id} {s.donor} {data_hash(s)}" for s in self.cohort if s.image is not None]
        if self.protocol.labels != MEASURED:
            parts.append(f"labels {model_code_hash(completers.create(self.protocol.labels))}")
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
        LeakageError
            If spots of one section are on both sides under another name.
        """
        rule = self.protocol
        if rule.preparation:
            raise InputError(f"protocol {rule.name} has spots and genes prepared; run it by hescribe bench run")
        for name, train, test in leave_one_out(self.prepared, rule.split):
            check_apart(self._twins, name, train, test, by_donor=rule.split == "donor")
            genes = panel or self.choose_genes(self.prepared if rule.genes_from == "all" else train)
            scored = test.map(halve_counts) if rule.score_on == "half" else test
            sides = self.on_panel(train, genes), self.on_panel(scored, genes)
            if rule.labels != MEASURED:
                sides = fill_labels(sides[0], rule.labels, self._to_target), sides[1]
            yield Fold(name, *(correct_donors(*sides) if rule.batch_correction == "combat_on_all" else sides), rule)

    def _to_target(self, section: Section, counts: np.ndarray) -> np.ndarray:
        """Return what the target of a section on the fold's panel would be with other counts."""
        table = section.table.copy()
        table.layers[keys.COUNTS] = counts
        rule, other = self.protocol, section.with_table(table)
        values = with_target(other, normaliser(other, rule.target, smooth=rule.smooth_target)).table.layers[keys.TARGET]
        return np.asarray(values)

    @cached_property
    def _twins(self) -> list[Pair]:
        return find_twins(self.prepared)

    def on_panel(self, cohort: Cohort, genes: tuple[str, ...]) -> Cohort:
        """Return a prepared cohort on a panel, with counts and target, dense: a panel is small and read many times."""
        rule = self.protocol

        def to_target(section: Section) -> Section:
            table = to_panel(section, genes).table.copy()
            counts = table.layers[keys.COUNTS]
            table.layers[keys.COUNTS] = np.asarray(counts.todense() if sparse.issparse(counts) else counts, np.float32)
            section = section.with_table(table)
            return with_target(section, normaliser(section, rule.target, smooth=rule.smooth_target))

        return cohort.map(to_target)

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


def published_split(cohort: Cohort) -> tuple[Cohort, Cohort, Cohort | None] | None:
    """Return train, test and validation sections as the dataset's card has them; None where it names no split.

    Without test sections the validation sections are the test, and choose as well.
    """
    entry = load_catalogue().get(cohort.card.id)
    of = {s.id: s.split for s in entry.section} if entry else {}
    by = {k: tuple(s for s in cohort if of.get(s.id) == k) for k in ("train", "val", "test")}
    side = {k: replace(cohort, sections=v) for k, v in by.items() if v}
    if "train" not in side or len(side) < 2:
        return None
    return side["train"], side["test" if "test" in side else "val"], side.get("val")


def correct_donors(train: Cohort, test: Cohort) -> tuple[Cohort, Cohort]:
    """Return train and test with ComBat's mean and spread of each donor taken out of the target, the test donor's too.

    A shortcut that publications take: it needs the test donor's expression.
    """
    sections = (*train, *test)
    values = np.concatenate([s.layer(keys.TARGET) for s in sections])
    donor = np.repeat([s.donor for s in sections], [s.kept.sum() for s in sections])
    corrected = Combat().fit(values, donor).transform(values, donor)
    parts = np.split(corrected, np.cumsum([s.kept.sum() for s in sections])[:-1])
    after = [with_target(s, lambda *_, part=part: part) for s, part in zip(sections, parts, strict=True)]
    return replace(train, sections=tuple(after[: len(train)])), replace(test, sections=tuple(after[len(train) :]))
