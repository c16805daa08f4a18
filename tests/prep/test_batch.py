"""ComBat: fitted on some spots, applied to others, and the published package's result behind a flag."""

import numpy as np
import pytest

from hescribe.errors import InputError, NotFittedError
from hescribe.prep.batch import Combat

# Three batches of 4, 5 and 3 spots. CORRECTED is what pycombat(values.T, batch) of the PyPI package
# combat 0.3.3 (sdist, numpy 2.4, pandas 2.3, Python 3.11) returned for them.
BATCH = np.array(list("aaaabbbbbccc"))
VALUES = np.array(
    [
        [3.875, 5.0, 2.75, 6.75],
        [2.5, 2.625, 0.75, 1.75],
        [2.75, 4.5, 3.375, 2.5],
        [5.625, 2.375, 2.875, 2.0],
        [4.875, 4.875, 5.5, 5.625],
        [3.25, 7.625, 7.25, 7.5],
        [9.75, 5.125, 6.625, 2.0],
        [6.0, 2.625, 5.875, 8.375],
        [5.875, 8.375, 8.0, 4.125],
        [5.5, 2.25, 2.75, 4.0],
        [2.5, 1.5, 3.875, 2.25],
        [2.625, 2.625, 3.125, 3.875],
    ]
)
CORRECTED = np.array(
    [
        [4.976173095, 5.85885323, 4.284258013, 8.050367264],
        [3.455347878, 3.275363608, 2.701575858, 2.906805211],
        [3.731861554, 5.314960678, 4.778846186, 3.678339519],
        [6.911768827, 3.003417332, 4.383175647, 3.163983313],
        [3.494794434, 3.345896032, 3.820323473, 3.991389843],
        [2.171245237, 5.569996007, 5.169404759, 5.522926813],
        [7.465442026, 3.548086939, 4.687590014, 1.030418366],
        [4.411097724, 1.526177871, 4.10941232, 6.237644067],
        [4.309286248, 6.176568727, 5.747582453, 2.766160266],
        [7.94567906, 3.92218254, 3.373428882, 6.029412276],
        [3.389145874, 2.64170431, 5.119492689, 2.813290764],
        [3.579001423, 4.562421654, 3.955450151, 5.799689311],
    ]
)


