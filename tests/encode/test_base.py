"""Encoders are named in one word, the generic ones with their model."""

import pytest

from hescribe.encode.base import create_encoder
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError, UnknownNameError


def test_a_generic_encoder_takes_its_model_after_a_colon():
    assert create_encoder("hub_model:phikon").card.name == "phikon"
    assert create_encoder("hub_model:uni").card.n_dims == 1024


def test_a_predictor_can_name_any_model_of_the_hub(cohort):
    inputs = SpotInputs(encoder="hub_model:uni", fov_um=None, n_rings=1, standardise="train")
    assert inputs.view_um(cohort) == max(create_encoder("hub_model:uni").card.fov_um) + 2 * 200


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("colour", UnknownNameError, "did you mean 'color'"),
        ("color:x", InputError, "has no parameter 'model'"),
        ("hub_model:unii", InputError, "uni"),
    ],
)
def test_a_wrong_name_is_refused(name, error, message):
    with pytest.raises(error, match=message):
        _ = create_encoder(name).card
