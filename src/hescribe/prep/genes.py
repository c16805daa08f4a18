"""Gene choice on train donors, and panels brought together by gene name."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError, PanelError
from hescribe.prep.graph import spot_graph
from hescribe.prep.moran import morans_i


def to_panel(section: Section, genes: tuple[str, ...]) -> Section:
    """Return the section with its columns in the order of ``genes``, matched by name.

    Raises
    ------
    PanelError
        If the section lacks a gene, or one is named twice; the message lists the first ones.
    """
    if section.genes == genes:
        return section
    if twice := [g for g, n in Counter(genes).items() if n > 1]:
        raise PanelError(f"the panel names {twice[0]} twice; name each gene once")
    there = set(section.genes)
    if missing := [g for g in genes if g not in there]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise PanelError(
            f"section {section.id} lacks {len(missing)} of {len(genes)} genes: {', '.join(missing[:5])}{more}"
        )
    return section.with_table(section.table[:, list(genes)].copy())


def top_variance(train: Cohort, n_genes: int) -> tuple[str, ...]:
    """Return the genes that vary most inside the train sections, in panel order.

    Variance of the log-normalised expression over a section's kept spots, averaged over the
    sections of a donor, then over donors: differences between donors do not count.

    Raises
    ------
    InputError
        If ``n_genes`` is not positive.
    """
    return _best(train, n_genes, _variance)


def top_moran(train: Cohort, n_genes: int) -> tuple[str, ...]:
    """Return the spatially variable genes: highest Moran's I inside the train sections, in panel order.

    Averaged as in ``top_variance``; a gene that is constant in a section counts as 0 there.
    """
    return _best(train, n_genes, lambda s: np.nan_to_num(morans_i(_kept(s), spot_graph(s, kept_only=True))))


def _kept(section: Section) -> sparse.csr_matrix:
    return sparse.csr_matrix(section.table.layers[keys.LOGNORM][section.kept])


def _variance(section: Section) -> np.ndarray:
    x = _kept(section).astype(np.float64)
    mean = np.asarray(x.mean(axis=0)).ravel()
    return np.asarray(x.multiply(x).mean(axis=0)).ravel() - mean**2


def _best(train: Cohort, n_genes: int, score: Callable[[Section], np.ndarray]) -> tuple[str, ...]:
    if n_genes < 1:
        raise InputError(f"n_genes must be at least 1, got {n_genes}")
    genes = train.genes
    donors = [np.mean([score(s) for s in train if s.donor == d], axis=0) for d in train.donors]
    order = np.argsort(-np.mean(donors, axis=0), kind="stable")[:n_genes]
    return tuple(genes[i] for i in np.sort(order))