def planted(n_genes=60, n_spots=80, names=("a", "b", "c"), seed=0):
    """Return values whose batches differ by a location and a scale of each gene, and the labels."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(names, n_spots)
    code = np.repeat(np.arange(len(names)), n_spots)
    shift, scale = rng.normal(0, 1, (len(names), n_genes)), rng.uniform(0.6, 1.6, (len(names), n_genes))
    return 5 + shift[code] + scale[code] * rng.normal(size=(len(code), n_genes)), batch


def test_legacy_equals_the_published_package():
    corrected = Combat(legacy_combat=True).fit(VALUES, BATCH).transform(VALUES, BATCH)
    np.testing.assert_allclose(corrected, CORRECTED, atol=2e-9)


def test_the_published_package_depends_on_the_order_of_the_genes_and_ours_does_not():
    order = [2, 0, 3, 1]
    legacy, right = Combat(legacy_combat=True), Combat()
    moved = legacy.fit(VALUES[:, order], BATCH).transform(VALUES[:, order], BATCH)
    assert np.abs(moved - CORRECTED[:, order]).max() > 0.05
    moved = right.fit(VALUES[:, order], BATCH).transform(VALUES[:, order], BATCH)
    np.testing.assert_allclose(moved, right.fit(VALUES, BATCH).transform(VALUES, BATCH)[:, order], atol=1e-7)


def test_planted_batch_effects_are_removed():
    values, batch = planted()
    corrected = Combat().fit(values, batch).transform(values, batch)
    means = np.stack([corrected[batch == b].mean(axis=0) for b in "abc"])
    spreads = np.stack([corrected[batch == b].std(axis=0) for b in "abc"])
    assert np.ptp(means, axis=0).max() < 0.1
    assert (spreads.max(axis=0) / spreads.min(axis=0)).max() < 1.35  # planted: up to 1.6 / 0.6


def test_a_known_batch_keeps_its_parameters_whatever_spots_are_given():
    values, batch = planted()
    fitted = Combat().fit(values, batch)
    whole = fitted.transform(values, batch)
    some = np.array([100, 3, 200])
    np.testing.assert_array_equal(fitted.transform(values[some], batch[some]), whole[some])


def test_a_new_batch_is_brought_to_the_others_and_changes_nothing_of_the_fit():
    values, batch = planted(names=("a", "b", "c", "new"))
    train = batch != "new"
    fitted = Combat().fit(values[train], batch[train])
    before = {k: np.copy(v) for k, v in fitted.get_fitted().items()}
    new = fitted.transform(values[~train], batch[~train])
    assert np.abs(values[~train].mean(axis=0) - fitted.mean_).max() > 0.8
    assert np.abs(new.mean(axis=0) - fitted.mean_).max() < 0.1
    for key, value in fitted.get_fitted().items():
        np.testing.assert_array_equal(value, before[key])


def test_the_reference_batch_is_not_changed():
    values, batch = planted()
    corrected = Combat(reference="b").fit(values, batch).transform(values, batch)
    np.testing.assert_array_equal(corrected[batch == "b"], values[batch == "b"])
    assert np.abs(corrected[batch == "a"].mean(axis=0) - values[batch == "b"].mean(axis=0)).max() < 0.1


def test_against_a_reference_a_batch_is_corrected_alike_whether_it_was_fitted_or_new():
    values, batch = planted()
    known = Combat(reference="b").fit(values, batch)
    without_c = Combat(reference="b").fit(values[batch != "c"], batch[batch != "c"])
    is_c = batch == "c"
    np.testing.assert_allclose(
        without_c.transform(values[is_c], batch[is_c]), known.transform(values[is_c], batch[is_c]), atol=1e-9
    )


def test_constant_genes_come_back_as_they_were_and_change_no_other():
    values, batch = planted()
    constant = np.full((len(values), 2), [0.0, 3.3])
    constant[batch == "a", 1] = 4.4  # constant inside every batch, not between them
    alone = Combat().fit(values, batch).transform(values, batch)
    both = np.hstack([constant, values])
    together = Combat().fit(both, batch).transform(both, batch)
    np.testing.assert_array_equal(together[:, :2], constant)
    np.testing.assert_allclose(together[:, 2:], alone, atol=1e-12)


def test_a_batch_of_one_spot_is_shifted_and_not_scaled():
    values, batch = planted()
    spots = np.r_[:161]  # one spot of c
    fitted = Combat().fit(values[spots], batch[spots])
    corrected = fitted.transform(values[spots], batch[spots])
    assert np.isfinite(corrected).all()
    np.testing.assert_array_equal(fitted.scale_[2], 1.0)
    assert np.abs(corrected[160] - fitted.mean_).mean() < np.abs(values[160] - fitted.mean_).mean()


def test_a_large_offset_changes_nothing_but_the_level():
    values, batch = planted()
    corrected = Combat().fit(values, batch).transform(values, batch)
    far = Combat().fit(values + 1e7, batch).transform(values + 1e7, batch)
    np.testing.assert_allclose(far - 1e7, corrected, atol=1e-5)


def test_one_gene_is_corrected_without_a_prior_to_lean_on():
    values, batch = planted(n_genes=1)
    corrected = Combat().fit(values, batch).transform(values, batch)
    means = [corrected[batch == b].mean() for b in "abc"]
    assert np.ptp(means) < 1e-6


@pytest.mark.parametrize("fault", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(fault):
    values, batch = planted()
    values[7, 3] = fault
    with pytest.raises(InputError, match=f"spot 7, gene 3 is {fault}"):
        Combat().fit(values, batch)


def test_one_batch_is_refused():
    with pytest.raises(InputError, match="all spots are of batch 'a'"):
        Combat().fit(VALUES[:4], BATCH[:4])


def test_an_unknown_reference_is_refused_and_the_batches_are_named():
    with pytest.raises(InputError, match="'z' cannot be the reference batch; there are a, b, c"):
        Combat(reference="z").fit(VALUES, BATCH)
    with pytest.raises(InputError, match="legacy_combat takes no reference"):
        Combat(reference="a", legacy_combat=True).fit(VALUES, BATCH)


@pytest.mark.parametrize("batch", [BATCH[:5], VALUES])
def test_labels_that_do_not_match_the_spots_are_refused(batch):
    with pytest.raises(InputError, match="one batch label a spot"):
        Combat().fit(VALUES, batch)


def test_other_genes_than_those_of_the_fit_are_refused():
    fitted = Combat().fit(VALUES, BATCH)
    with pytest.raises(InputError, match="fitted on 4 genes and the values have 3"):
        fitted.transform(VALUES[:, :3], BATCH)


def test_transform_before_fit_is_refused():
    with pytest.raises(NotFittedError, match="not fitted"):
        Combat().transform(VALUES, BATCH)


def test_values_that_never_vary_are_refused():
    with pytest.raises(InputError, match="no gene varies"):
        Combat().fit(np.ones((12, 4)), BATCH)


def test_what_breaks_the_published_package_is_refused_in_its_mode():
    flat = VALUES.copy()
    flat[:, 2] = 1.0
    with pytest.raises(InputError, match="gene 2 is constant"):
        Combat(legacy_combat=True).fit(flat, BATCH)
    with pytest.raises(InputError, match="batch 'c' has no gene that varies"):
        Combat(legacy_combat=True).fit(VALUES[:10], BATCH[:10])
    with pytest.raises(InputError, match="or one gene only"):
        Combat(legacy_combat=True).fit(VALUES[:, :1], BATCH)
