"""Gene tables: identifier, symbol, length and kind of every gene of a genome, offline.

The frozen ones are the public facts of GENCODE's basic annotation (Frankish et al., GENCODE 2021,
Nucleic Acids Research, doi:10.1093/nar/gkaa1087), built by ``scripts/build_gene_table.py``: v43 for
human and vM33 for mouse, the releases that SpaRED takes its lengths from. Lengths are those of GTFtools
for all genes that it lists; it leaves out the 37 of each mitochondrial chromosome.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from hescribe.data.untrusted import check_parquet, named_damage
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError

FOLDER = Path(__file__).parent / "gene_tables"
SPECIES = {"homo sapiens": "human", "human": "human", "mus musculus": "mouse", "mouse": "mouse"}
MITOCHONDRIAL = frozenset({"chrM", "chrMT", "MT", "M"})  # names of that chromosome

GENE_ID, SYMBOL, LENGTH = "gene_id", "symbol", "length_bp"  # columns of a table; the others may be absent
BIOTYPE, CHROMOSOME = "biotype", "chromosome"


@dataclass(frozen=True)
class GeneTable:
    """Facts about the genes of one species.

    Parameters
    ----------
    genes
        One row a gene, indexed by identifier without version; columns ``symbol``, ``length_bp`` (union
        of the exons of all transcripts, base pairs; NaN if unknown), ``biotype`` and ``chromosome``
        (empty if unknown).
    source
        Where it comes from, with what identifies the file.
    """

    genes: pd.DataFrame
    source: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The source, for people."""
        return self.source.get("source", "gene table")


@cache
def find_gene_table(organism: str) -> GeneTable:
    """Return the frozen table of a species.

    Parameters
    ----------
    organism
        ``"Homo sapiens"``, ``"human"``, ``"Mus musculus"`` or ``"mouse"``, in any case.

    Raises
    ------
    InputError
        If there is none for it.

    Examples
    --------
    >>> table = find_gene_table("human")
    >>> table.genes.loc["ENSG00000111640", ["symbol", "biotype"]].tolist()
    ['GAPDH', 'protein_coding']
    >>> table.source["source"]
    'gencode.v43.basic.annotation.gtf.gz'
    """
    species = SPECIES.get(organism.strip().lower())
    if species is None:
        raise InputError(
            f"there is no gene table for the organism {organism!r}, only for Homo sapiens and Mus musculus; "
            "give one of your own with read_gene_table(path), or --gene-table"
        )
    return read_gene_table(FOLDER / f"{species}.parquet")


def read_gene_table(path: Path) -> GeneTable:
    """Read a gene table from parquet, CSV (comma) or TSV (tab).

    Parameters
    ----------
    path
        File with the columns ``gene_id`` and ``length_bp``; ``symbol``, ``biotype`` and
        ``chromosome`` may be absent. Versions of identifiers are taken off.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is none of the formats, or damaged.
    SchemaError
        If a column is missing, an identifier is missing or named twice, or a length is not positive:
        all problems with their place.
    """
    path = Path(path)
    raw, source = _read_columns(path)
    there = ", ".join(map(str, raw.columns))
    problems = [f"column {c} is missing; it has {there}" for c in (GENE_ID, LENGTH) if c not in raw.columns]
    if problems or raw.empty:
        raise SchemaError(str(path), problems or ["it has no row"])
    ids = raw[GENE_ID].fillna("").astype(str).str.strip().str.replace(r"\.\d+$", "", regex=True)
    length = pd.to_numeric(raw[LENGTH], errors="coerce")
    wrong = raw[LENGTH].notna() & ~(length > 0)
    problems += [f"row {i + 1} has no gene_id" for i in ids.index[ids == ""][:5]]
    problems += [f"gene {g} is named {n} times" for g, n in ids[ids != ""].value_counts().items() if n > 1][:5]
    problems += [f"gene {ids[i]} has the length {raw[LENGTH][i]}, no positive number" for i in ids.index[wrong][:5]]
    if problems:
        raise SchemaError(str(path), problems)
    columns: dict[str, pd.Series | str] = {LENGTH: length}
    for name in (SYMBOL, BIOTYPE, CHROMOSOME):
        columns[name] = raw[name].fillna("").astype(str) if name in raw else ""
    genes = pd.DataFrame(columns)
    return GeneTable(genes.set_index(pd.Index(ids, name=GENE_ID)), source)


def _read_columns(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    separator = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".parquet": ""}.get(path.suffix)
    if separator is None:
        raise FormatError(f"{path} is no gene table: it must end with .parquet, .csv, .tsv or .txt (tabs)")
    if not path.is_file():
        raise DataAccessError(f"gene table {path} does not exist")
    what = "is no readable gene table"
    with named_damage(path, what):
        if separator:
            return pd.read_csv(path, sep=separator, dtype={GENE_ID: str, SYMBOL: str}), {"source": path.name}
        check_parquet(path, what=what)
        table = pq.read_table(path)
        facts = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
        return table.to_pandas(), {"source": path.name, **facts}
