"""The contract of an image encoder. Import the class into a test module, and every registered one is tested.

>>> from hescribe.testing.encoders import TestEncoderContract, encoder  # in your test module
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from hescribe.cards import EncoderCard
from hescribe.encode import accelerate, base
from hescribe.encode.base import ImageEncoder, encoders
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.registry import Registry

TINY_CARD = """
[card]
name = "tiny"
revision = "1"
px = 32
n_dims = 16
licence = "none"
paper = "none: random weights"

[network]
architecture = "vit_tiny_patch16_224"
pooling = "{pooling}"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]

[network.arguments]
img_size = 32
depth = 1
embed_dim = {width}
num_heads = 1
reg_tokens = 2
"""


def write_tiny_timm(folder: Path) -> dict[str, str]:
    """Write random weights of timm's smallest test network; return the parameters that use them."""
    import timm  # noqa: PLC0415 - heavy
    import torch  # noqa: PLC0415 - heavy
    from safetensors.torch import save_file  # noqa: PLC0415 - heavy

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "timm.safetensors")
    return {"model": "test_resnet", "weights": str(folder / "timm.safetensors")}


def write_tiny_torchvision(folder: Path) -> dict[str, str]:
    """Write random weights of the smallest torchvision classifier here; return the parameters that use them."""
    import torch  # noqa: PLC0415 - heavy
    from safetensors.torch import save_file  # noqa: PLC0415 - heavy
    from torchvision import models  # noqa: PLC0415 - heavy

    torch.manual_seed(0)
    module = models.get_model("shufflenet_v2_x0_5")
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):  # as drawn, signals die out on their way
            torch.nn.init.kaiming_normal_(layer.weight)
    save_file(module.state_dict(), folder / "torchvision.safetensors")
    return {"model": "shufflenet_v2_x0_5", "weights": str(folder / "torchvision.safetensors")}


def write_tiny_card(folder: Path, pooling: str = "token") -> dict[str, str]:
    """Write the card and random weights of a small vision transformer; return the parameters that use them."""
    import torch  # noqa: PLC0415 - heavy
    from safetensors.torch import save_file  # noqa: PLC0415 - heavy

    from hescribe.encode._transformers import TokenAndMean, empty  # noqa: PLC0415 - heavy

    text = TINY_CARD.format(pooling=pooling, width=16 if pooling == "token" else 8)
    torch.manual_seed(0)
    module: Any = empty(tomllib.loads(text)["network"])
    trunk = module.trunk if isinstance(module, TokenAndMean) else module
    torch.nn.init.normal_(trunk.cls_token)
    save_file(trunk.state_dict(), folder / "tiny.safetensors")
    (folder / "tiny.toml").write_text(text)
    return {"model": str(folder / "tiny.toml"), "weights": str(folder / "tiny.safetensors")}


@dataclass(kw_only=True)
class Tiny(Params):
    """An untrained network of 600 weights."""

    name: ClassVar[str] = "tiny"
    card: ClassVar[EncoderCard] = EncoderCard(
        name="tiny", revision="1", px=12, n_dims=4, fov_um=(200.0,), licence="none", paper="none"
    )

    def network(self) -> accelerate.Network:
        """Return the network."""
        from torch import nn  # noqa: PLC0415 - heavy

        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        with seeded(0):
            layers = (
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(8, 4),
            )  # fmt: skip
            return accelerate.Network(nn.Sequential(*layers).eval(), self.card.px, (127.0,) * 3, (64.0,) * 3)

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return the features in float32, whatever way is fastest here."""
        from hescribe.encode.trainable import TrainableEncoder  # noqa: PLC0415 - imports torch

        return TrainableEncoder(self.network()).embed([patches])


@contextmanager
def tiny_encoder() -> Iterator[None]:
    """Let ``create_encoder("tiny")`` give the smallest network there is, beside the registered encoders."""

    class WithTiny(Registry[ImageEncoder]):
        def get(self, name: str) -> type[ImageEncoder]:
            return Tiny if name == "tiny" else super().get(name)

        def __contains__(self, name: object) -> bool:
            return name == "tiny" or super().__contains__(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "encoders", WithTiny(encoders.kind, encoders.package))
        yield


OFFLINE = {  # small stand-ins for downloads
    "timm_model": write_tiny_timm,
    "torchvision_model": write_tiny_torchvision,
    "hub_model": write_tiny_card,
}


def tissue_like(n: int, px: int) -> np.ndarray:
    """Return smooth random patches in the colours of H&E, shape ``(n, px, px, 3)`` uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.normal((200, 150, 190), 30, (n, 12, 12, 3)).clip(0, 255).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(patch).resize((px, px), Image.Resampling.BICUBIC)) for patch in coarse])


