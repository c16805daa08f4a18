"""Networks on patches: their size, what they start from, and that training finds what the frozen encoder has not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hescribe import keys
from hescribe.bench.model_names import encoder_card
from hescribe.encode.torchvision_model import TorchvisionModel
from hescribe.encode.trainable import TrainableEncoder
from hescribe.errors import DataAccessError, InputError, UnknownNameError
from hescribe.predict._patches import PatchNetwork
from hescribe.predict.base import predictors
from hescribe.predict.vit_delta import VitDeltaPredictor
from hescribe.testing.cohorts import colour_cohort
from hescribe.testing.encoders import Tiny, tiny_encoder

ALL = ("stnet", "shufflenet", "vit_delta")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Register a network of 600 weights."""
    with tiny_encoder():
        yield


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort()


@pytest.mark.parametrize("name", ALL)
def test_encoder_and_last_layer_have_the_published_size(name):
    predictor = predictors.create(name)
    model = predictor.PAPER.partition(":")[2]
    card = TorchvisionModel(model=model).card
    genes = predictor.card.n_params_genes
    assert card.n_params + (card.n_dims + 1) * genes == predictor.card.n_params


@pytest.mark.parametrize(("size", "name"), [("paper", "vit_b_16"), ("small", "efficientnet_lite0")])
def test_the_encoder_of_the_size_is_the_one_that_is_named_and_checked(size, name):
    assert encoder_card(VitDeltaPredictor(size=size))["name"] == name
    assert encoder_card(VitDeltaPredictor(size=size, encoder="tiny"))["name"] == "tiny"


def test_an_untrained_network_predicts_the_train_mean(cohort):
    network = PatchNetwork(TrainableEncoder(Tiny().network()), 4, 12, symmetric=False).eval()
    patches = torch.randint(0, 255, (3, 12, 12, 3), dtype=torch.uint8)
    assert not network(patches).any()


def test_a_symmetric_prediction_is_that_of_the_turned_and_mirrored_patch():
    network = PatchNetwork(TrainableEncoder(Tiny().network()), 4, 5, symmetric=True).eval()
    torch.nn.init.normal_(network.last.weight)
    patches = torch.randint(0, 255, (3, 12, 12, 3), dtype=torch.uint8)
    expected = network(patches)
    for other in (torch.rot90(patches, 1, (1, 2)), patches.flip(1), patches.transpose(1, 2)):
        torch.testing.assert_close(network(other), expected)
    network.symmetric = False
    assert not torch.allclose(network(torch.rot90(patches, 1, (1, 2))), network(patches))


def test_a_prediction_does_not_depend_on_what_is_predicted_beside_it(cohort):
    fitted = predictors.create("shufflenet", encoder="tiny", epochs=1).fit(cohort)
    section = cohort[0].blind()
    whole, one = fitted.predict(section).mean, fitted.predict(section.with_table(section.table[5:6].copy())).mean
    np.testing.assert_allclose(one[0], whole[5], rtol=1e-4, atol=1e-5)


def test_without_differences_the_network_has_to_learn_the_mean(cohort):
    delta, plain = (VitDeltaPredictor(encoder="tiny", epochs=1, lr=0.0, delta=d).fit(cohort) for d in (True, False))
    np.testing.assert_allclose(
        delta.predict(cohort[0].blind()).mean[0], cohort.stack(keys.TARGET).mean(axis=0), rtol=1e-5
    )
    assert not plain.predict(cohort[0].blind()).mean.any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": "large"}, "size of ShufflenetPredictor must be 'paper' or 'small'"),
        ({"fov_um": -1.0}, "fov_um of ShufflenetPredictor must be above 0"),
        ({"encoder": "color"}, "encoder color is no network"),
        ({"encoder": "torchvision_model:squeezenet1_1"}, "does not end in a linear layer"),
    ],
)
def test_what_cannot_be_trained_is_refused(cohort, changes, said):
    with pytest.raises(InputError, match=said):
        predictors.create("shufflenet", **{"encoder": "tiny", "epochs": 1, **changes}).fit(cohort)


def test_unknown_models_are_suggested():
    with pytest.raises(UnknownNameError, match="did you mean 'shufflenet_v2_x0_5'"):
        _ = TorchvisionModel(model="shufflenet_x0_5").card


def test_weights_that_are_not_there_say_where_they_are(cohort, monkeypatch, tmp_path):
    monkeypatch.setenv("HESCRIBE_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataAccessError, match=r"download\.pytorch\.org/models/shufflenetv2"):
        predictors.create("shufflenet", epochs=1).fit(replace(cohort, sections=cohort.sections[:2]))
