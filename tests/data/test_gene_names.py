"""Names of genes map one to one or are reported; nothing is merged in silence."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.data.folder import read_cohort
from hescribe.data.gene_names import map_genes, rename_genes
from hescribe.data.gene_table import find_gene_table, read_gene_table
from hescribe.data.importing import import_cohort
from hescribe.errors import InputError

# Symbol TWIN stands for two genes; E4 has no symbol; E5 and E6 are two identifiers of one symbol's worth.
TABLE = """gene_id\tsymbol\tlength_bp
ENSG00000001\tONE\t10
ENSG00000002\tTWIN\t10
ENSG00000003\tTWIN\t10
ENSG00000004\t\t10
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("genes") / "table.tsv"
    path.write_text(TABLE)
    return read_gene_table(path)


def renamed(cohort, names, *, ids=None):
    """Return the cohort with its first genes called otherwise, on a panel of these alone."""

    def change(section):
        new = section.table[:, : len(names)].copy()
        new.obs[keys.DEPTH] = section.depth
        new.var_names = list(names)
        if ids is not None:
            new.var[keys.GENE_ID] = ids
        return replace(section, table=new, card=replace(section.card, organism="Homo sapiens"))

    return cohort.map(change)


def test_versions_do_not_matter_and_symbols_are_found(table):
    mapping = map_genes(("ENSG00000001.7", "ONE"), "id", table)
    assert mapping.collisions == {"ENSG00000001": ("ENSG00000001.7", "ONE")}
    assert map_genes(("ENSG00000001.7",), "symbol", table).names == {"ENSG00000001.7": "ONE"}
    assert map_genes(("ONE",), "id", table).names == {"ONE": "ENSG00000001"}


def test_a_symbol_of_several_genes_is_ambiguous(table):
    mapping = map_genes(("TWIN", "ONE"), "id", table)
    assert mapping.ambiguous == {"TWIN": ("ENSG00000002", "ENSG00000003")}
    assert mapping.names == {"ONE": "ENSG00000001"}


def test_two_genes_that_would_get_one_symbol_both_stay_out(table):
    mapping = map_genes(("ENSG00000002", "ENSG00000003"), "symbol", table)
    assert mapping.collisions == {"TWIN": ("ENSG00000002", "ENSG00000003")}
    assert mapping.names == {}
    assert mapping.n_left_out == 2


def test_unknown_names_and_genes_without_a_symbol_are_listed(table):
    assert map_genes(("one", "ENSG00000009", "ENSG00000004"), "symbol", table).unknown == (
        "one",
        "ENSG00000009",
        "ENSG00000004",
    )
    assert map_genes(("ENSG00000004",), "id", table).unknown == ()


def test_a_copy_on_the_y_side_of_a_pseudoautosomal_region_is_not_added_to_the_gene_on_x():
    human = find_gene_table("human")
    both = ("ENSG00000182378.15", "ENSG00000182378.15_PAR_Y")
    assert map_genes(both, "symbol", human).collisions == {"PLCXD1": both}
    assert map_genes(both[1:], "symbol", human).names == {both[1]: "PLCXD1"}


def test_the_report_says_it_in_one_line(table):
    text = str(map_genes(("ONE", "TWIN", "NO"), "id", table))
    assert text == "1 genes map one to one; 1 unknown (NO); 1 stand for several genes (TWIN)"


def test_a_cohort_keeps_counts_order_and_depth_of_the_genes_that_map(raw_cohort, table):
    cohort = renamed(raw_cohort, ("NO", "ENSG00000001.2", "ENSG00000002"))
    new, mapping = rename_genes(cohort, "symbol", table)
    assert new.genes == ("ONE", "TWIN")
    assert mapping.unknown == ("NO",)
    np.testing.assert_array_equal(new.stack(keys.COUNTS), cohort.stack(keys.COUNTS)[:, 1:])
    np.testing.assert_array_equal(new[0].depth, cohort[0].depth)
    assert new[0].table.var[keys.GENE_ID].tolist() == ["ENSG00000001", "ENSG00000002"]
    assert cohort.genes == ("NO", "ENSG00000001.2", "ENSG00000002")


def test_known_identifiers_resolve_what_the_symbol_alone_would_not(raw_cohort, table):
    cohort = renamed(raw_cohort, ("TWIN", "other"), ids=["ENSG00000003.1", "ENSG00000001"])
    new, mapping = rename_genes(cohort, "id", table)
    assert new.genes == ("ENSG00000003", "ENSG00000001")
    assert mapping.names == {"TWIN": "ENSG00000003", "other": "ENSG00000001"}


def test_a_gene_without_an_identifier_of_its_own_goes_by_its_name(raw_cohort, table):
    cohort = renamed(raw_cohort, ("ONE", "b", "c"), ids=["", "ENSG00000002", None])
    assert rename_genes(cohort, "id", table)[1].names == {"ONE": "ENSG00000001", "b": "ENSG00000002"}
    twice = renamed(raw_cohort, ("ONE", "b"), ids=["ENSG00000002", "ENSG00000002"])
    assert rename_genes(twice, "id", table)[1].names == {"ONE": "ENSG00000001"}


def test_names_there_and_back_are_the_same(raw_cohort):
    cohort = renamed(raw_cohort, ("ENSG00000141510", "ENSG00000111640", "ENSG00000075624"))
    symbols, _ = rename_genes(cohort, "symbol")
    assert symbols.genes == ("TP53", "GAPDH", "ACTB")
    assert rename_genes(symbols, "id")[0].genes == cohort.genes


def test_genes_of_another_organism_are_refused(raw_cohort):
    cohort = renamed(raw_cohort, ("ENSMUSG00000064351", "Xkr4"))
    with pytest.raises(InputError, match=r"no gene of cohort colour is in gencode\.v43.*another organism"):
        rename_genes(cohort, "symbol")


def test_sections_of_two_organisms_are_refused(raw_cohort):
    cohort = renamed(raw_cohort, ("TP53",))
    first = replace(cohort[0], card=replace(cohort[0].card, organism="Mus musculus"))
    with pytest.raises(InputError, match="Homo sapiens and Mus musculus"):
        rename_genes(replace(cohort, sections=(first, *cohort[1:])), "id")


@pytest.mark.real
def test_the_mouse_sections_with_ensembl_names_get_symbols(shared_data, tmp_path):
    import_cohort(shared_data / "stutility_mob", "st", tmp_path / "mob", card="stutility_mob")
    cohort = read_cohort(tmp_path / "mob")
    symbols, mapping = rename_genes(cohort, "symbol")
    assert len(cohort.genes) == 1000
    assert len(mapping.names) + mapping.n_left_out == 1000
    assert len(mapping.names) > 950
    assert "Penk" in symbols.genes or "Pcp4" in symbols.genes
    kept = [cohort.genes.index(old) for old in mapping.names]
    np.testing.assert_array_equal(symbols[0].layer(keys.COUNTS), cohort[0].layer(keys.COUNTS)[:, kept])
