"""Gene sets: those that ship have a source; those of a user are checked."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe.analysis.gene_sets import GeneSet, find_sets, published_sets, read_gene_sets, set_expression
from hescribe.data.gene_table import find_gene_table
from hescribe.errors import DataAccessError, FormatError, SchemaError


@pytest.mark.parametrize("name", list(published_sets()))
def test_every_published_set_names_its_source_and_no_gene_twice(name):
    gene_set = published_sets()[name]
    assert "doi:" in gene_set.source or "bbae551" in gene_set.source or "NeurIPS" in gene_set.source
    assert len(set(gene_set.genes)) == len(gene_set.genes) >= 3


@pytest.mark.parametrize("name", list(published_sets()))
def test_every_published_gene_is_known_by_that_name(name):
    gene_set = published_sets()[name]
    assert set(gene_set.genes) <= set(find_gene_table(gene_set.organism).genes["symbol"])


def test_sets_are_found_by_name_and_need_two_genes(cohort):
    sets = {
        "two": GeneSet(title="two", genes=("GENE3", "GENE1", "NOPE"), source="x"),
        "one": GeneSet(title="one", genes=("GENE3", "NOPE"), source="x"),
    }
    assert find_sets(cohort[0], sets) == {"two": ("GENE3", "GENE1")}


def test_ensembl_identifiers_are_found_by_the_sets_symbols(cohort):
    """ENSG00000141736 is ERBB2, ENSG00000141738 GRB7; a panel of a species without a table keeps its names."""
    table = cohort[0].table[:, :3].copy()
    table.var_names = ["ENSG00000141736.14", "GENE1", "ENSG00000141738"]
    human = replace(cohort[0], table=table, card=replace(cohort[0].card, organism="Homo sapiens"))
    assert find_sets(human, published_sets()) == {"her2_amplicon": ("ENSG00000141736.14", "ENSG00000141738")}
    assert find_sets(replace(human, card=replace(human.card, organism="Danio rerio")), published_sets()) == {}


def test_sets_of_another_organism_or_organ_are_left_out(cohort):
    section = replace(cohort[0], card=replace(cohort[0].card, organism="Mus musculus", organ="brain"))
    wanted = {"organism": ["Homo sapiens", "mouse", ""], "organ": ["liver", "brain", ""]}
    sets = {
        f"{field} {value}": GeneSet(title="x", genes=("GENE0", "GENE1"), source="x", **{field: value})
        for field, values in wanted.items()
        for value in values
    }
    assert set(find_sets(section, sets)) == {"organism mouse", "organism ", "organ brain", "organ "}


def test_no_gene_of_a_set_counts_for_more_than_another():
    values = np.array([[0.0, 100.0], [1.0, 0.0], [2.0, 50.0]])
    np.testing.assert_allclose(set_expression(values, [0, 1]), [0.0, -np.sqrt(1.5) / 2, np.sqrt(1.5) / 2], atol=1e-12)


def test_a_users_sets_are_read(tmp_path):
    file = tmp_path / "sets.toml"
    file.write_text('[mine]\ntitle = "Mine"\ngenes = ["A", "B"]\nsource = "my notebook"\n')
    assert read_gene_sets(file)["mine"].genes == ("A", "B")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('[mine]\ntitle = "Mine"\n', SchemaError, "genes"),
        ('[mine]\ntitle = "Mine"\ngenes = ["A"]\nsource = "x"\ncolour = "red"\n', SchemaError, "colour"),
        ("[mine\n", FormatError, "is not TOML"),
    ],
)
def test_bad_sets_name_their_fault(tmp_path, text, error, message):
    file = tmp_path / "sets.toml"
    file.write_text(text)
    with pytest.raises(error, match=message):
        read_gene_sets(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataAccessError, match=r"none\.toml cannot be read"):
        read_gene_sets(tmp_path / "none.toml")
