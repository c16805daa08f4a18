"""Domains: planted regions are found again, by expression and not by noise."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from hescribe import keys
from hescribe.analysis.domains import find_domains, read_labels, score_domains
from hescribe.errors import InputError


@pytest.fixture
def labelled(cohort):
    """Return a section of 49 spots in three bands, one spot open, one without a label, one not kept."""
    section = cohort[0]
    table = section.table.copy()
    band = np.array(["duct", "fat", "tumour"])[np.minimum(table.obs[keys.ARRAY_ROW].to_numpy() // 3, 2)].astype(object)
    band[:2] = "undetermined", None
    table.obs[keys.REGION] = band
    return section.with_table(table).with_kept(np.arange(section.n_spots) != 2)


def by_source(scores):
    return {(s.source, s.smooth): s for s in scores}


def banded(section, noise, seed=0):
    row = np.minimum(section.table.obs[keys.ARRAY_ROW].to_numpy() // 3, 2)
    signal = np.eye(3)[row] @ np.random.default_rng(9).normal(size=(3, 12)) * 2
    return signal + noise * np.random.default_rng(seed).normal(size=signal.shape)


def test_open_and_dropped_spots_have_no_label(labelled):
    labels = read_labels(labelled)
    assert labels[:3].tolist() == ["", "", ""]
    assert set(labels[3:]) == {"duct", "fat", "tumour"}


def test_a_section_of_one_region_has_no_labels(cohort, labelled):
    assert read_labels(cohort[0]) is None
    table = labelled.table.copy()
    table.obs[keys.REGION] = "tumour"
    assert read_labels(labelled.with_table(table)) is None


def test_planted_domains_are_found_and_noise_finds_none(labelled):
    scores = by_source(score_domains(labelled, {"predicted": banded(labelled, 0.1)}))
    best = scores["predicted", False]
    assert (best.ari, best.nmi) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (best.n_spots, best.n_domains) == (46, 3)
    assert abs(scores["noise", False].ari) < 0.1
    assert 0 < scores["noise", False].nmi < 0.2


def test_shuffled_spots_lose_the_domains(labelled):
    """A planted fault: the rows of the prediction are in another order than the spots."""
    values = np.random.default_rng(1).permutation(banded(labelled, 0.1))
    assert by_source(score_domains(labelled, {"predicted": values}))["predicted", False].ari < 0.2


def test_smoothing_helps_where_spots_are_noisy(labelled):
    found = by_source(score_domains(labelled, {"predicted": banded(labelled, 5.0)}))
    assert found["predicted", True].ari > found["predicted", False].ari + 0.1


def test_units_of_an_input_that_is_no_expression_do_not_matter(labelled):
    values = banded(labelled, 0.5)
    stretched = values * np.geomspace(1e-3, 1e3, values.shape[1])
    a, b = (by_source(score_domains(labelled, {"colour": v}))["colour", False].ari for v in (values, stretched))
    assert a == pytest.approx(b)


def test_a_constant_prediction_agrees_with_nothing(labelled):
    scores = score_domains(labelled, {"predicted": np.ones((labelled.n_spots, 12))})
    assert by_source(scores)["predicted", False].ari == 0.0


def test_the_same_seed_gives_the_same_domains(labelled):
    values = banded(labelled, 2.0)
    np.testing.assert_array_equal(find_domains(values, 3, seed=4), find_domains(values, 3, seed=4))


@pytest.mark.parametrize("n_columns", [12, 200])
def test_domains_are_k_means_on_nine_components(n_columns):
    values = np.random.default_rng(2).normal(size=(80, n_columns)) * np.geomspace(10, 1, n_columns)
    reduced = PCA(9, svd_solver="full").fit_transform(values)
    expected = KMeans(4, n_init=10, random_state=3).fit_predict(reduced)
    assert adjusted_rand_score(expected, find_domains(values, 4, seed=3)) > 0.9


def test_values_of_other_spots_are_refused(labelled):
    with pytest.raises(InputError, match="predicted has 48 rows, expected 49"):
        score_domains(labelled, {"predicted": np.zeros((48, 12))})


def test_a_section_without_labels_is_refused(cohort):
    with pytest.raises(InputError, match="section s0 has no labels of two regions"):
        score_domains(cohort[0], {})


@pytest.mark.parametrize("n_domains", [0, 1, 6])
def test_an_impossible_number_of_domains_is_refused(n_domains):
    with pytest.raises(InputError, match="give 2 to 5"):
        find_domains(np.zeros((5, 2)), n_domains)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="some are not finite"):
        find_domains(np.full((5, 2), np.nan), 2)
