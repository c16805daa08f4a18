"""Aligners that train their image encoder: on 300 spots, whose expression is in a texture."""

import numpy as np
import pytest
import torch
from tests.align.held_out import auc

from hescribe.align.base import aligners
from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.data.cohort import Cohort
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import FormatError, InputError
from hescribe.testing.cohorts import textured_section
from hescribe.testing.encoders import tiny_encoder

SMALL = {
    "encoder": "tiny", "gene_encoder": PCAEncoder(n_dims=4), "n_dims": 16, "epochs": 20, "lr": 3e-3, "batch_size": 50,
}  # fmt: skip
TRAINED = SMALL | {"frozen": False, "jitter": 0.1}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Register the network, beside those there are."""
    with tiny_encoder():
        yield


@pytest.fixture(scope="module")
def train():
    return Cohort(tuple(textured_section(i, f"D{i}")[0] for i in range(3)))


@pytest.fixture(scope="module")
def test():
    return Cohort((textured_section(9, "new")[0],))


@pytest.fixture(scope="module")
def fitted(train, tiny):
    """An aligner with all weights of the encoder trained, and one with low-rank changes to them."""
    low_rank = {"tuning": "low_rank", "rank": 2, "epochs": 2}
    return {
        "full": aligners.create("siglip", **TRAINED).fit(train),
        "low_rank": aligners.create("siglip", **TRAINED | low_rank).fit(train),
    }


def test_training_the_encoder_finds_what_frozen_features_do_not_show(train, test, fitted):
    frozen = aligners.create("siglip", **SMALL).fit(train)
    assert auc(fitted["full"], test) > max(auc(frozen, test) + 0.05, 0.78)


@pytest.mark.parametrize("name", ["infonce", "bleep", "mclstexp"])
def test_training_begins_with_what_the_frozen_encoder_gives(name, train, test, tiny):
    """With steps of 0 both are the same network."""
    still = {"lr": 0.0, "weight_decay": 0.0, "epochs": 1, "batch_size": 300}
    frozen, trained = (aligners.create(name, **SMALL | still, frozen=f).fit(train) for f in (True, False))
    section = test[0].blind()
    np.testing.assert_allclose(trained.embed_image(section), frozen.embed_image(section), atol=1e-3)
    np.testing.assert_array_equal(trained.embed_expression(test[0]), frozen.embed_expression(test[0]))


@pytest.mark.parametrize("way", ["full", "low_rank"])
def test_what_was_trained_survives_saving_and_is_put_back_strictly(way, test, fitted):
    aligner, section = fitted[way], test[0].blind()
    arrays, plain = split_fitted(aligner.get_fitted())
    restored = aligner.with_params().set_fitted(join_fitted(arrays, plain))
    np.testing.assert_array_equal(restored.embed_image(section), aligner.embed_image(section))
    lost = next(name for name in arrays if name.startswith("image_weights_/encoder."))
    less = {name: array for name, array in arrays.items() if name != lost}
    with pytest.raises(FormatError, match="not those of this network"):
        aligner.with_params().set_fitted(join_fitted(less, plain)).embed_image(section)


def test_low_rank_changes_are_all_that_is_saved_of_the_encoder(fitted):
    names = [name for name in fitted["low_rank"].image_weights_ if name.startswith("encoder.")]
    assert sorted(name.rsplit(".", 2)[-2] for name in names) == ["down", "up"]


@pytest.mark.parametrize("tuning", ["full", "low_rank"])
def test_a_process_that_has_no_spot_of_a_batch_takes_part_with_gradients_of_zero(tuning, train, tiny):
    """The last batch may be smaller than there are processes: see ``train.dist.own_part``."""
    aligner = aligners.create("siglip", **TRAINED | {"tuning": tuning})
    tower = aligner.images().start(train).tower().train()
    embedded = tower(torch.arange(0))
    embedded.sum().backward()
    assert embedded.shape == (0, 16)
    assert all(p.grad is not None and not p.grad.any() for p in tower.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "color", "fov_um": (112.0,)}, "color is no network and cannot be trained"),
        ({"fov_um": (112.0, 224.0)}, "patches of one size; give one fov_um"),
        ({"n_rings": 1}, "n_rings of .* has no effect with frozen=False"),
        ({"standardise": "section"}, "standardise of .* has no effect with frozen=False"),
        ({"frozen": True}, "jitter of .* has no effect with frozen=True"),
        ({"rank": 0}, "rank of .* must be at least 1"),
    ],
)
def test_refuses_what_makes_no_sense(changes, message, train, tiny):
    with pytest.raises(InputError, match=message):
        aligners.create("infonce", **TRAINED | changes).fit(train)
