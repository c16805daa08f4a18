import numpy as np
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.data.section import Section
from hescribe.data.spot_hash import N_SKETCH, hash_spots, shared_share, sketch, sketch_share

GENES = [f"GENE{i}" for i in range(20)]


def section_of(counts, genes=GENES, name="s1"):
    table = AnnData(layers={keys.COUNTS: np.asarray(counts)})
    table.var_names = genes
    return Section(name, "d1", table)


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(3, (40, 20))


def test_order_of_spots_and_of_genes_does_not_matter(counts):
    rng = np.random.default_rng(1)
    spots, genes = rng.permutation(40), rng.permutation(20)
    turned = section_of(counts[spots][:, genes], [GENES[g] for g in genes])
    np.testing.assert_array_equal(hash_spots(turned), hash_spots(section_of(counts)))


def test_one_count_more_or_another_gene_name_changes_the_hash(counts):
    before = hash_spots(section_of(counts))
    more = counts.copy()
    more[3, 4] += 1
    assert len(np.setdiff1d(hash_spots(section_of(more)), before)) == 1
    renamed = hash_spots(section_of(counts, [*GENES[:-1], "OTHER"]))
    assert np.isin(renamed, before).sum() == (counts[:, -1] == 0).sum()  # who has no count of it is the same


def test_two_panels_are_compared_on_the_genes_they_share(counts):
    common = frozenset(GENES[:12])
    small = section_of(counts[:, :12][:, ::-1], GENES[:12][::-1])
    np.testing.assert_array_equal(hash_spots(small, common), hash_spots(section_of(counts), common))
    assert shared_share(hash_spots(small), hash_spots(section_of(counts))) == 0.0


def test_spots_with_fewer_than_eight_genes_are_not_hashed():
    counts = np.zeros((2, 20), dtype=int)
    counts[0, :7], counts[1, :8] = 5, 5
    assert len(hash_spots(section_of(counts))) == 1


def test_the_share_is_that_of_the_smaller_section(counts):
    whole, part = hash_spots(section_of(counts)), hash_spots(section_of(counts[:10]))
    assert shared_share(whole, part) == shared_share(part, whole) == 1.0
    other = hash_spots(section_of(np.vstack([counts[:5], counts[:15] + 1])))
    assert shared_share(whole, other) == 0.25
    assert shared_share(whole, whole[:0]) == 0.0


def test_a_transposed_table_shares_nothing(counts):
    square = counts[:20]
    assert shared_share(hash_spots(section_of(square)), hash_spots(section_of(square.T))) == 0.0


@pytest.mark.parametrize(("n_kept", "expected"), [(500, 1.0), (250, 1.0), (60, 1.0)])
def test_a_sketch_finds_a_section_of_which_spots_were_dropped(n_kept, expected):
    counts = np.random.default_rng(2).poisson(3, (500, 20))
    whole = hash_spots(section_of(counts))
    sample = sketch(whole)
    assert len(sample) == N_SKETCH
    part = hash_spots(section_of(counts[:n_kept]))
    assert sketch_share(sample, len(whole), part) == pytest.approx(expected, abs=0.35)
    assert sketch_share(sample, len(whole), hash_spots(section_of(counts + 1))) == 0.0


def test_values_that_are_no_counts_are_passed_over(counts):
    wrong = counts.astype(float)
    wrong[0, 0], wrong[1, 0] = np.inf, np.nan
    assert len(hash_spots(section_of(wrong))) == 40
