"""Gene tables: frozen facts of GENCODE, tables of the user's own, and the script that builds the first."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from hescribe.data.gene_table import find_gene_table, read_gene_table
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_gene_table.py"

# Exons of G1: 100-199 and 150-249 of two transcripts, and 400-409: 150 + 10 positions. G2: 5 on chrM.
GTF = "\n".join(
    [
        "##description: a small genome",
        "##date: 2024-01-01",
        *(
            "\t".join((chrom, "HAVANA", kind, str(start), str(end), ".", "+", ".", f'gene_id "{gene}"; {rest}'))
            for chrom, kind, start, end, gene, rest in (
                ("chrX", "gene", 100, 409, "ENSG01.3", 'gene_type "protein_coding"; gene_name "ONE"; level 2;'),
                ("chrX", "transcript", 100, 409, "ENSG01.3", 'gene_name "ONE";'),
                ("chrX", "exon", 100, 199, "ENSG01.3", 'transcript_id "T1";'),
                ("chrX", "exon", 400, 409, "ENSG01.3", 'transcript_id "T1";'),
                ("chrX", "exon", 150, 249, "ENSG01.3", 'transcript_id "T2";'),
                ("chrX", "CDS", 1, 99, "ENSG01.3", 'transcript_id "T2";'),
                ("chrY", "gene", 100, 409, "ENSG01.3_PAR_Y", 'gene_type "protein_coding"; gene_name "ONE";'),
                ("chrY", "exon", 100, 199, "ENSG01.3_PAR_Y", 'transcript_id "T1_PAR_Y";'),
                ("chrM", "gene", 1, 5, "ENSG02.1", 'gene_type "Mt_tRNA"; gene_name "MT-T";'),
                ("chrM", "exon", 1, 5, "ENSG02.1", 'transcript_id "T3";'),
            )
        ),
    ]
)


@pytest.fixture
def write(tmp_path):
    def run(text, name="genes.tsv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return run


@pytest.mark.parametrize(
    ("organism", "gene", "facts"),
    [  # lengths: column "merged" of GTFtools on the same annotation, as the spared package ships it
        ("human", "ENSG00000223972", ("DDX11L1", 632, "transcribed_unprocessed_pseudogene", "chr1")),
        ("Homo sapiens", "ENSG00000227232", ("WASH7P", 1351, "unprocessed_pseudogene", "chr1")),
        ("mouse", "ENSMUSG00000051951", ("Xkr4", 3634, "protein_coding", "chr1")),
        ("Mus musculus", "ENSMUSG00000064351", ("mt-Co1", 1545, "protein_coding", "chrM")),  # GTFtools has no chrM
    ],
)
def test_frozen_tables_hold_the_facts_of_gencode(organism, gene, facts):
    genes = find_gene_table(organism).genes
    assert tuple(genes.loc[gene, ["symbol", "length_bp", "biotype", "chromosome"]]) == facts


def test_frozen_tables_say_what_they_were_built_from():
    source = find_gene_table("human").source
    assert source["source"] == "gencode.v43.basic.annotation.gtf.gz"
    assert source["sha256"].startswith("94890362c4ab7f99")
    assert "version 43" in source["description"]
    assert "M33" in find_gene_table("mouse").source["description"]


def test_an_organism_without_a_table_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"'Danio rerio'.*read_gene_table"):
        find_gene_table("Danio rerio")


@pytest.mark.skipif(not SCRIPT.exists(), reason="scripts are in the checkout only")
def test_the_script_builds_a_table_whose_lengths_are_exon_unions(write, tmp_path, monkeypatch, capsys):
    gtf, out = write(GTF, "small.gtf"), tmp_path / "out.parquet"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(gtf), str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "2 genes, 1 copies on Y left out" in capsys.readouterr().out
    table = read_gene_table(out)
    assert table.genes["length_bp"].to_dict() == {"ENSG01": 160, "ENSG02": 5}
    assert table.genes["symbol"].to_dict() == {"ENSG01": "ONE", "ENSG02": "MT-T"}
    assert table.genes["chromosome"].tolist() == ["chrX", "chrM"]
    assert table.source["source"] == "small.gtf"
    assert table.source["date"] == "2024-01-01"
    assert len(table.source["sha256"]) == 64


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", "\t")])
def test_a_table_of_the_users_own_needs_identifiers_and_lengths_only(write, name, separator):
    path = write(f"length_bp{separator}gene_id\n10{separator}ENSG1.2\n{separator}ENSG2\n", name)
    genes = read_gene_table(path).genes
    assert genes.index.tolist() == ["ENSG1", "ENSG2"]
    assert genes["length_bp"].iloc[0] == 10
    assert pd.isna(genes["length_bp"].iloc[1])
    assert genes["symbol"].tolist() == ["", ""]


def test_all_problems_of_a_table_are_named_with_their_place(write):
    path = write("gene_id\tlength_bp\nA\t5\nA\t6\nB\t-1\nC\tlong\n\t3\n")
    with pytest.raises(SchemaError) as caught:
        read_gene_table(path)
    assert caught.value.problems == [
        "row 5 has no gene_id",
        "gene A is named 2 times",
        "gene B has the length -1, no positive number",
        "gene C has the length long, no positive number",
    ]


def test_versions_that_make_two_rows_one_gene_are_duplicates(write):
    with pytest.raises(SchemaError, match="gene ENSG1 is named 2 times"):
        read_gene_table(write("gene_id\tlength_bp\nENSG1.1\t5\nENSG1.2\t6\n"))


def test_missing_columns_and_empty_tables_are_named(write):
    with pytest.raises(SchemaError, match="column length_bp is missing; it has gene_id, length"):
        read_gene_table(write("gene_id\tlength\nA\t5\n"))
    with pytest.raises(SchemaError, match="no row"):
        read_gene_table(write("gene_id\tlength_bp\n"))


def test_files_that_are_no_table_are_refused(write, tmp_path):
    with pytest.raises(DataAccessError, match=r"no.tsv does not exist"):
        read_gene_table(tmp_path / "no.tsv")
    with pytest.raises(FormatError, match="must end with"):
        read_gene_table(write("x", "genes.gtf"))
    with pytest.raises(FormatError, match="no readable gene table"):
        read_gene_table(write("x", "genes.parquet"))
    with pytest.raises(FormatError, match="no readable gene table"):
        read_gene_table(write("", "genes.csv"))
