"""Counts to depth-normalised log expression, spot by spot: nothing here is fitted."""

from typing import TypeVar

import numpy as np
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section
from hescribe.errors import InputError

Counts = TypeVar("Counts", np.ndarray, sparse.csr_matrix)
TARGET_SUM = 1e4  # counts every spot is scaled to


def are_counts(values: np.ndarray) -> bool:
    """Return whether all values are finite, whole and not negative.

    Examples
    --------
    >>> are_counts(np.array([0.0, 3.0])), are_counts(np.array([0.5])), are_counts(np.array([np.nan]))
    (True, False, False)
    """
    return not values.size or bool(
        values.min() >= 0 and np.isfinite(values.max()) and (np.floor(values) == values).all()
    )  # NaN is not above 0


def log_normalise(counts: Counts, depth: np.ndarray, *, target_sum: float = TARGET_SUM) -> Counts:
    """Return ln(1 + target_sum * count / depth), sparse if the counts are.

    Parameters
    ----------
    counts
        Shape ``(n_spots, n_genes)``.
    depth
        Counts of each spot over all measured genes, shape ``(n_spots,)``.

    Raises
    ------
    InputError
        If there is not one depth for each spot.

    Examples
    --------
    >>> log_normalise(np.array([[1.0, 0.0]]), np.array([1e4])).round(2)
    array([[0.69, 0.  ]], dtype=float32)
    """
    depth = np.asarray(depth, dtype=np.float64)
    if counts.shape[0] != len(depth):
        raise InputError(
            f"counts have {counts.shape[0]} rows and depth has {len(depth)}: rows are spots, "
            "the table may be transposed"
        )
    factor = target_sum / np.maximum(depth, 1.0)
    if sparse.issparse(counts):
        scaled = sparse.csr_matrix(counts, dtype=np.float32, copy=True)
        scaled.data = np.log1p(scaled.data * np.repeat(factor, np.diff(scaled.indptr))).astype(np.float32)
        return scaled
    return np.log1p(np.asarray(counts) * factor[:, None]).astype(np.float32)


def check_totals(counts: np.ndarray | sparse.csr_matrix, depth: np.ndarray) -> None:
    """Raise ``InputError`` if a spot has more measured counts than its depth: a transposed table, or another's depth.

    Parameters
    ----------
    counts
        As measured, shape ``(n_spots, n_genes)``.
    depth
        Counts of each spot over all measured genes, shape ``(n_spots,)``.
    """
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    if (over := total > depth * (1 + 1e-6) + 1e-6).any():
        spot = int(np.argmax(over))
        raise InputError(
            f"spot {spot} has {total[spot]:g} counts on the panel but a depth of {depth[spot]:g}: "
            "the table may be transposed, or the depth belongs to another table"
        )


def with_lognorm(section: Section) -> Section:
    """Return the section with ``layers["lognorm"]`` beside its counts.

    Raises
    ------
    InputError
        If a spot has more counts than its depth.
    """
    old = section.table
    check_totals(old.layers[keys.COUNTS], section.depth)
    layers = {**dict(old.layers), keys.LOGNORM: log_normalise(old.layers[keys.COUNTS], section.depth)}
    return section.with_table(AnnData(obs=old.obs.copy(), var=old.var.copy(), obsm=dict(old.obsm), layers=layers))


def keep_deep_spots(section: Section, min_counts: int) -> Section:
    """Return the section whose target spots have at least ``min_counts`` counts.

    The others stay in the table: their image serves as context for their neighbours.
    """
    return section.with_kept(section.depth >= min_counts)


def halve_counts(section: Section) -> Section:
    """Return the section with about half of its counts, each kept or not by a fair coin (binomial thinning).

    What is kept is a measurement of the same expression at half the depth. The coins are those of the section's name.
    """
    rng = np.random.default_rng([*section.id.encode()])
    table = section.table.copy()
    counts = sparse.csr_matrix(table.layers[keys.COUNTS])
    beyond = section.depth.astype(np.int64) - np.asarray(counts.sum(axis=1)).ravel().astype(np.int64)
    counts.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    counts.eliminate_zeros()
    table.layers = {keys.COUNTS: counts}
    table.obs[keys.DEPTH] = np.asarray(counts.sum(axis=1)).ravel() + rng.binomial(np.maximum(beyond, 0), 0.5)
    return with_lognorm(section.with_table(table))
