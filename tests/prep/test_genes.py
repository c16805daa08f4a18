"""Gene choice sees the train donors only; panels are matched by name."""

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.errors import InputError, PanelError
from hescribe.prep.genes import morans_i, to_panel, top_moran, top_variance
from hescribe.prep.graph import spot_graph


def with_layer(section, values):
    table = section.table.copy()
    table.layers[keys.LOGNORM] = np.asarray(values, dtype=np.float32)
    return section.with_table(table)


def test_panel_is_matched_by_name_not_by_position(cohort):
    section = cohort[0]
    shuffled = section.with_table(section.table[:, ::-1].copy())
    back = to_panel(shuffled, section.genes)
    np.testing.assert_array_equal(back.layer(keys.COUNTS), section.layer(keys.COUNTS))


def test_missing_genes_are_named(cohort):
    with pytest.raises(PanelError, match="section s0 lacks 2 of 3 genes: NOPE1, NOPE2"):
        to_panel(cohort[0], ("GENE1", "NOPE1", "NOPE2"))


def test_variance_between_donors_does_not_count(cohort):
    values = [np.zeros((s.n_spots, 12)) for s in cohort]
    for section, v in zip(cohort, values, strict=True):
        v[:, 0] = 10 * cohort.donors.index(section.donor)  # differs between donors only
        v[:, 5] = np.arange(section.n_spots) % 2  # varies inside
    changed = cohort.where(lambda s: True).map(lambda s: with_layer(s, values[int(s.id[1:])]))
    assert top_variance(changed, 1) == ("GENE5",)


def test_donors_weigh_equally_whatever_their_number_of_sections(cohort):
    sections = [with_layer(s, np.zeros((s.n_spots, 12))) for s in cohort]
    for s in sections:
        alternating = np.arange(s.n_spots) % 2
        s.table.layers[keys.LOGNORM][:, 0 if s.donor == "D0" else 1] = alternating * (1.2 if s.donor == "D0" else 1.0)
    three = cohort.where(lambda s: s.id in {"s0", "s2", "s3"})
    lone = three.map(lambda s: sections[int(s.id[1:])])
    assert top_variance(lone, 1) == ("GENE0",)  # variance .36 of one donor beats .25 of the other's two sections


def test_choice_ignores_spots_that_are_not_kept(cohort):
    def plant(section):
        changed = with_layer(section, section.table.layers[keys.LOGNORM])
        changed.table.layers[keys.LOGNORM][0, 11] = 1e4
        return changed.with_kept(np.arange(section.n_spots) > 0)

    assert "GENE11" not in top_variance(cohort.map(plant), 3)


def test_number_of_genes_must_be_positive(cohort):
    with pytest.raises(InputError, match="at least 1"):
        top_variance(cohort, 0)


def test_morans_i_equals_its_definition(cohort):
    section = cohort[0]
    x, w = section.layer(keys.LOGNORM).astype(float), spot_graph(section).toarray()
    z = x - x.mean(axis=0)
    expected = len(x) / w.sum() * np.einsum("ig,ij,jg->g", z, w, z) / (z**2).sum(axis=0)
    np.testing.assert_allclose(morans_i(x, sparse.csr_matrix(w)), expected, rtol=1e-8)


def test_a_smooth_gene_ranks_above_a_noisy_one(cohort):
    rng = np.random.default_rng(0)

    def plant(section):
        values = rng.normal(size=(section.n_spots, 12))
        values[:, 4] = section.table.obs[keys.ARRAY_ROW]
        return with_layer(section, values)

    assert top_moran(cohort.map(plant), 1) == ("GENE4",)


def test_morans_i_of_a_constant_gene_is_undefined(cohort):
    graph = spot_graph(cohort[0])
    assert np.isnan(morans_i(np.ones((graph.shape[0], 1)), graph)[0])
