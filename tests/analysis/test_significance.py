"""Tests of correlation keep their promise on smooth maps; corrections are checked by hand and against scipy."""

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from hescribe.analysis import significance
from hescribe.analysis.significance import adjust, associate, combine
from hescribe.errors import InputError

SIDE, N_GENES = 18, 600
POINTS = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1).reshape(-1, 2).astype(float)


def fields(rng, smoothness, n_genes=N_GENES):
    """Return independent maps; each is cut from the middle of a wider one, so that its margin is no edge."""
    wide = rng.normal(size=(n_genes, 3 * SIDE, 3 * SIDE))
    smooth = gaussian_filter(wide, (0, smoothness, smoothness)) if smoothness else wide
    return smooth[:, SIDE : 2 * SIDE, SIDE : 2 * SIDE].reshape(n_genes, -1).T


@pytest.mark.parametrize("smoothness", [1.0, 2.0, 3.0])
def test_unrelated_smooth_maps_are_rarely_called_related(smoothness):
    """5 % is promised: of 600 tests 30, give or take twice 5.3. With spots taken for independent it is above 20 %."""
    rng = np.random.default_rng(1)
    found = associate(fields(rng, smoothness), fields(rng, smoothness), POINTS)
    assert (found.p < 0.05).mean() < 0.08
    assert (found.p_naive < 0.05).mean() > 0.2
    assert (found.p < 0.01).mean() < 0.025


def test_maps_of_independent_spots_keep_their_spots():
    rng = np.random.default_rng(2)
    found = associate(fields(rng, 0), fields(rng, 0), POINTS)
    assert np.median(found.n_effective) > 0.95 * len(POINTS)
    assert 0.03 < (found.p < 0.05).mean() < 0.075


def test_the_naive_p_value_is_scipys():
    rng = np.random.default_rng(3)
    x, y = fields(rng, 0, 4), fields(rng, 0, 4)
    expected = [stats.pearsonr(x[:, g], y[:, g], alternative="greater").pvalue for g in range(4)]
    np.testing.assert_allclose(associate(x, y, POINTS).p_naive, expected, rtol=1e-10)


def test_a_smooth_map_that_is_followed_is_found():
    rng = np.random.default_rng(4)
    x = fields(rng, 2.0, 100)
    x /= x.std(axis=0)
    found = associate(x, x + rng.normal(size=x.shape), POINTS)
    assert (found.p < 0.05).mean() > 0.9


def test_a_map_that_runs_against_the_measured_one_is_no_discovery():
    x = fields(np.random.default_rng(5), 0, 1)
    assert associate(x, -x, POINTS).p[0] > 0.999


def test_a_constant_gene_is_undefined_and_the_others_are_not():
    rng = np.random.default_rng(6)
    x, y = fields(rng, 1.0, 3), fields(rng, 1.0, 3)
    y[:, 1] = 2.0
    found = associate(x, y, POINTS)
    alone = associate(x[:, [0, 2]], y[:, [0, 2]], POINTS)
    for values, kept in ((found.r, alone.r), (found.p, alone.p), (found.n_effective, alone.n_effective)):
        assert np.isnan(values[1])
        np.testing.assert_allclose(values[[0, 2]], kept)


def test_the_order_of_spots_does_not_matter():
    rng = np.random.default_rng(7)
    x, y, order = fields(rng, 2.0, 5), fields(rng, 2.0, 5), rng.permutation(len(POINTS))
    a, b = associate(x, y, POINTS), associate(x[order], y[order], POINTS[order])
    np.testing.assert_allclose(a.n_effective, b.n_effective, rtol=1e-9)


def test_places_of_other_spots_would_give_another_answer():
    """A planted fault: with places shuffled, smooth maps pass for independent spots."""
    rng = np.random.default_rng(8)
    x, y = fields(rng, 3.0, 50), fields(rng, 3.0, 50)
    right = associate(x, y, POINTS).n_effective
    assert np.median(associate(x, y, rng.permutation(POINTS)).n_effective) > 5 * np.median(right)


def test_a_sample_of_spots_gives_almost_the_same(monkeypatch):
    rng = np.random.default_rng(9)
    x, y = fields(rng, 2.0, 200), fields(rng, 2.0, 200)
    whole = associate(x, y, POINTS).n_effective
    monkeypatch.setattr(significance, "MAX_SPOTS", 200)
    assert np.median(associate(x, y, POINTS).n_effective) == pytest.approx(np.median(whole), rel=0.15)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((9, 2), (9, 3), (9, 2)), "y_pred has shape"),
        (((9, 2), (9, 2), (8, 2)), "a place for every spot"),
        (((3, 2), (3, 2), (3, 2)), "at least 4 spots, got 3"),
    ],
)
def test_wrong_shapes_are_refused(shapes, message):
    with pytest.raises(InputError, match=message):
        associate(*(np.zeros(s) for s in shapes))


def test_discovery_rates_are_scipys():
    p = np.random.default_rng(10).uniform(size=50) ** 3
    np.testing.assert_allclose(adjust(p), stats.false_discovery_control(p))


def test_an_undefined_test_counts_as_none():
    np.testing.assert_allclose(adjust(np.array([0.02, np.nan, 0.04]))[[0, 2]], adjust(np.array([0.02, 0.04])))


def test_donors_are_combined_as_stouffer_does():
    p = np.array([[0.03], [0.2], [0.6]])
    assert combine(p, ["A", "B", "C"])[0] == pytest.approx(stats.combine_pvalues(p[:, 0], method="stouffer").pvalue)


def test_copies_of_one_section_add_no_evidence():
    p = np.array([[0.03]] * 5)
    assert combine(p, ["A"] * 5)[0] == pytest.approx(0.03)
    assert combine(p, list("ABCDE"))[0] < 0.001


def test_a_section_that_runs_against_its_prediction_counts_against_the_gene():
    assert combine(np.array([[0.01], [0.99]]), ["A", "A"])[0] == pytest.approx(0.5)
    assert combine(np.array([[0.01], [0.99]]), ["A", "B"])[0] == pytest.approx(0.5)


def test_a_p_value_of_zero_or_one_stays_a_number():
    assert np.isfinite(combine(np.array([[0.0], [1.0]]), ["A", "B"])).all()
    assert combine(np.array([[0.0]]), ["A"])[0] < 1e-100


def test_sections_without_a_gene_are_left_out():
    p = np.array([[0.03, np.nan], [np.nan, np.nan]])
    found = combine(p, ["A", "B"])
    assert found[0] == pytest.approx(0.03)
    assert np.isnan(found[1])


def test_unrelated_replicates_are_rarely_called_related():
    """Five sections of one donor whose maps are nearly copies: p values that depend on each other."""
    rng = np.random.default_rng(11)
    x, y = fields(rng, 2.0, 300), fields(rng, 2.0, 300)
    x, y = x / x.std(axis=0), y / y.std(axis=0)
    p = np.stack([associate(x + 0.5 * rng.normal(size=x.shape), y, POINTS).p for _ in range(5)])
    assert (combine(p, ["A"] * 5) < 0.05).mean() < 0.08
