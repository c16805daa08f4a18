"""Genes that are highly variable in many sections."""

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.errors import InputError
from hescribe.prep import dispersion
from hescribe.prep.dispersion import scaled_dispersion, top_dispersion


def with_values(section, lognorm, counts=None):
    table = section.table.copy()
    table.layers[keys.LOGNORM] = sparse.csr_matrix(np.asarray(lognorm, dtype=np.float32))
    table.layers[keys.COUNTS] = sparse.csr_matrix(np.asarray(lognorm if counts is None else counts) > 0, dtype=np.int32)
    return section.with_table(table)


@pytest.fixture
def bursting(cohort, monkeypatch):
    """Return sections in which two genes burst: GENE2 everywhere, and another one that differs between sections.

    All have one mean, and so one bin, but GENE11, which is almost 0 and stretches the bins.
    """
    monkeypatch.setattr(dispersion, "N_VARIABLE", 2)
    rng = np.random.default_rng(0)

    def plant(section):
        x = rng.uniform(1.9, 2.1, (section.n_spots, 12))
        x[:, 11] = np.arange(section.n_spots) % 2 * 1e-3
        bursts = [2, 4 + int(section.id[1:])]
        x[:, bursts] = (np.arange(section.n_spots) % 2 * np.log(1 + 2 * np.expm1(2.0)))[:, None]
        return with_values(section, x)

    return cohort.map(plant)


def test_genes_variable_in_most_sections_are_taken_first(bursting):
    assert top_dispersion(bursting, 1) == ("GENE2",)
    assert set(top_dispersion(bursting, 7)) == {"GENE2", *(f"GENE{4 + i}" for i in range(6))}


def test_genes_seen_in_few_spots_are_no_candidates(bursting):
    def hide(section):
        counts = np.ones((section.n_spots, 12))
        counts[section.n_spots // 20 :, 2] = 0  # left in 2 of 49 spots
        return with_values(section, section.table.layers[keys.LOGNORM].toarray(), counts)

    assert "GENE2" not in top_dispersion(bursting.map(hide), 12)


def test_spots_that_are_not_kept_do_not_count(bursting):
    """GENE0 bursts more than any other, in the first 16 spots only, and keeps its mean."""

    def spoil(section):
        x = section.table.layers[keys.LOGNORM].toarray()
        x[:14, 0], x[14:16, 0] = 0.0, np.log(1 + 8 * np.expm1(2.0))
        return with_values(section, x)

    spoilt = bursting.map(spoil)
    assert "GENE0" in top_dispersion(spoilt, 7)
    assert "GENE0" not in top_dispersion(spoilt.map(lambda s: s.with_kept(np.arange(s.n_spots) >= 16)), 7)


def test_a_constant_gene_is_never_variable():
    x = np.tile([[0.0, 1.0, 0.5]], (10, 1))
    x[::2, 2] = 2.0
    np.testing.assert_array_equal(scaled_dispersion(sparse.csr_matrix(x)), [-np.inf, -np.inf, 1.0])


def test_a_section_of_one_spot_is_refused(cohort):
    lone = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) == 0))
    with pytest.raises(InputError, match="need at least 2 spots, got 1"):
        top_dispersion(lone, 3)


def test_a_cohort_without_counts_is_refused(cohort):
    empty = cohort.map(lambda s: with_values(s, np.zeros((s.n_spots, 12))))
    with pytest.raises(InputError, match=r"no highly variable gene of cohort .* too sparse"):
        top_dispersion(empty, 3)


def test_number_of_genes_must_be_positive(cohort):
    with pytest.raises(InputError, match="at least 1"):
        top_dispersion(cohort, 0)
