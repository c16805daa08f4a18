"""Hashes of the count vectors of spots: the same spots are known again under any name, order or filter.

The hash of a spot is the sum over genes of count times a random number that belongs to the gene's name, modulo
2^64 (a multilinear hash; Carter and Wegman, Universal Classes of Hash Functions, 1979). It depends on neither the
order of the genes nor on anything but their names and counts, and is taken on the genes that two tables share.
"""

import hashlib
from functools import lru_cache

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.section import Section

# A spot with fewer genes could equal another's by chance. Of the 13,620 spots of her2st none with 4 or more equals a
# spot of another section, on all 11,871 genes or on 100 taken at random (benchmarks/duplicates.py).
MIN_GENES = 8
N_SKETCH = 64  # spots kept of a section that only its sketch is remembered of
Sketch = tuple[int, ...]


def hash_spots(section: Section, genes: frozenset[str] | None = None) -> np.ndarray:
    """Return the hashes of the spots that show at least eight genes, sorted, each once, uint64.

    Parameters
    ----------
    section
        With counts.
    genes
        Only these, of which the section must have all; its whole panel by default.

    Examples
    --------
    >>> from anndata import AnnData
    >>> counts = np.arange(40).reshape(4, 10)
    >>> one = Section("s1", "d1", AnnData(layers={"counts": counts}))
    >>> other = Section("x", "y", AnnData(layers={"counts": counts[::-1]}))
    >>> bool((hash_spots(one) == hash_spots(other)).all())
    True
    """
    counts = sparse.csr_matrix(section.table.layers[keys.COUNTS])
    number = np.array([_number(g) if genes is None or g in genes else 0 for g in section.genes], dtype=np.uint64)
    used = (number != 0)[counts.indices] & (counts.data > 0) & np.isfinite(counts.data)
    spot = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[used]
    product = counts.data[used].astype(np.uint64) * number[counts.indices[used]]  # wraps: modulo 2^64
    total = np.zeros(counts.shape[0], dtype=np.uint64)
    np.add.at(total, spot, product)
    return np.unique(total[np.bincount(spot, minlength=counts.shape[0]) >= MIN_GENES])


def shared_share(one: np.ndarray, other: np.ndarray) -> float:
    """Return which share of the smaller section's spots is also in the other, 0 if one has none.

    Examples
    --------
    >>> shared_share(np.array([1, 2, 3, 4], dtype=np.uint64), np.array([3, 9], dtype=np.uint64))
    0.5
    """
    smaller = min(len(one), len(other))
    return len(np.intersect1d(one, other, assume_unique=True)) / smaller if smaller else 0.0


def sketch(hashes: np.ndarray) -> Sketch:
    """Return the 64 lowest hashes: a random sample of spots that any table of the same section would give.

    Broder, On the resemblance and containment of documents, 1997: bottom-k sampling.
    """
    return tuple(int(h) for h in hashes[:N_SKETCH])


def sketch_share(sample: Sketch, n_spots: int, hashes: np.ndarray) -> float:
    """Estimate ``shared_share`` of a section whose sketch was kept and one that is at hand.

    Parameters
    ----------
    sample, n_spots
        From ``sketch``, and how many hashes it was drawn from.
    hashes
        From ``hash_spots`` on the same genes.
    """
    if not sample or not len(hashes):
        return 0.0
    found = np.isin(np.array(sample, dtype=np.uint64), hashes, assume_unique=True).mean()
    return min(1.0, float(found) * n_spots / min(n_spots, len(hashes)))


@lru_cache(maxsize=65536)
def _number(gene: str) -> int:
    """Return the odd random number of a gene's name: odd, so that no count multiplies it to 0."""
    return int.from_bytes(hashlib.blake2b(gene.encode(), digest_size=8).digest(), "little") | 1
