"""Encoders that are trained with what stands behind them."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hescribe.encode.accelerate import Network
from hescribe.encode.trainable import LowRank, TrainableEncoder, add_low_rank, augment, load_trained, trained_weights
from hescribe.errors import FormatError, InputError
from hescribe.train.loop import Recipe, seeded, train_network

PX = 12


def network(seed=0):
    """Return a small untrained network with batch normalisation."""
    with seeded(seed):
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )  # fmt: skip
    return Network(module.eval(), PX, (127.0,) * 3, (64.0,) * 3)


def textured(n, seed):
    """Return patches of any colour with a checkerboard on them, and how strong it is."""
    rng = np.random.default_rng(seed)
    strength = rng.uniform(0, 1, n)
    board = np.indices((PX, PX)).sum(axis=0) % 2 - 0.5
    x = rng.uniform(90, 160, (n, 1, 1, 3)) + 60 * strength[:, None, None, None] * board[None, :, :, None]
    return (x + rng.normal(0, 12, x.shape)).clip(0, 255).astype(np.uint8), strength.astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def fitted():
    """Encoders after training on 300 spots: all weights, the thin matrices, or only what stands behind."""
    return {how: train(how) for how in ("full", "low_rank", "frozen")}


def train(how):
    encoder = TrainableEncoder(network(), tuning="full" if how == "frozen" else how, rank=4, jitter=0.1)
    if how == "frozen":
        encoder.requires_grad_(requires_grad=False)
    with seeded(1):
        whole = nn.Sequential(encoder, nn.Linear(4, 1))
    x, y = (torch.from_numpy(a) for a in textured(300, 2))
    recipe = Recipe(batch_size=50, lr=1e-2, shares=() if how == "frozen" else (("0.", 0.5),))
    train_network(whole, lambda a, b: nn.functional.mse_loss(whole(a), b), (x, y), recipe, snapshots=(25,))
    return whole


def correlation(whole):
    x, y = textured(200, 3)
    with torch.inference_mode():
        predicted = whole[1](torch.from_numpy(whole[0].embed([x]))).numpy()
    return np.corrcoef(predicted[:, 0], y[:, 0])[0, 1]


def test_training_the_encoder_finds_what_frozen_features_do_not_show(fitted):
    assert correlation(fitted["full"]) > 0.9
    assert correlation(fitted["frozen"]) < 0.3


def test_the_same_seed_trains_the_same_encoder(fitted):
    again = trained_weights(train("full")[0])
    for name, weights in trained_weights(fitted["full"][0]).items():
        np.testing.assert_array_equal(again[name], weights)


def test_batch_normalisation_keeps_its_statistics(fitted):
    for whole in fitted.values():
        layer = next(m for m in whole.train().modules() if isinstance(m, nn.BatchNorm2d))
        assert not layer.training
        np.testing.assert_array_equal(layer.running_mean, np.zeros(8))
        assert int(layer.num_batches_tracked) == 0


def test_an_embedding_does_not_depend_on_its_batch(fitted):
    x, _ = textured(21, 4)
    encoder = fitted["full"][0]
    whole = encoder.embed([x])
    np.testing.assert_array_equal(encoder.embed([x[:5], x[5:]])[::-1], encoder.embed([x[::-1]]))
    np.testing.assert_array_equal(encoder.embed([x[20:]])[0], whole[20])


@pytest.mark.parametrize("how", ["full", "low_rank"])
def test_trained_weights_are_put_back_strictly(fitted, how):
    x, _ = textured(5, 5)
    encoder, weights = fitted[how][0], trained_weights(fitted[how][0])
    restored = TrainableEncoder(network(), tuning=how, rank=4)
    load_trained(restored, weights)
    np.testing.assert_array_equal(restored.embed([x]), encoder.embed([x]))
    name = next(iter(weights))
    for damaged in (
        {k: v for k, v in weights.items() if k != name}, weights | {"more": np.ones(1)},
        weights | {name: np.ones((1, 2, 3))},
    ):  # fmt: skip
        with pytest.raises(FormatError, match="not those of this network"):
            load_trained(restored, damaged)


def test_low_rank_changes_start_as_the_network_and_leave_its_weights_alone(fitted):
    x, _ = textured(6, 6)
    plain, changed = (TrainableEncoder(network(), tuning=t, rank=4) for t in ("full", "low_rank"))
    np.testing.assert_array_equal(changed.embed([x]), plain.embed([x]))
    trained = fitted["low_rank"][0]
    assert not np.allclose(trained.embed([x]), plain.embed([x]))
    own = network().module
    np.testing.assert_array_equal(trained.scaled.module[7].layer.weight.detach(), own[7].weight.detach())
    # a 1 x 1 convolution 8 to 8 and a linear layer 8 to 4, rank 4: 4 * (8 + 8) + 4 * (8 + 4)
    assert sum(w.size for w in trained_weights(trained).values()) == 112


def test_low_rank_changes_keep_the_stride_of_a_convolution():
    layer = nn.Conv2d(3, 5, 1, stride=2)
    x = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(LowRank(layer, 2)(x), layer(x))


def test_low_rank_changes_leave_attention_that_reads_weights_itself_alone():
    assert add_low_rank(nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 8)), 2) == 1


def test_refuses_low_rank_changes_where_there_is_no_place_for_them():
    only = Network(nn.Sequential(nn.Conv2d(3, 4, 3)), PX, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(InputError, match="choose tuning='full'"):
        TrainableEncoder(only, tuning="low_rank")


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"jitter": 1.0}, {"jitter": -0.1}])
def test_refuses_numbers_out_of_their_limits(wrong):
    with pytest.raises(InputError, match="rank must be at least 1 and jitter in"):
        TrainableEncoder(network(), **wrong)


def test_refuses_to_train_an_encoder_that_is_no_network():
    with pytest.raises(InputError, match="color is no network"):
        TrainableEncoder.of("color", tuning="full", rank=8, jitter=0.2)


def test_a_registered_network_can_be_trained():
    encoder = TrainableEncoder.of("efficientnet_lite0", tuning="low_rank", rank=2, jitter=0.2)
    n_all, n_trained = (sum(p.numel() for p in encoder.parameters() if p.requires_grad or every) for every in (1, 0))
    assert 0 < n_trained < 0.05 * n_all


class TestAugmentation:
    def test_shows_every_turn_and_mirror_and_nothing_else(self):
        patch = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
        ways = {np.rot90(p, k).tobytes() for p, k in itertools.product((patch, patch[:, ::-1]), range(4))}
        with seeded(0):
            seen = augment(torch.from_numpy(np.tile(patch, (200, 1, 1, 1))), 0.0)
        assert {p.numpy().astype(np.uint8).tobytes() for p in seen} == ways

    def test_recolours_within_bounds_and_leaves_no_black_corner(self):
        grey = torch.full((500, 4, 4, 3), 100, dtype=torch.uint8)
        with seeded(1):
            seen = augment(grey, 0.2)
        assert seen.min() >= 80
        assert seen.max() <= 120
        assert seen.std() > 5

    def test_saturation_pulls_colours_to_grey_by_hand(self, monkeypatch):
        """All three factors are 0.5: 200, 100, 0 becomes 100, 50, 0, then 75, 50, 25, then its mean with grey."""
        monkeypatch.setattr(torch, "rand", lambda *shape: torch.zeros(shape))
        seen = augment(torch.tensor([[[[200, 100, 0]]]], dtype=torch.uint8), 0.5)
        grey = 0.299 * 75 + 0.587 * 50 + 0.114 * 25
        np.testing.assert_allclose(seen[0, 0, 0], [(75 + grey) / 2, (50 + grey) / 2, (25 + grey) / 2], rtol=1e-5)

    def test_is_off_outside_training(self):
        x, _ = textured(3, 7)
        encoder = TrainableEncoder(network(), jitter=0.5)
        np.testing.assert_array_equal(encoder.embed([x]), encoder.embed([x]))
