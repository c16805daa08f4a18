"""The default predictor: differences from the section mean, from four ridges weighed on donors left out."""

import numpy as np
import pytest

from hescribe import keys
from hescribe.errors import InputError
from hescribe.predict.default import VIEWS, DefaultPredictor
from hescribe.prep.graph import spot_graph
from hescribe.prep.split import inner_folds
from hescribe.testing.cohorts import colour_cohort, planted_cohort


def with_target(section, values):
    table = section.table.copy()
    table.layers[keys.TARGET] = np.asarray(values, dtype=np.float32)
    return section.with_table(table)


def default(**changes):
    return DefaultPredictor(encoder="color").with_params(**changes)


def correlation(fitted, section):
    y_pred, y_true = fitted.predict(section.blind()).mean, section.layer(keys.TARGET)
    return np.corrcoef(y_pred[:, 0], y_true[:, 0])[0, 1]


@pytest.fixture(scope="module")
def surrounded():
    """A cohort whose gene follows the colour of the spots around, and hardly that of the spot itself."""
    rng = np.random.default_rng(0)
    signals = [rng.uniform(size=64) for _ in range(4)]
    plain = planted_cohort(signals, [s[:, None] for s in signals])
    around = [spot_graph(s) @ signal for s, signal in zip(plain, signals, strict=True)]
    return planted_cohort(signals, [a[:, None] for a in around])


def test_levels_of_donors_are_neither_learned_nor_predicted(cohort):
    shift = dict(zip(cohort.donors, (0.0, 3.0, -2.0), strict=True))
    moved = cohort.map(lambda s: with_target(s, s.table.layers[keys.TARGET] + shift[s.donor]))
    plain, shifted = (default().fit(c).predict(cohort[0].blind()).mean for c in (cohort, moved))
    np.testing.assert_allclose(shifted - plain, np.mean(list(shift.values())), atol=1e-4)


def test_the_mean_over_a_section_is_the_level_of_the_train_donors(cohort):
    fitted = default().fit(cohort)
    by_donor = [
        np.mean([s.layer(keys.TARGET).mean(axis=0) for s in cohort if s.donor == d], axis=0) for d in cohort.donors
    ]
    np.testing.assert_allclose(
        fitted.predict(cohort[1].blind()).mean.mean(axis=0), np.mean(by_donor, axis=0), atol=1e-5
    )


def test_a_donor_with_more_sections_does_not_set_the_level(cohort):
    one = cohort.map(lambda s: with_target(s, np.full_like(s.table.layers[keys.TARGET], float(s.donor == "D0"))))
    fewer = type(cohort)(one.sections[1:], cohort.card)  # D0 keeps one of its two sections
    assert default().fit(fewer).level_[0] == pytest.approx(1 / 3)


def test_what_surrounds_a_spot_is_read_by_the_views_with_rings_alone(surrounded):
    train, test = type(surrounded)(surrounded.sections[:3], surrounded.card), surrounded[3]
    with_rings = default(views=("color_context", "encoder_context")).fit(train)
    without = default(views=("color", "encoder")).fit(train)
    assert correlation(with_rings, test) > 0.8
    assert correlation(without, test) < correlation(with_rings, test) - 0.2  # patches reach into the next spot
    assert correlation(default().fit(train), test) > 0.6


def test_the_average_is_as_large_as_fits_the_donors_left_out_best(cohort):
    """The gain is the least-squares factor of the average of unit-variance predictions, donors weighing the same."""
    fitted = default(views=("color",)).fit(cohort)
    single = []
    for inner, outer in inner_folds(cohort):
        part = default(views=("color",)).fit(inner)
        part.weight_, part.alpha_ = np.ones(1), fitted.alpha_
        part = part.fit_blocks([inner])  # at this penalty
        single += [(part.predict(s.blind()).mean - part.level_, s.layer(keys.TARGET)) for s in outer]
    top = np.mean([((y - y.mean(axis=0)) * p).mean() for p, y in single])
    bottom = np.mean([(p**2).mean() for p, _ in single])
    assert fitted.weight_[0] == pytest.approx(top / bottom, rel=1e-5)


def test_the_weights_of_training_spots_add_up_to_the_prediction(cohort, monkeypatch):
    train = type(cohort)(cohort.sections[2:], cohort.card)
    fitted = default(keep_spots=True).fit(train)
    n_train = sum(int(s.kept.sum()) for s in train)
    monkeypatch.setattr("hescribe.predict._bank.N_NAMED", n_train)  # all of them, not the heaviest
    table = fitted.explain(cohort[0].blind())
    differs = {
        (s.id, spot): y
        for s in train
        for spot, y in zip(s.table.obs_names[s.kept], s.layer(keys.TARGET) - s.layer(keys.TARGET).mean(0), strict=True)
    }
    carried = np.array([differs[k] for k in zip(table["section"], table["train_spot"], strict=True)])
    parts = (table["weight"].to_numpy()[:, None] * carried).reshape(cohort[0].n_spots, n_train, -1)
    np.testing.assert_allclose(fitted.level_ + parts.sum(axis=1), fitted.predict(cohort[0].blind()).mean, atol=2e-3)


def test_without_kept_spots_it_says_how_to_get_an_explanation(cohort):
    with pytest.raises(InputError, match=r"kept no training spots.*fit it with keep_spots"):
        default().fit(cohort).explain(cohort[0].blind())


def test_without_a_signal_the_prediction_stays_near_the_level():
    rng = np.random.default_rng(0)
    cohort = planted_cohort([rng.uniform(size=64) for _ in range(4)], [rng.normal(size=(64, 8)) for _ in range(4)])
    y_pred = default().fit(cohort).predict(cohort[0].blind()).mean
    assert y_pred.std(axis=0).max() < 0.2


def test_a_single_donor_is_weighed_on_blocks_of_its_sections():
    cohort = colour_cohort(n_donors=2)
    one = type(cohort)(cohort.sections[:2], cohort.card)
    fitted = default().fit(one)
    assert (fitted.weight_ > 0).all()
    assert np.isfinite(fitted.predict(cohort[2].blind()).mean).all()


@pytest.mark.parametrize("views", [(), ("color", "color"), ("colour",)])
def test_views_that_are_none_or_named_twice_are_refused(cohort, views):
    with pytest.raises(InputError, match=f"are some of {', '.join(VIEWS)}"):
        default(views=views).fit(cohort)
