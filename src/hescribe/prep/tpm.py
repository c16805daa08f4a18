"""Transcripts per million: counts divided by gene length, then scaled to the genes that are kept."""

import numpy as np
from scipy import sparse

from hescribe.data.cohort import Cohort
from hescribe.data.gene_names import map_genes, stable_ids
from hescribe.data.gene_table import CHROMOSOME, LENGTH, MITOCHONDRIAL, GeneTable
from hescribe.errors import InputError

MILLION = 1e6


def find_lengths(cohort: Cohort, table: GeneTable, *, mitochondrial: bool = True) -> dict[str, float]:
    """Return the length of each gene of a cohort that has one, base pairs, by gene name.

    Genes are looked up by their identifier where the cohort has them, else by name; one that is
    unknown, or whose symbol stands for several genes, has no length.

    Parameters
    ----------
    cohort
        Its panel is looked up.
    table
        Genes of the organism.
    mitochondrial
        Whether genes of the mitochondrial chromosome have a length. GTFtools, from which SpaRED
        takes its lengths, leaves that chromosome out.
    """
    known = stable_ids(cohort)
    ids = map_genes(tuple(known), "id", table).ids
    genes = table.genes
    there = genes[LENGTH].notna() & (mitochondrial | ~genes[CHROMOSOME].isin(MITOCHONDRIAL))
    length = genes.loc[there, LENGTH].astype(float).to_dict()
    return {gene: length[ids[stable]] for stable, gene in known.items() if ids.get(stable) in length}


def tpm(counts: np.ndarray | sparse.csr_matrix, length_bp: np.ndarray) -> np.ndarray:
    """Return transcripts per million, float32, shape ``(n_spots, n_genes)``; a spot without counts gives zeros.

    The sum that is scaled to a million is taken over the given genes alone, those that are retained.

    Parameters
    ----------
    counts
        Shape ``(n_spots, n_genes)``.
    length_bp
        Shape ``(n_genes,)``; ones give counts per million.

    Raises
    ------
    InputError
        If a length is missing or not positive, or lengths and genes differ in number.

    Examples
    --------
    >>> tpm(np.array([[2.0, 1.0], [0.0, 0.0]]), np.array([1000.0, 500.0]))
    array([[500000., 500000.],
           [     0.,      0.]], dtype=float32)
    """
    return rate_of(counts, length_bp, total_rate(counts, length_bp))


def total_rate(counts: np.ndarray | sparse.csr_matrix, length_bp: np.ndarray) -> np.ndarray:
    """Return each spot's sum of count / length over the given genes, shape ``(n_spots,)``; raises as ``tpm`` does."""
    length_bp = np.asarray(length_bp, dtype=np.float64)
    if length_bp.shape != (counts.shape[1],):
        raise InputError(f"{counts.shape[1]} genes need as many lengths, got shape {length_bp.shape}")
    is_length = np.isfinite(length_bp) & (length_bp > 0)
    if not is_length.all():
        raise InputError(f"the length of gene {int(np.argmin(is_length))} is no positive number of base pairs")
    return np.asarray(counts @ (1.0 / length_bp), dtype=np.float64).ravel()


def rate_of(counts: np.ndarray | sparse.csr_matrix, length_bp: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the transcripts per million of some genes, given each spot's total over all that are retained."""
    dense = sparse.csr_matrix(counts).toarray() if sparse.issparse(counts) else np.asarray(counts)
    per_count = MILLION / np.where(total > 0, total, np.inf)
    return (dense * per_count[:, None] / length_bp).astype(np.float32)
