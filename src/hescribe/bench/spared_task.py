"""A cohort under a protocol that takes spots, genes and target from SpaRED's preparation."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.bench.labels import ToTarget, fill_labels
from hescribe.bench.protocols import MEASURED, Protocol
from hescribe.bench.task import Fold, PredictionTask, published_split
from hescribe.data.catalogue import load_catalogue
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import check_apart
from hescribe.data.gene_names import organism_of
from hescribe.data.gene_table import find_gene_table
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.metrics.ceiling import Ceiling
from hescribe.prep.spared import SparedPreparation, find_recipe
from hescribe.prep.split import leave_one_out

PUBLISHED = "published"  # name of the one fold of a published split


def read_task(path: Path, protocol: Protocol) -> PredictionTask:
    """Return the task of a protocol on a cohort folder, of which only the sections with an image are read."""
    return (SparedTask if protocol.preparation else PredictionTask).read(path, protocol)


@dataclass(frozen=True)
class SparedFold(Fold):
    """A fold on SpaRED's target."""

    @cached_property
    def ceilings(self) -> dict[str, Ceiling]:
        """No ceiling: scores on measured entries alone have none that split counts could give."""
        unknown = np.full(len(self.train.genes), np.nan)
        return dict.fromkeys(self.scored, Ceiling(unknown, unknown))


@dataclass(frozen=True)
class SparedTask(PredictionTask):
    """As ``PredictionTask``, with spots, genes, target and batch correction of SpaRED's preparation."""

    def folds(self, panel: tuple[str, ...] | None = None) -> Iterator[Fold]:
        """Yield the fold of the published split, or one for each donor where the dataset's card names no split.

        Raises
        ------
        InputError
            If a panel is asked for, or the cohort has neither a published split nor two donors.
        LeakageError
            If spots of one section are on both sides under another name.
        """
        if panel is not None:
            raise InputError(f"protocol {self.protocol.name} chooses its own genes; score a given panel by donor-v1")
        for name, train, test, val in self._splits():
            check_apart(self._twins, name, train, test, by_donor=False)
            both = replace(train, sections=(*train, *test, *(() if val is test or val is None else val)))
            preparation = self._preparation(both).fit(both, train=[s.id for s in train])
            sides = [self._on_target(preparation, side) for side in (train, test, val) if side is not None]
            if self.protocol.labels != MEASURED:
                sides[0] = fill_labels(sides[0], self.protocol.labels, _to_target(preparation, train))
            yield SparedFold(name, sides[0], sides[1], self.protocol, sides[2] if val is not None else None)

    def _splits(self) -> Iterator[tuple[str, Cohort, Cohort, Cohort | None]]:
        """Yield name, train, test and validation sections."""
        split = published_split(self.prepared)
        if split is not None:
            yield PUBLISHED, *split
            return
        for name, train, test in leave_one_out(self.prepared, "donor"):
            yield name, train, test, None

    def _preparation(self, cohort: Cohort) -> SparedPreparation:
        """Return the recipe, with ComBat between what there are two of, donors or sections.

        Counts are per million of all genes, whatever their length, of a species without a table of lengths.
        """
        entry = load_catalogue().get(self.cohort.card.id)
        by_section = len(cohort.donors) < 2 or (entry is not None and entry.published.combat_key == "slide_id")
        batch = "none" if len(cohort) < 2 else "section" if by_section else "donor"
        try:
            find_gene_table(organism_of(cohort))
            lengths = "spared"
        except InputError:
            lengths = "none"
        return find_recipe(self.protocol.preparation).with_params(
            batch=batch, n_genes=self.protocol.n_genes, allow_fewer=True, lengths=lengths
        )

    def _on_target(self, preparation: SparedPreparation, cohort: Cohort) -> Cohort:
        """Return the sections on the chosen genes, with the target; what is not measured is 0 there, as published."""

        def with_target(section: Section) -> Section:
            table = section.table.copy()
            counts = table.layers[keys.COUNTS]
            table.layers[keys.COUNTS] = np.asarray(counts.todense() if sparse.issparse(counts) else counts, np.float32)
            noisy = keys.NOISY_C_D_LOG1P if keys.NOISY_C_D_LOG1P in table.layers else keys.NOISY_D_LOG1P
            table.layers[keys.TARGET] = table.layers[noisy].astype(np.float32)
            return section.with_table(table)

        return preparation.transform(cohort).map(with_target)


def _to_target(preparation: SparedPreparation, cohort: Cohort) -> ToTarget:
    """Return the way from other counts of the chosen genes to the target, of sections of a cohort by their id."""
    whole = {s.id: s for s in cohort}
    return lambda section, counts: preparation.to_log(whole[section.id], counts)
