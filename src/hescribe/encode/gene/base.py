"""What an encoder of expression is, where they are registered, and how genes find their place in its vocabulary."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.cards import GeneEncoderCard
from hescribe.data.cohort import Cohort
from hescribe.data.gene_names import NameKind, map_genes
from hescribe.data.gene_table import find_gene_table
from hescribe.data.section import Section
from hescribe.errors import InputError, PanelError
from hescribe.prep.counts import are_counts
from hescribe.registry import Registry

MIN_COVERAGE = 0.5  # share of the panel; with less an embedding says little of what was measured
_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}")


@dataclass(frozen=True)
class Coverage:
    """Which genes of a panel an encoder knows.

    Parameters
    ----------
    genes
        The panel.
    columns
        Positions of the known ones in the panel, shape ``(n_known,)``.
    places
        Their positions in the encoder's vocabulary, same shape; no two are the same.
    """

    genes: tuple[str, ...]
    columns: np.ndarray
    places: np.ndarray

    @property
    def share(self) -> float:
        """Share of the panel that is known."""
        return len(self.columns) / len(self.genes)

    @property
    def missing(self) -> tuple[str, ...]:
        """Genes that the encoder does not know; their counts are not read."""
        known = set(self.columns.tolist())
        return tuple(g for i, g in enumerate(self.genes) if i not in known)

    def __str__(self) -> str:
        """Say it in one line, with the first few missing genes."""
        names = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
        rest = f"; unknown: {names}" if self.missing else ""
        return f"{len(self.columns)} of {len(self.genes)} genes known ({self.share:.0%}){rest}"


@runtime_checkable
class GeneEncoder(Protocol):
    """Turns raw counts into vectors. A registered encoder is a keyword-only dataclass with ``Params``.

    An embedding depends on the fit, and on the counts of its own spot: neither on other spots nor on the order of
    genes, which are found by name.
    """

    name: ClassVar[str]

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        ...

    def fit(self, train: Cohort) -> Self:
        """Learn from the counts of the kept spots of a train cohort, or load weights and check that they fit it.

        Raises
        ------
        PanelError
            If the encoder knows less than half of the panel.
        """
        ...

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return which genes of a panel the fitted encoder knows.

        Raises
        ------
        PanelError
            If it is less than half of them.
        """
        ...

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return one vector a spot; scaling the counts is the encoder's own business.

        Parameters
        ----------
        counts
            Raw counts, shape ``(n_spots, n_genes)``.
        genes
            Their names, in the order of the columns.

        Returns
        -------
        Shape ``(n_spots, card.n_dims)`` float32.

        Raises
        ------
        InputError
            If they are no counts, or not one column a gene.
        PanelError
            If the encoder knows less than half of the genes.
        """
        ...

    def get_params(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        ...


gene_encoders: Registry[GeneEncoder] = Registry("gene encoder", "hescribe.encode.gene")


def check_counts(counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
    """Return raw counts as float32.

    Parameters
    ----------
    counts
        Shape ``(n_spots, n_genes)``.
    genes
        Names of the columns.

    Raises
    ------
    InputError
        If there is not one column a gene, a gene is named twice, or a value is no count.

    Examples
    --------
    >>> check_counts(np.array([[3, 0]]), ("A", "B"))
    array([[3., 0.]], dtype=float32)
    """
    if getattr(counts, "ndim", 0) != 2 or counts.shape[1] != len(genes):
        raise InputError(
            f"counts have shape {np.shape(counts)}, expected (n_spots, {len(genes)}): one column for each of "
            f"{len(genes)} genes; the table may be transposed"
        )
    if len(set(genes)) < len(genes):
        raise InputError(f"gene {next(g for g in genes if genes.count(g) > 1)} is named twice; merge its columns first")
    if not are_counts(counts):
        wrong = ~((counts >= 0) & (np.floor(counts) == counts) & np.isfinite(counts))
        spot, gene = np.argwhere(wrong)[0]
        raise InputError(
            f"spot {spot} has the value {counts[spot, gene]:g} for {genes[gene]}, which is no count (a whole number, 0 "
            "or more); an encoder scales raw counts itself"
        )
    return np.asarray(counts, dtype=np.float32)


def find_genes(genes: tuple[str, ...], vocabulary: Sequence[str], *, encoder: str, organism: str = "") -> Coverage:
    """Return where the genes of a panel stand in a vocabulary.

    Parameters
    ----------
    genes
        The panel.
    vocabulary
        Gene names, in the encoder's order.
    encoder
        Its name, for the message.
    organism
        If given, a gene that the vocabulary does not name alike is looked up under its other name, identifier or
        symbol, in the frozen table of the species. Of several genes with one place none takes it.

    Raises
    ------
    PanelError
        If less than half of the panel is found; the message says how much and names some that are not.

    Examples
    --------
    >>> found = find_genes(("TP53", "ACTB", "X"), ("ENSG00000075624", "ENSG00000141510"), encoder="e", organism="human")
    >>> found.columns.tolist(), found.places.tolist(), found.missing
    ([0, 1], [1, 0], ('X',))
    """
    place = {name: i for i, name in enumerate(vocabulary)}
    names = {gene: gene for gene in genes}
    if organism and (others := tuple(g for g in genes if g not in place)):
        kind: NameKind = "id" if _ENSEMBL.fullmatch(next(iter(vocabulary), "")) else "symbol"
        names |= map_genes(others, kind, find_gene_table(organism)).names
    places = np.array([place.get(names[gene], -1) for gene in genes], dtype=np.int64)
    _, which, n_wanting = np.unique(places, return_inverse=True, return_counts=True)
    columns = np.flatnonzero((places >= 0) & (n_wanting[which] == 1))
    found = Coverage(genes, columns, places[columns])
    if not genes or found.share < MIN_COVERAGE:
        some = f": {found}" if genes else ", which is empty"
        raise PanelError(
            f"gene encoder {encoder} knows less than half of the panel{some}; choose another encoder, or check the "
            "organism and how genes are named"
        )
    return found


def stack_counts(train: Cohort) -> np.ndarray:
    """Return the raw counts of the kept spots of a cohort, shape ``(n_spots, n_genes)`` float32.

    Raises
    ------
    InputError
        If no spot is kept, or a section has no raw counts; the message names it.
    """
    parts = [_counts(section)[section.kept] for section in train]
    counts = np.concatenate(parts)
    if not len(counts):
        raise InputError("no spot of the train cohort is kept; there is nothing to learn from")
    return check_counts(counts, train.genes)


def donors_of(train: Cohort) -> tuple[str, ...]:
    """Return the donors of a cohort as ``cohort/donor``: what a fitted encoder remembers, so that no test has them."""
    return tuple(f"{train.card.id}/{donor}" for donor in train.donors)


def encode_section(encoder: GeneEncoder, section: Section) -> np.ndarray:
    """Return the embedding of every spot of a section by its counts, shape ``(n_spots, n_dims)`` float32.

    Raises
    ------
    InputError
        If the section has no raw counts.
    """
    return encoder.encode(_counts(section), section.genes)


def _counts(section: Section) -> np.ndarray:
    if keys.COUNTS not in section.table.layers:
        raise InputError(f"section {section.id} has no layer {keys.COUNTS!r}; gene encoders read raw counts")
    layer = section.table.layers[keys.COUNTS]
    return np.asarray(layer.toarray() if sparse.issparse(layer) else layer)
