"""Transcripts per million: counts over length, over the genes that are given."""

import numpy as np
import pytest
from scipy import sparse

from hescribe.data.gene_table import find_gene_table, read_gene_table
from hescribe.errors import InputError
from hescribe.prep.tpm import find_lengths, tpm

COUNTS = np.array([[2.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
LENGTHS = np.array([1000.0, 500.0, 250.0])  # rates of the first spot: 2, 2 and 4 per 1,000 bp


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_each_spot_adds_up_to_a_million_in_proportion_to_count_over_length(form):
    expected = [[250_000, 250_000, 500_000], [0, 0, 0], [0, 1_000_000, 0]]
    np.testing.assert_allclose(tpm(form(COUNTS), LENGTHS), expected)


def test_equal_lengths_give_counts_per_million():
    np.testing.assert_allclose(tpm(COUNTS, np.ones(3))[0], [500_000, 250_000, 250_000])


@pytest.mark.parametrize("fault", [0.0, -5.0, np.nan, np.inf])
def test_a_length_that_is_no_length_is_named(fault):
    with pytest.raises(InputError, match="length of gene 1 is no positive number"):
        tpm(COUNTS, np.array([1000.0, fault, 250.0]))


def test_lengths_of_other_genes_are_refused():
    with pytest.raises(InputError, match="3 genes need as many lengths"):
        tpm(COUNTS, LENGTHS[:2])


def test_genes_that_the_table_does_not_have_get_no_length(shallow, lengths):
    found = find_lengths(shallow, read_gene_table(lengths))
    assert set(shallow.genes) - set(found) == {"GENE03"}
    assert found["GENE02"] == 700


def test_genes_of_the_mitochondrion_get_none_on_request(shallow, lengths):
    found = find_lengths(shallow, read_gene_table(lengths), mitochondrial=False)
    assert set(shallow.genes) - set(found) == {"GENE01", "GENE03"}


def test_a_symbol_of_several_genes_gets_no_length(shallow):
    names = {"GENE00": "TBCE", "GENE01": "MT-CO1", "GENE02": "TP53"}  # human; TBCE is two genes

    def rename(section):
        table = section.table[:, list(names)].copy()
        table.var_names = list(names.values())
        return section.with_table(table)

    human, table = shallow.map(rename), find_gene_table("human")
    assert set(find_lengths(human, table)) == {"MT-CO1", "TP53"}
    assert set(find_lengths(human, table, mitochondrial=False)) == {"TP53"}
