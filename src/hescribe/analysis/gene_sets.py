"""Published sets of genes, and their mean expression in a section."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hescribe.data.gene_names import map_genes
from hescribe.data.gene_table import SPECIES, find_gene_table
from hescribe.data.section import Section
from hescribe.data.toml_file import Record, check_record, load_toml

FEWEST = 2  # genes of a set that must be there: one gene is no set


class GeneSet(Record):
    """Genes that are looked at together.

    Parameters
    ----------
    title
        For people.
    kind
        What the genes tell of.
    organism, organ
        What the set is for; empty if any.
    genes
        Symbols.
    source
        Where the list was published.
    """

    title: str
    kind: Literal["tumour", "immune", "tissue", "own"] = "own"
    organism: str = ""
    organ: str = ""
    genes: tuple[str, ...]
    source: str


@cache
def published_sets() -> dict[str, GeneSet]:
    """Return the sets that ship with the package, by name."""
    text = (files(__package__) / "gene_sets.toml").read_text(encoding="utf-8")
    return _check(tomllib.loads(text), "gene_sets.toml")


def read_gene_sets(path: Path) -> dict[str, GeneSet]:
    """Return the sets of a TOML file: one table for each, with ``title``, ``genes`` and ``source``.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is no TOML.
    SchemaError
        If a set lacks a field or has an unknown one.
    """
    return _check(load_toml(path), str(path))


def find_sets(section: Section, sets: Mapping[str, GeneSet]) -> dict[str, tuple[str, ...]]:
    """Return for each set the genes that a section's panel has, under the panel's names for them.

    Sets for another organism or organ are left out, and those of which the panel has fewer than two genes. Ensembl
    identifiers are understood where the section's organism has a gene table.
    """
    there = _by_symbol(section)
    meant = {
        name: s for name, s in sets.items()
        if _fits(s.organism, section.card.organism) and _fits(s.organ, section.card.organ)
    }  # fmt: skip
    found = {name: tuple(there[g] for g in s.genes if g in there) for name, s in meant.items()}
    return {name: present for name, present in found.items() if len(present) >= FEWEST}


def set_expression(values: np.ndarray, columns: list[int]) -> np.ndarray:
    """Return the mean over genes of standardised expression, so that no gene counts for more than another.

    Parameters
    ----------
    values
        Shape ``(n_spots, n_genes)``.
    columns
        Of the set's genes. One that is constant adds nothing.

    Returns
    -------
    Shape ``(n_spots,)``.

    Examples
    --------
    >>> set_expression(np.array([[0.0, 5.0], [2.0, 5.0]]), [0, 1]).tolist()
    [-0.5, 0.5]
    """
    x = values[:, columns].astype(np.float64)
    sd = x.std(axis=0)
    return ((x - x.mean(axis=0)) / np.where(sd > 0, sd, 1.0)).mean(axis=1)


def _by_symbol(section: Section) -> dict[str, str]:
    """Return the panel's names by symbol."""
    organism = section.card.organism.strip().lower()
    if organism not in SPECIES or not any(g.startswith("ENS") for g in section.genes):
        return {g: g for g in section.genes}
    names = map_genes(section.genes, "symbol", find_gene_table(organism)).names
    return {symbol: gene for gene, symbol in names.items()}


def _fits(wanted: str, there: str) -> bool:
    names = [SPECIES.get(name.strip().lower(), name.strip().lower()) for name in (wanted, there)]
    return not wanted or names[1] in {names[0], "unknown", "none"}


def _check(content: dict[str, Any], where: str) -> dict[str, GeneSet]:
    return {name: check_record(table, GeneSet, f"{where}, {name}") for name, table in content.items()}
