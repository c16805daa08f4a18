"""Cohort: an ordered set of sections on one gene panel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from hescribe.cards import DatasetCard
from hescribe.data.section import Section
from hescribe.errors import InputError, PanelError


@dataclass(frozen=True)
class Cohort(Sequence[Section]):
    """Sections that share one gene panel, in one order.

    Parameters
    ----------
    sections
        At least one; ids are unique.
    card
        Licence, citation and known defects of the data.

    Raises
    ------
    PanelError
        If two sections differ in genes or gene order, or a gene is named twice.
    InputError
        If there is no section, or two share an id.
    """

    sections: tuple[Section, ...]
    card: DatasetCard = DatasetCard(id="cohort")

    def __post_init__(self) -> None:
        if not self.sections:
            raise InputError(f"cohort {self.card.id} has no section")
        ids = [s.id for s in self.sections]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise InputError(f"cohort {self.card.id} has two sections called {twice[0]!r}")
        first, *rest = self.sections
        if len(set(first.genes)) < len(first.genes):
            raise PanelError(f"section {first.id} names a gene twice; merge or rename them before import")
        for other in rest:
            if other.genes != first.genes:
                raise PanelError(
                    f"{other.id} and {first.id} differ in genes ({len(other.genes)} and {len(first.genes)}); "
                    "bring them to one panel with prep.genes.to_panel"
                )

    @overload
    def __getitem__(self, i: int) -> Section: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Section, ...]: ...
    def __getitem__(self, i: int | slice) -> Section | tuple[Section, ...]:
        return self.sections[i]

    def __len__(self) -> int:
        return len(self.sections)

    def __iter__(self) -> Iterator[Section]:
        return iter(self.sections)

    @property
    def donors(self) -> tuple[str, ...]:
        """Donors, sorted."""
        return tuple(sorted({s.donor for s in self.sections}))

    @property
    def genes(self) -> tuple[str, ...]:
        """The panel."""
        return self.sections[0].genes

    def stack(self, layer: str) -> np.ndarray:
        """Return one layer of the kept spots of all sections, shape ``(n_spots, n_genes)``."""
        return np.concatenate([s.layer(layer) for s in self.sections])

    def where(self, condition: Callable[[Section], bool]) -> "Cohort":
        """Return the cohort of the sections that fulfil a condition.

        Raises
        ------
        InputError
            If none does.
        """
        return replace(self, sections=tuple(s for s in self.sections if condition(s)))

    def map(self, change: Callable[[Section], Section]) -> "Cohort":
        """Return the cohort with every section changed."""
        return replace(self, sections=tuple(change(s) for s in self.sections))
