"""Build a frozen gene table of the package from a GENCODE annotation.

    python scripts/build_gene_table.py gencode.v43.basic.annotation.gtf.gz src/hescribe/data/gene_tables/human.parquet

A gene's length is that of the union of the exons of all its transcripts, in base pairs: what
GTFtools (Li, Frontiers in Bioinformatics 2022, doi:10.3389/fbinf.2022.867490) calls "merged".
Copies on the Y side of a pseudoautosomal region have the identifier of the gene on X and are left out.
"""

import argparse
import gzip
import hashlib
import re
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ATTRIBUTE = re.compile(r'(gene_id|gene_type|gene_name) "([^"]*)"')
PAR_Y = "_PAR_Y"


def read_gtf(path: Path) -> tuple[dict[str, dict[str, str]], dict[str, list[tuple[int, int]]], dict[str, str]]:
    """Return facts and exons of every gene by identifier, and the head of the file."""
    genes: dict[str, dict[str, str]] = {}
    exons: dict[str, list[tuple[int, int]]] = defaultdict(list)
    head: dict[str, str] = {}
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("##"):
                key, _, text = line[2:].strip().partition(": ")
                head[key] = text
                continue
            chromosome, _, kind, start, end, _, _, _, rest = line.rstrip("\n").split("\t")
            if kind not in {"gene", "exon"}:
                continue
            facts = dict(ATTRIBUTE.findall(rest))
            if kind == "gene":
                genes[facts["gene_id"]] = {**facts, "chromosome": chromosome}
            else:
                exons[facts["gene_id"]].append((int(start), int(end)))
    return genes, exons, head


def union_length(intervals: list[tuple[int, int]]) -> int:
    """Return the number of positions that at least one interval covers; both ends are inside."""
    total, reached = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached + 1) + 1)
        reached = max(reached, end)
    return total


def to_rows(genes: dict[str, dict[str, str]], exons: dict[str, list[tuple[int, int]]]) -> list[tuple]:
    """Return (gene_id, symbol, length_bp, biotype, chromosome), sorted by identifier."""
    rows = []
    for name, facts in genes.items():
        if name.endswith(PAR_Y):
            continue
        gene_id = name.partition(".")[0]
        rows.append((gene_id, facts["gene_name"], union_length(exons[name]), facts["gene_type"], facts["chromosome"]))
    rows.sort()
    ids = [row[0] for row in rows]
    if len(set(ids)) < len(ids):
        raise SystemExit("the annotation names a gene twice")
    return rows


def main() -> None:
    """Read the annotation and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gtf", type=Path, help="GTF of GENCODE, gzipped or not")
    parser.add_argument("out", type=Path, help="parquet file to write")
    args = parser.parse_args()
    genes, exons, head = read_gtf(args.gtf)
    rows = to_rows(genes, exons)
    names = ("gene_id", "symbol", "length_bp", "biotype", "chromosome")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    table = table.set_column(2, "length_bp", table["length_bp"].cast(pa.int32()))
    table = table.replace_schema_metadata(
        {
            "source": args.gtf.name,
            "sha256": hashlib.sha256(args.gtf.read_bytes()).hexdigest(),
            "description": head.get("description", ""),
            "date": head.get("date", ""),
        }
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, args.out, compression="zstd", compression_level=19)
    n_par = sum(name.endswith(PAR_Y) for name in genes)
    print(f"{args.out}: {len(rows)} genes, {n_par} copies on Y left out, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