@pytest.fixture(scope="module", params=list(encoders))
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    """Return each registered encoder, with small random weights where its own must be downloaded."""
    name = request.param
    params = OFFLINE[name](tmp_path_factory.mktemp(name)) if name in OFFLINE else {}
    return encoders.create(name, **params)


class TestEncoderContract:
    """What every encoder, present and future, must do."""

    def test_card_is_complete(self, encoder: ImageEncoder) -> None:
        """Licence, paper, sizes and a field of view are stated."""
        card = encoder.card
        assert all((card.name, card.revision, card.licence, card.paper))
        assert card.px > 0
        assert card.n_dims > 0
        assert card.fov_um
        assert min(card.fov_um) > 0

    def test_parameters_make_the_same_encoder(self, encoder: ImageEncoder) -> None:
        """What get_params returns is enough to build it again."""
        again = encoders.create(encoder.name, **encoder.get_params())
        assert again == encoder
        assert again.card == encoder.card

    def test_returns_one_finite_row_per_patch(self, encoder: ImageEncoder) -> None:
        """The length of a row is the card's."""
        found = encoder.encode(tissue_like(3, encoder.card.px))
        assert found.shape == (3, encoder.card.n_dims)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()

    def test_no_patches_give_no_rows(self, encoder: ImageEncoder) -> None:
        """An empty section is no special case for the caller."""
        assert encoder.encode(tissue_like(1, encoder.card.px)[:0]).shape == (0, encoder.card.n_dims)

    def test_leaves_its_input_alone(self, encoder: ImageEncoder) -> None:
        """The patches are only read, so that frozen ones will do."""
        patches = tissue_like(2, encoder.card.px)
        before = patches.copy()
        patches.setflags(write=False)
        encoder.encode(patches)
        np.testing.assert_array_equal(patches, before)

    def test_same_patches_give_the_same_rows(self, encoder: ImageEncoder) -> None:
        """There is no randomness in it."""
        patches = tissue_like(3, encoder.card.px)
        np.testing.assert_array_equal(encoder.encode(patches), encoder.encode(patches))

    def test_different_patches_give_different_rows(self, encoder: ImageEncoder) -> None:
        """The image matters."""
        found = encoder.encode(tissue_like(2, encoder.card.px))
        assert np.abs(found[0] - found[1]).max() > 1e-6

    def test_a_row_depends_on_its_own_patch_only(self, encoder: ImageEncoder) -> None:
        """Neither the number nor the order of the other patches changes it."""
        patches = tissue_like(5, encoder.card.px)
        together = encoder.encode(patches)
        size = np.abs(together).max()
        alone = np.concatenate([encoder.encode(patches[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4 * size)
        np.testing.assert_allclose(encoder.encode(patches[::-1])[::-1], together, rtol=1e-4, atol=1e-4 * size)

    @pytest.mark.parametrize("wrong", ["float", "four channels", "another size", "one patch", "a list"])
    def test_refuses_what_is_no_patch(self, encoder: ImageEncoder, wrong: str) -> None:
        """The message says what it reads and what it got."""
        patches = tissue_like(2, encoder.card.px)
        given: Any = {
            "float": patches / 255,
            "four channels": np.concatenate([patches, patches[..., :1]], axis=-1),
            "another size": patches[:, ::2],
            "one patch": patches[0],
            "a list": patches.tolist(),
        }[wrong]
        with pytest.raises(InputError, match="reads uint8 patches of shape"):
            encoder.encode(given)
