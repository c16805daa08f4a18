"""SpaRED's choice of spots and genes: its filters F1 to F3 and its ranking by Moran's I."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section
from hescribe.errors import DataAccessError, FormatError, InputError, PanelError

MANY_GENES, N_MANY, N_FEW = 320, 128, 32  # above 320 genes SpaRED keeps 128, else 32


@dataclass(frozen=True)
class Shares:
    """How often each gene of a panel was counted, over some sections' spots.

    Parameters
    ----------
    total
        Counts, shape ``(n_genes,)``.
    lowest
        Share of spots with a count in the section where it is lowest (``exp_frac``), shape ``(n_genes,)``.
    overall
        Share of all spots with a count (``glob_exp_frac``), shape ``(n_genes,)``.
    """

    total: np.ndarray
    lowest: np.ndarray
    overall: np.ndarray

    @classmethod
    def of(cls, sections: Iterable[tuple[Section, np.ndarray]]) -> "Shares":
        """Count over sections, each with the mask of the spots to look at."""
        total, seen, n_spots = [], [], []
        for section, spots in sections:
            counts = _counts(section)[spots]
            total.append(np.asarray(counts.sum(axis=0), dtype=np.float64).ravel())
            seen.append(np.asarray((counts > 0).sum(axis=0), dtype=np.float64).ravel())
            n_spots.append(counts.shape[0])
        lowest = np.min([k / n for k, n in zip(seen, n_spots, strict=True)], axis=0)
        return cls(np.sum(total, axis=0), lowest, np.sum(seen, axis=0) / sum(n_spots))


def valid_spots(section: Section, low: float, high: float) -> np.ndarray:
    """Return the mask of the kept spots with more than ``low`` and less than ``high`` counts (F1).

    Raises
    ------
    InputError
        If no spot is left.
    """
    total = np.asarray(_counts(section).sum(axis=1), dtype=np.float64).ravel()
    valid = section.kept & (total > low) & (total < high)
    if not valid.any():
        raise InputError(
            f"section {section.id} has no spot with more than {low:g} and less than {high:g} counts "
            f"(its deepest has {total.max(initial=0):g}); leave it out, or change the limits"
        )
    return valid


def measured_genes(
    genes: tuple[str, ...], shares: Shares, limits: tuple[float, float], min_measured: float
) -> list[int]:
    """Return the places of the genes that are measured often enough together (F3), best first.

    Genes with a total strictly between the limits are sorted by their lowest share; the first K are kept,
    where K is the largest number whose overall shares have a mean of at least ``min_measured``. Equal
    shares are sorted by name; SpaRED leaves their order to an unstable sort.

    Raises
    ------
    InputError
        If the mean never reaches ``min_measured``; SpaRED fails with an index error.
    """
    places = np.flatnonzero((shares.total > limits[0]) & (shares.total < limits[1]))
    if not len(places):
        raise InputError(f"no gene has more than {limits[0]:g} and less than {limits[1]:g} counts over all spots")
    order = places[np.lexsort((np.array(genes)[places], -shares.lowest[places]))]
    mean = np.cumsum(shares.overall[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(mean >= min_measured)
    if not len(enough):
        raise InputError(
            f"no set of genes is measured in {min_measured:.0%} of the spots: the best mean share is {mean.max():.1%}; "
            "lower min_measured, leave shallow sections out, or name the genes"
        )
    return [int(i) for i in order[: enough[-1] + 1]]


def listed_genes(genes: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """Return the places of genes that were named, in the order of the list.

    Raises
    ------
    InputError
        If a gene is named twice.
    PanelError
        If the panel lacks one; the first ones are listed.
    """
    if len(set(wanted)) < len(wanted):
        twice = next(g for g in wanted if wanted.count(g) > 1)
        raise InputError(f"the gene list names {twice} twice")
    place = {g: i for i, g in enumerate(genes)}
    if missing := [g for g in wanted if g not in place]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise PanelError(
            f"the panel lacks {len(missing)} of {len(wanted)} listed genes: {', '.join(missing[:5])}{more}"
        )
    return [place[g] for g in wanted]


def read_gene_list(path: Path) -> tuple[str, ...]:
    """Return the genes of a text file, one a line: the first word, as in SpaRED's wildcard lists.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it names no gene or is no text.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataAccessError(f"gene list {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"gene list {path} is no text") from error
    genes = tuple(line.split()[0] for line in lines if line.strip())
    if not genes:
        raise FormatError(f"gene list {path} names no gene")
    return genes


def top_of(names: tuple[str, ...], moran: np.ndarray, n_genes: int) -> list[int]:
    """Return the places of the genes of highest Moran's I (P6), highest first; equal ones by name, undefined last.

    Parameters
    ----------
    names
        Genes.
    moran
        Mean over sections, shape ``(n_genes,)``.
    n_genes
        How many; 0: 128 of more than 320, else 32 (all, if there are fewer).

    Raises
    ------
    InputError
        If there are fewer genes than asked for.
    """
    if n_genes > len(names):
        raise InputError(f"{n_genes} genes were asked for and {len(names)} pass the filters; ask for fewer")
    n = n_genes or (N_MANY if len(names) > MANY_GENES else min(N_FEW, len(names)))
    order = np.lexsort((np.array(names), -np.nan_to_num(moran, nan=-np.inf)))
    return [int(i) for i in order[:n]]


def _counts(section: Section) -> sparse.csr_matrix:
    if keys.COUNTS not in section.table.layers:
        there = ", ".join(section.table.layers) or "none"
        raise InputError(f"section {section.id} has no layer {keys.COUNTS!r}; it has {there}")
    return sparse.csr_matrix(section.table.layers[keys.COUNTS])
