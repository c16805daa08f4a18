"""The rungs against references, and on signals planted for them."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from hescribe import keys
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError
from hescribe.predict.base import predictors
from hescribe.predict.context import ContextPredictor
from hescribe.predict.knn import KNNPredictor
from hescribe.predict.mean import MeanPredictor
from hescribe.predict.position import PositionPredictor
from hescribe.predict.ridge import ALPHAS, RidgePath, RidgePredictor, Spectrum
from hescribe.prep.graph import rings
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale


def with_expression(section, values):
    table = section.table.copy()
    table.layers[keys.TARGET] = np.asarray(values, dtype=np.float32)
    return section.with_table(table)


@pytest.mark.parametrize("shape", [(80, 5), (20, 60)], ids=["more spots than inputs", "more inputs than spots"])
def test_ridge_path_equals_scikit_learn(shape):
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=shape), rng.normal(size=(shape[0], 3)), rng.normal(size=(7, shape[1]))
    x -= x.mean(axis=0)
    path = RidgePath.fit(x, y)
    for alpha, predicted in zip((10.0, 0.5), path.predict_each(new, (10.0, 0.5)), strict=True):
        reference = Ridge(alpha=alpha).fit(x, y)
        np.testing.assert_allclose(predicted, reference.predict(new), atol=1e-8)
        np.testing.assert_allclose(path.coef(alpha).T, reference.coef_, atol=1e-8)


def test_ridge_chooses_a_weak_penalty_where_inputs_must_be_told_apart(cohort):
    """The target is a small difference of two inputs that go together: shrinking hides it."""

    def plant(section):
        x = SpotInputs(encoder="color", fov_um=(112.0,), n_rings=0, standardise="section").read(section)
        return with_expression(section, np.tile((x[:, 0] - x[:, 6])[:, None], (1, 12)))

    fitted = RidgePredictor(encoder="color", fov_um=(112.0,), standardise="section").fit(cohort.map(plant))
    assert fitted.alpha_ in ALPHAS
    assert fitted.alpha_ <= 10.0


def test_mean_is_the_mean_of_kept_spots(cohort):
    masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) < 10))
    expected = np.mean([s.table.layers[keys.TARGET][:10] for s in cohort], axis=(0, 1))
    np.testing.assert_allclose(MeanPredictor().fit(masked).mean_, expected, rtol=1e-5)


def test_knn_equals_scikit_learn(cohort):
    predictor = KNNPredictor(encoder="color", k=7).fit(cohort)
    inputs = SpotInputs(encoder="color", fov_um=None, n_rings=0, standardise="train")
    bank = inputs.read_kept(cohort)
    scale = Scale.of(bank)
    finder = NearestNeighbors(n_neighbors=7, metric="cosine").fit(scale.apply(bank))
    nearest = finder.kneighbors(scale.apply(inputs.read(cohort[0])), return_distance=False)
    expected = cohort.stack(keys.TARGET)[nearest].mean(axis=1)
    np.testing.assert_allclose(predictor.predict(cohort[0].blind()).mean, expected, rtol=1e-4)


def test_knn_refuses_more_neighbours_than_spots(cohort):
    with pytest.raises(InputError, match="k must be between 1 and the 294 training spots, got 1000"):
        KNNPredictor(encoder="color", k=1000).fit(cohort)


def test_position_learns_a_gradient_and_nothing_else(cohort):
    def gradient(section):
        return with_expression(section, np.tile(section.xy_um[:, :1], (1, 12)) / 1000)

    fitted = PositionPredictor().fit(cohort.map(gradient))
    predicted = fitted.predict(cohort[0].blind()).mean[:, 0]
    assert np.corrcoef(predicted, cohort[0].xy_um[:, 0])[0, 1] > 0.999


def test_context_reads_what_only_the_neighbours_show(cohort):
    """Expression is the ring's mean colour: the spot's own patch cannot tell, its ring can."""

    def plant(section):
        own = SpotInputs(encoder="color", fov_um=(112.0,), n_rings=0, standardise="train").read(section)[:, 0]
        return with_expression(section, np.tile((rings(section, 1)[0] @ own)[:, None], (1, 12)))

    planted = cohort.map(plant)
    train, test = planted.where(lambda s: s.donor != "D0"), planted[0]
    scores = []
    for predictor in (
        ContextPredictor(encoder="color", fov_um=(112.0,)),
        RidgePredictor(encoder="color", fov_um=(112.0,)),
    ):
        mean = predictor.fit(train).predict(test.blind()).mean[:, 0]
        scores.append(np.corrcoef(mean, test.layer(keys.TARGET)[:, 0])[0, 1])
    assert scores[0] > 0.9
    assert scores[1] < 0.5


def test_section_standardising_removes_a_shift_of_the_whole_section(cohort):
    inputs = SpotInputs(encoder="color", fov_um=None, n_rings=0, standardise="section")
    x = inputs.read(cohort[0])
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)


def test_a_constant_input_stays_silent():
    x = np.column_stack([np.arange(10.0), np.full(10, 5.0)])
    scaled = Scale.of(x).apply(np.array([[3.0, 9.0]]))
    assert scaled[0, 1] == 0
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"standardise": "both"}, "must be 'train' or 'section'"), ({"n_rings": -1}, "must be from 0 to 100")],
)
def test_bad_inputs_are_refused(cohort, change, message):
    with pytest.raises(InputError, match=message):
        RidgePredictor(encoder="color").with_params(**change).fit(cohort)


def test_novelty_is_high_for_strangers_only():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 40)) @ rng.normal(size=(40, 40))
    novelty = Novelty.fit(x)
    assert 0.4 < novelty.score(x).mean() < 0.6
    assert novelty.score(x[:20] * 5 + 10).min() > 0.95


def test_every_image_rung_reports_how_unlike_training_a_spot_looks(cohort):
    prediction = RidgePredictor(encoder="color").fit(cohort).predict(cohort[0].blind())
    assert prediction.ood.shape == (49,)
    assert ((prediction.ood >= 0) & (prediction.ood <= 1)).all()


@pytest.mark.parametrize(
    ("method", "given"),
    [("ridge", {"alpha": -1.0}), ("position", {"degree": 0}), ("mlp", {"n_hidden": 0}), ("mlp", {"dropout": 2.0}),
     ("mlp", {"epochs": 0}), ("mlp", {"batch_size": 0})],
)  # fmt: skip
def test_a_parameter_without_meaning_is_refused(cohort, method, given):
    with pytest.raises(InputError, match=f"{next(iter(given))} of .* must be"):
        predictors.create(method, **given).fit(cohort)


@pytest.mark.parametrize(
    "predictor",
    [RidgePredictor(encoder="color", alpha=30.0), ContextPredictor(encoder="color", alpha=30.0)],
    ids=["fewer inputs than spots", "the surroundings too"],
)
def test_ridge_predictions_are_exactly_the_weighted_training_spots(cohort, predictor):
    """Identity of the smoother: prediction = mean + sum of weight times what a training spot differs from the mean."""
    train = cohort.where(lambda s: s.donor != "D0").map(lambda s: s.with_kept(np.arange(s.n_spots) % 5 == 0))
    fitted = predictor.with_params(keep_spots=True).fit(train)
    n_train = int(sum(s.kept.sum() for s in train))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hescribe.predict._bank.N_NAMED", n_train)  # all of them, not the heaviest
        table = fitted.explain(cohort[0].blind())
    measured = {
        (s.id, spot): y
        for s in train
        for spot, y in zip(s.table.obs_names[s.kept], s.layer(keys.TARGET).astype(np.float64), strict=True)
    }
    mean = np.mean(list(measured.values()), axis=0)
    carried = np.array([measured[k] - mean for k in zip(table["section"], table["train_spot"], strict=True)])
    parts = (table["weight"].to_numpy()[:, None] * carried).reshape(cohort[0].n_spots, n_train, -1)
    np.testing.assert_allclose(mean + parts.sum(axis=1), fitted.predict(cohort[0].blind()).mean, atol=2e-4)
    assert (table["weight"] < 0).any()
    np.testing.assert_allclose(table.groupby("spot")["share"].sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("shape", [(80, 5), (20, 60)], ids=["more spots than inputs", "more inputs than spots"])
def test_smoother_weights_equal_those_of_the_textbook(shape):
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=shape), rng.normal(size=(4, shape[1]))
    expected = new @ np.linalg.solve(x.T @ x + 3.0 * np.eye(shape[1]), x.T)
    np.testing.assert_allclose(Spectrum.of(x).weights(new, 3.0), expected, atol=1e-10)


def test_ridge_without_kept_spots_says_how_to_get_an_explanation(cohort):
    fitted = RidgePredictor(encoder="color", alpha=30.0).fit(cohort)
    with pytest.raises(InputError, match=r"kept no training spots.*fit it with keep_spots"):
        fitted.explain(cohort[0].blind())


def test_an_explanation_survives_added_genes(cohort):
    fitted = RidgePredictor(encoder="color", alpha=30.0, keep_spots=True).fit(cohort)
    wide = fitted.fit_blocks([cohort])
    assert wide.explain(cohort[0].blind()).equals(fitted.explain(cohort[0].blind()))
