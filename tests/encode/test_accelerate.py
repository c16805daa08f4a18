"""The fastest way to run a network is taken only where it is faithful."""

import importlib.util
import math
import socket
from dataclasses import dataclass
from typing import Any, ClassVar

import huggingface_hub
import numpy as np
import pytest
import torch
from torch import nn

from hescribe.cards import EncoderCard
from hescribe.encode import _backends, accelerate
from hescribe.encode.accelerate import Network, agreement, describe, describe_ways, try_ways
from hescribe.encode.color import Color
from hescribe.params import Params
from hescribe.testing.encoders import tissue_like

needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is not installed")


def small_network() -> Network:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Network(layers.eval(), 32, (127.0, 120.0, 130.0), (64.0, 60.0, 66.0))


@dataclass(kw_only=True)
class Small(Params):
    """A network encoder of a few weights."""

    name: ClassVar[str] = "small"
    card: ClassVar[EncoderCard] = EncoderCard(
        name="small", revision="1", px=32, n_dims=32, licence="none", paper="none"
    )
    salt: int = 0  # tells the encoders of different tests apart

    def network(self) -> Network:
        return small_network()


@pytest.fixture
def patches() -> np.ndarray:
    return tissue_like(11, 32)


def by_hand(network: Network, patches: np.ndarray) -> np.ndarray:
    x = (patches.astype(np.float32) - np.float32(network.mean)) / np.float32(network.std)
    with torch.inference_mode():
        return network.module(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()


@pytest.mark.parametrize("way", ["plain", "torch_fp32", pytest.param("openvino_fp32", marks=needs_openvino)])
def test_float32_ways_scale_the_pixels_and_keep_the_order(way, patches):
    network = small_network()
    expected = by_hand(network, patches)
    np.testing.assert_allclose(getattr(_backends, way)(network)(patches), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near(patches):
    network = small_network()
    expected = by_hand(network, patches)
    assert agreement(_backends.torch_bf16(network)(patches), expected)[0] > 0.999


@needs_openvino
def test_openvino_is_taken_where_it_is_installed(patches, monkeypatch):
    monkeypatch.setattr(accelerate, "_missing", lambda: ("no GPU", "no bfloat16", ""))
    encoder = Small(salt=1)
    assert accelerate.backend(encoder) == "not chosen yet"
    accelerate.encode(encoder, patches)
    assert accelerate.backend(encoder) == "openvino fp32"


@needs_openvino
def test_the_conversion_reports_to_nobody(monkeypatch):
    import openvino_telemetry  # noqa: PLC0415 - comes with openvino

    def phone_home(*_args: object, **_kwargs: object):
        raise AssertionError

    monkeypatch.setattr(openvino_telemetry.Telemetry, "__init__", phone_home)
    _backends.openvino_fp32(small_network())


def test_an_unfaithful_way_is_not_taken(patches, monkeypatch):
    def noisy(_network: Network) -> Any:
        return lambda p: _backends.plain(small_network())(p) + np.random.default_rng(0).normal(0, 0.1, (len(p), 32))

    monkeypatch.setattr(accelerate, "_missing", lambda: ("no GPU", "no bfloat16", ""))
    monkeypatch.setattr(_backends, "openvino_fp32", noisy)
    encoder = Small(salt=2)
    accelerate.encode(encoder, patches)
    assert accelerate.backend(encoder) == "torch fp32 channels last"
    row = next(row for row in describe_ways(encoder, patches) if row["backend"] == "openvino fp32")
    assert not row["used"]
    assert row["reason"].startswith("cosine to fp32 0.8")
    assert row["images_per_s"] > 0


@pytest.mark.parametrize("fault", ["raises", "is not finite"])
def test_a_failing_way_is_passed_over_and_reported(patches, monkeypatch, fault):
    def broken(_network: Network) -> Any:
        if fault == "raises":
            raise RuntimeError("first line\nlayer 3 is not supported")
        return lambda p: np.full((len(p), 32), np.nan)

    monkeypatch.setattr(accelerate, "_missing", lambda: ("no GPU", "no bfloat16", ""))
    monkeypatch.setattr(_backends, "openvino_fp32", broken)
    trials = {trial.backend: trial for trial in try_ways(small_network(), patches)}
    assert trials["openvino fp32"].reason
    if fault == "raises":
        assert trials["openvino fp32"].reason == "failed: layer 3 is not supported"
    assert trials["torch fp32"].reason == ""


def test_the_plain_way_is_always_there(patches, monkeypatch):
    monkeypatch.setattr(accelerate, "_missing", lambda: ("no GPU", "no bfloat16", "not installed"))
    monkeypatch.setattr(_backends, "torch_fp32", lambda _network: lambda p: np.zeros((len(p), 32)))
    rows = describe_ways(Small(salt=3), patches)
    assert [row["backend"] for row in rows if row["used"]] == ["torch fp32"]
    assert next(row["reason"] for row in rows if row["backend"] == "openvino fp32") == "not installed"


def test_describe_measures_and_names_one_way(patches):
    rows = describe_ways(Small(salt=4), patches)
    assert sum(row["used"] for row in rows) == 1
    assert {row["encoder"] for row in rows} == {"small"}
    for row in rows:
        assert (row["images_per_s"] is None) == (row["cosine_mean"] is None) == (row["cosine_min"] is None)
        assert row["reason"] or row["cosine_mean"] >= accelerate.MEAN_COSINE


def test_agreement_counts_the_worst_patch():
    x = np.eye(4)
    y = x.copy()
    y[3] = [0, 0, 1, 0]  # at a right angle
    assert agreement(y, x) == (0.75, 0.0)
    assert all(math.isnan(v) for v in agreement(np.full((1, 2), np.nan), np.ones((1, 2))))


def test_the_probe_is_spread_over_the_patches():
    patches = np.arange(100).reshape(100, 1, 1, 1)
    found = accelerate.probe(patches).ravel()
    assert len(found) == 8
    assert (found[0], found[-1]) == (0, 99)
    assert accelerate.probe(patches[:3]).ravel().tolist() == [0, 1, 2]


def test_an_encoder_that_is_no_network_runs_in_numpy():
    assert accelerate.backend(Color()) == "numpy"


def test_describe_says_of_every_encoder_whether_it_runs_now(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a look at the machine reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_a, **_k: None)
    rows = describe()
    used = {row["encoder"]: row for row in rows if row["used"]}
    assert used.keys() == {"color", "look", "efficientnet_lite0"}
    assert used["color"]["backend"] == "numpy"
    assert all(row["images_per_s"] > 0 for row in used.values())
    (uni2,) = (row for row in rows if row["encoder"] == "hub_model(uni2)")
    assert "https://huggingface.co/MahmoodLab/UNI2-h" in uni2["reason"]
    assert "hf auth login" in uni2["reason"]
