"""The completer contract: the expression that stands behind every missing value of a section.

A value is log expression relative to the counts of its spot that are visible, ``log2(1 + 1e6 * count /
depth)``: the scale of SpaRED. A count of 0 is missing; it may be a dropout, or nothing may be there.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError, PanelError
from hescribe.prep.counts import TARGET_SUM, are_counts, check_totals, log_normalise
from hescribe.prep.graph import nearest_spots
from hescribe.registry import Registry

PER_MILLION = 1e6
HIGHEST = float(np.log2(1 + PER_MILLION))  # value of a gene that holds all counts of its spot


@dataclass(frozen=True)
class View:
    """What a completer sees of a section.

    Parameters
    ----------
    section
        Its counts are those that are visible, and its depth is theirs.
    counts
        Shape ``(n_spots, n_genes)``, float32.
    depth
        Visible counts of each spot over all measured genes, shape ``(n_spots,)``.
    """

    section: Section
    counts: np.ndarray
    depth: np.ndarray

    @classmethod
    def of(cls, section: Section) -> "View":
        """Return the view of a section with counts.

        Raises
        ------
        InputError
            If the layer of counts is absent or holds something else than counts.
        """
        if keys.COUNTS not in section.table.layers:
            raise InputError(f"section {section.id} has no layer {keys.COUNTS!r}; completion starts from raw counts")
        layer = section.table.layers[keys.COUNTS]
        counts = np.asarray(layer.todense() if sparse.issparse(layer) else layer, dtype=np.float32)
        if not are_counts(layer.data if sparse.issparse(layer) else counts):
            raise InputError(
                f"section {section.id}: layer {keys.COUNTS!r} holds values that are no counts (integers, 0 or more)"
            )
        return cls(section, counts, section.depth)

    @cached_property
    def observed(self) -> np.ndarray:
        """True where a value is visible, shape ``(n_spots, n_genes)``."""
        return self.counts > 0

    @cached_property
    def values(self) -> np.ndarray:
        """log2(1 + 1e6 * count / depth), 0 where it is missing, shape ``(n_spots, n_genes)`` float32."""
        return to_values(self.counts, self.depth)

    def neighbours(self, k: int) -> sparse.csr_matrix:
        """Return a matrix whose rows are 1 at the ``k`` nearest other spots, shape ``(n_spots, n_spots)``."""
        return self.neighbourhoods(k)[k]

    def neighbourhoods(self, *sizes: int) -> dict[int, sparse.csr_matrix]:
        """Return the matrix of ``neighbours`` for each of several numbers of spots."""
        nearest, _ = nearest_spots(self.section, max(sizes))
        found = {}
        for k in sizes:
            index = nearest[:, :k]
            rows = np.nonzero(index >= 0)[0]
            ones = np.ones(len(rows), dtype=np.float32)
            found[k] = sparse.csr_matrix((ones, (rows, index[index >= 0])), shape=(len(index), len(index)))
        return found


@dataclass(frozen=True, slots=True)
class Completion:
    """What a completer says of every entry of a section, as if it were missing and had been measured.

    Parameters
    ----------
    mean
        log2(1 + 1e6 * count / depth), shape ``(n_spots, n_genes)``.
    sd
        Standard deviation of the measured value about it, same shape; None if the method gives none.
    """

    mean: np.ndarray
    sd: np.ndarray | None = None


@runtime_checkable
class Completer(Protocol):
    """Anything with ``fit`` and ``estimate``; no base class is needed.

    ``fit`` learns from the counts of train sections; ``estimate`` is given the visible counts of one
    section and returns every entry of it. What it returns of a section depends on nothing but the fit
    and that section.
    """

    name: ClassVar[str]
    card: ClassVar[MethodCard]

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn from a train cohort and return the completer."""
        ...

    def estimate(self, section: Section) -> Completion:
        """Return the expression of every entry of a section."""
        ...


completers: Registry[Completer] = Registry("completer", "hescribe.complete", besides=("centred", "cohort", "hiding"))


def to_values(counts: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return log2(1 + 1e6 * count / depth), shape ``(n_spots, n_genes)`` float32; 0 in a spot without counts.

    Examples
    --------
    >>> to_values(np.array([[1.0, 0.0]]), np.array([1e6]))
    array([[1., 0.]], dtype=float32)
    """
    factor = (PER_MILLION / np.maximum(depth, 1.0)).astype(np.float32)
    values = counts.astype(np.float32) * factor[:, None]
    values += 1
    return np.log2(values, out=values)


def check_panel(section: Section, genes: tuple[str, ...], method: str) -> None:
    """Raise ``PanelError`` if a section is not on the genes that a completer was fitted on."""
    if section.genes != genes:
        raise PanelError(
            f"section {section.id} has {len(section.genes)} genes and {method} was fitted on {len(genes)}, or their "
            "order differs; bring it to the panel with prep.genes.to_panel"
        )


def complete(completer: Completer, section: Section) -> Section:
    """Return the section with its missing values filled in; counts and observed values stay as they are.

    Parameters
    ----------
    completer
        Fitted.
    section
        With counts on the panel of the fit.

    Returns
    -------
    The section with three layers more, dense: ``completed``, ln(1 + 1e4 * count / depth) where a count is
    observed and what the completer says elsewhere; ``observed``, where that is; ``completed_sd``, the standard
    deviation of a filled value in the same unit, 0 where it is observed, if the completer knows it.
    """
    view, table = View.of(section), section.table
    found = completer.estimate(section)
    filled = _to_lognorm(found.mean)
    layers = dict(table.layers)
    check_totals(view.counts, view.depth)
    observed = log_normalise(view.counts, view.depth)
    layers[keys.COMPLETED] = np.where(view.observed, observed, filled).astype(np.float32)
    layers[keys.OBSERVED] = view.observed
    if found.sd is not None:
        spread = (_to_lognorm(found.mean + found.sd) - _to_lognorm(found.mean - found.sd)) / 2
        layers[keys.COMPLETED_SD] = np.where(view.observed, 0, spread).astype(np.float32)
    return section.with_table(
        AnnData(obs=table.obs, var=table.var, obsm=dict(table.obsm), uns=dict(table.uns), layers=layers)
    )


def _to_lognorm(values: np.ndarray) -> np.ndarray:
    """Return ln(1 + 1e4 * rate) for log2(1 + 1e6 * rate), the rate kept between 0 and 1."""
    return np.log1p(np.expm1(np.log(2) * np.clip(values, 0, HIGHEST)) * TARGET_SUM / PER_MILLION)
