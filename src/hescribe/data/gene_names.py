"""Gene identifiers and symbols, mapped offline; what does not map one to one is reported, never merged."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.gene_table import SYMBOL, GeneTable, find_gene_table
from hescribe.data.section import Section
from hescribe.errors import InputError

NameKind = Literal["id", "symbol"]
# With or without version; PAR_Y marks the copy of an X gene on the pseudoautosomal region of Y.
_ENSEMBL = re.compile(r"(ENS[A-Z]*G\d{6,})(\.\d+)?(_PAR_Y)?")


@dataclass(frozen=True)
class GeneMapping:
    """What became of each gene name; those that map one to one are in ``names``, the others are in one list.

    Parameters
    ----------
    names
        New name of each old one, in the order of the old ones.
    ids
        Identifier of each of these, without version.
    unknown
        Old names that the table does not have.
    ambiguous
        Old names that stand for several genes, with these.
    collisions
        New names that several old ones map to, with these.
    """

    names: dict[str, str]
    ids: dict[str, str]
    unknown: tuple[str, ...] = ()
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    collisions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Number of old names without a new one."""
        return len(self.unknown) + len(self.ambiguous) + sum(map(len, self.collisions.values()))

    def __str__(self) -> str:
        """Say it in one line, with the first few names of each kind."""
        parts = [f"{len(self.names)} genes map one to one"]
        for names, what in (
            (self.unknown, "unknown"),
            (tuple(self.ambiguous), "stand for several genes"),
            (tuple(self.collisions), "would be the name of several genes"),
        ):
            if names:
                more = ", ..." if len(names) > 3 else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{more})")
        return "; ".join(parts)


def map_genes(genes: tuple[str, ...], to: NameKind, table: GeneTable) -> GeneMapping:
    """Map gene names to identifiers or to symbols; each name may be either.

    Parameters
    ----------
    genes
        Ensembl identifiers, with or without version, or symbols, in their exact case.
    to
        ``"id"`` (without version) or ``"symbol"``.
    table
        Of the species.

    Examples
    --------
    >>> table = find_gene_table("human")
    >>> print(map_genes(("ENSG00000141510.18", "GAPDH", "Gapdh"), "symbol", table))
    2 genes map one to one; 1 unknown (Gapdh)
    >>> map_genes(("TP53", "TBCE"), "id", table).ambiguous
    {'TBCE': ('ENSG00000284770', 'ENSG00000285053')}
    """
    by_symbol = _ids_by_symbol(table)
    symbols = table.genes[SYMBOL].to_dict()
    unknown: list[str] = []
    ambiguous: dict[str, tuple[str, ...]] = {}
    found: dict[str, str] = {}
    for gene in genes:
        ids = _candidates(gene, symbols, by_symbol)
        if len(ids) > 1:
            ambiguous[gene] = ids
        elif not ids or (to == "symbol" and not symbols[ids[0]]):
            unknown.append(gene)
        else:
            found[gene] = ids[0]
    new_names = {old: gene_id if to == "id" else symbols[gene_id] for old, gene_id in found.items()}
    sources = defaultdict(list)
    for old, new in new_names.items():
        sources[new].append(old)
    collisions = {new: tuple(old) for new, old in sources.items() if len(old) > 1}
    names = {old: new for old, new in new_names.items() if new not in collisions}
    return GeneMapping(names, {old: found[old] for old in names}, tuple(unknown), ambiguous, collisions)


def rename_genes(cohort: Cohort, to: NameKind, table: GeneTable | None = None) -> tuple[Cohort, GeneMapping]:
    """Return the cohort with its genes named by identifier or symbol, and what became of each name.

    Genes that do not map one to one are left out, and the report lists them; the spots' depth stays
    what it was. Identifiers are kept in ``var["gene_id"]``, and where they are known already they
    are used.

    Parameters
    ----------
    cohort
        Its sections' cards name the organism.
    to
        ``"id"`` or ``"symbol"``.
    table
        Genes of the species; None: the frozen table of the organism.

    Raises
    ------
    InputError
        If no gene maps, the sections are of several organisms, or there is no table of theirs.
    """
    table = table or find_gene_table(organism_of(cohort))
    known = stable_ids(cohort)
    mapping = map_genes(tuple(known), to, table)
    if not mapping.names:
        raise InputError(
            f"no gene of cohort {cohort.card.id} is in {table.name} (first: {', '.join(cohort.genes[:3])}); "
            "is it of another organism?"
        )
    mapping = _in_words_of(mapping, known)
    old = list(mapping.names)
    var = pd.DataFrame({keys.GENE_ID: list(mapping.ids.values())}, index=list(mapping.names.values()))

    def rename(section: Section) -> Section:
        cut = section.table[:, old].copy()
        cut.obs[keys.DEPTH] = section.depth
        cut.var = var.copy()
        return section.with_table(cut)

    return cohort.map(rename), mapping


def organism_of(cohort: Cohort) -> str:
    """Return the organism of a cohort's sections.

    Raises
    ------
    InputError
        If they are of several.
    """
    organisms = sorted({s.card.organism for s in cohort})
    if organisms == ["unknown"]:
        return cohort.card.organism
    if len(organisms) > 1:
        raise InputError(f"cohort {cohort.card.id} has sections of {' and '.join(organisms)}; map them one by one")
    return organisms[0]


def stable_ids(cohort: Cohort) -> dict[str, str]:
    """Return the panel by the surest name of each gene: its own identifier in ``var["gene_id"]``, else its name."""
    var, genes = cohort[0].table.var, cohort.genes
    if keys.GENE_ID not in var:
        return {g: g for g in genes}
    ids = var[keys.GENE_ID].astype("string").fillna("")
    shared = ids.duplicated(keep=False).to_numpy()
    surest = [g if not i or twice else str(i) for i, g, twice in zip(ids, genes, shared, strict=True)]
    return dict(zip(surest if len(set(surest)) == len(genes) else genes, genes, strict=True))


def _in_words_of(mapping: GeneMapping, known: dict[str, str]) -> GeneMapping:
    """Return the mapping with the cohort's own names in place of its stable ones."""
    return GeneMapping(
        {known[g]: new for g, new in mapping.names.items()},
        {known[g]: gene_id for g, gene_id in mapping.ids.items()},
        tuple(known[g] for g in mapping.unknown),
        {known[g]: ids for g, ids in mapping.ambiguous.items()},
        {new: tuple(known[g] for g in old) for new, old in mapping.collisions.items()},
    )


def _candidates(gene: str, symbols: dict[str, str], by_symbol: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the identifiers that a name may stand for."""
    match = _ENSEMBL.fullmatch(gene)
    if match:
        return (match[1],) if match[1] in symbols else ()
    return (gene,) if gene in symbols else by_symbol.get(gene, ())


def _ids_by_symbol(table: GeneTable) -> dict[str, tuple[str, ...]]:
    out: dict[str, list[str]] = defaultdict(list)
    for gene_id, symbol in table.genes[SYMBOL].items():
        if symbol:
            out[symbol].append(str(gene_id))
    return {symbol: tuple(sorted(ids)) for symbol, ids in out.items()}
