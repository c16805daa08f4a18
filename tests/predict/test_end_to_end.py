"""Contrastive predictors that train their image encoder: on 300 spots, whose expression is in a texture."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe.bench.model_folder import join_fitted, split_fitted  # noqa: E402
from hescribe.data.cohort import Cohort  # noqa: E402
from hescribe.errors import FormatError, InputError  # noqa: E402
from hescribe.predict.base import predictors  # noqa: E402
from hescribe.testing.cohorts import textured_section  # noqa: E402
from hescribe.testing.encoders import tiny_encoder  # noqa: E402

BOTH = ("bleep", "mclstexp")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Register the network, beside those there are."""
    with tiny_encoder():
        yield


@pytest.fixture(scope="module")
def train():
    return Cohort(tuple(textured_section(i, f"D{i}")[0] for i in range(3)))


def make(name, **changes):
    given = {"encoder": "tiny", "epochs": 25, "k": 20, "batch_size": 50, "lr": 3e-3, "jitter": 0.1, "frozen": False}
    return predictors.create(name, **(given | changes))


def correlation(fitted):
    section, strength = textured_section(9, "new")
    return np.corrcoef(fitted.predict(section.blind()).mean[:, -1], strength)[0, 1]


@pytest.fixture(scope="module")
def fitted(train, tiny):
    """Both predictors with all weights trained, and bleep with low-rank changes."""
    given = {"bleep": {}, "mclstexp": {}, "low_rank": {"tuning": "low_rank", "rank": 2, "epochs": 2}}
    return {way: make("bleep" if way == "low_rank" else way, **changes).fit(train) for way, changes in given.items()}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.slow
def test_training_the_encoder_finds_what_frozen_features_do_not_show(name, train, fitted):
    frozen = predictors.create(name, encoder="tiny", epochs=25, k=20, batch_size=50, lr=3e-3).fit(train)
    assert correlation(frozen) < 0.85
    assert correlation(fitted[name]) > 0.93


def test_training_begins_with_what_the_frozen_encoder_gives(train, tiny):
    """With steps of 0 both are the same network."""
    same = {"encoder": "tiny", "epochs": 1, "k": 300, "batch_size": 300, "lr": 0.0, "weight_decay": 0.0}
    section = textured_section(9, "new")[0].blind()
    frozen, trained = (predictors.create("bleep", frozen=f, **same).fit(train).predict(section) for f in (True, False))
    np.testing.assert_allclose(trained.mean, frozen.mean, atol=1e-4)
    np.testing.assert_allclose(trained.ood, frozen.ood, atol=0.01)


def test_the_same_seed_gives_the_same_prediction(train, tiny):
    section = textured_section(9, "new")[0].blind()
    first, second = (make("bleep", epochs=1).fit(train).predict(section).mean for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("way", ["bleep", "mclstexp", "low_rank"])
def test_what_was_trained_survives_saving_and_is_put_back_strictly(way, fitted):
    model, section = fitted[way], textured_section(9, "new")[0].blind()
    arrays, plain = split_fitted(model.get_fitted())
    restored = model.with_params().set_fitted(join_fitted(arrays, plain))
    np.testing.assert_array_equal(restored.predict(section).mean, model.predict(section).mean)
    lost = next(name for name in arrays if name.startswith("weights_/encoder."))
    less = {name: array for name, array in arrays.items() if name != lost}
    with pytest.raises(FormatError, match="not those of this network"):
        model.with_params().set_fitted(join_fitted(less, plain)).predict(section)


@pytest.mark.slow
def test_low_rank_changes_are_all_that_is_saved_of_the_encoder(fitted):
    names = [name for name in fitted["low_rank"].weights_ if name.startswith("encoder.")]
    assert sorted(name.rsplit(".", 2)[-2] for name in names) == ["down", "up"]


def test_a_prediction_does_not_depend_on_the_other_spots(fitted):
    section = textured_section(9, "new")[0].blind()
    some = section.with_table(section.table[[70, 3, 20]].copy())
    whole = fitted["bleep"].predict(section).mean
    np.testing.assert_allclose(fitted["bleep"].predict(some).mean, whole[[70, 3, 20]], atol=1e-5)


@pytest.mark.slow
def test_a_prediction_can_be_explained(fitted):
    table = fitted["bleep"].explain(textured_section(9, "new")[0].blind())
    assert (len(table), set(table["donor"])) == (100 * 20, {"D0", "D1", "D2"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "color", "fov_um": (112.0,)}, "color is no network and cannot be trained"),
        ({"fov_um": (112.0, 224.0)}, "patches of one size; give one fov_um"),
        ({"n_rings": 1}, "n_rings of .* has no effect with frozen=False"),
        ({"standardise": "section"}, "standardise of .* has no effect with frozen=False"),
        ({"frozen": True}, "jitter of .* has no effect with frozen=True"),
        ({"rank": 0}, "rank must be at least 1"),
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_refuses_what_makes_no_sense(name, changes, message, train, tiny):
    with pytest.raises(InputError, match=message):
        make(name, **changes).fit(train)


def test_an_image_predictor_finds_what_a_ridge_on_the_frozen_features_does_not(train):
    """What stnet, shufflenet and vit_delta are: the encoder, trained with a linear layer."""
    frozen = predictors.create("ridge", encoder="tiny", alpha=1.0).fit(train)
    trained = predictors.create("shufflenet", encoder="tiny", epochs=40, lr=1e-2).fit(train)
    assert correlation(frozen) < 0.7
    assert correlation(trained) > 0.9
