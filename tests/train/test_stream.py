"""Training from disk learns what training in memory learns, and goes on after a stop as if there had been none."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe.errors import FormatError, InputError, TrainingError  # noqa: E402
from hescribe.train.contrastive import Towers, pair_loss, sigmoid_pair_loss, train_towers  # noqa: E402
from hescribe.train.loop import Recipe  # noqa: E402
from hescribe.train.shards import write_pairs  # noqa: E402
from hescribe.train.stream import train_stream, train_towers_on  # noqa: E402

RECIPE = Recipe(batch_size=16, lr=0.01)


@pytest.fixture
def vectors():
    """Two sections whose image and expression share two directions."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(80, 2))
    x, y = (np.hstack([shared, rng.normal(size=(80, 3))]).astype(np.float16) for _ in range(2))
    return [(x[:50], y[:50]), (x[50:], y[50:])]


@pytest.fixture
def pairs(tmp_path, vectors):
    return write_pairs(tmp_path / "pairs", vectors)


def towers(dropout=0.3):
    torch.manual_seed(0)
    heads = (torch.nn.Sequential(torch.nn.Dropout(dropout), torch.nn.Linear(5, 4)) for _ in range(2))
    return Towers(*heads, unit=True)


def loss_of(network, vectors):
    x, y = (torch.from_numpy(np.concatenate(side).astype(np.float32)) for side in zip(*vectors, strict=True))
    with torch.inference_mode():
        return pair_loss(network.eval().embed_image(x), network.embed_expression(y), 10.0).item()


def test_it_learns_what_pairs_share(pairs, vectors):
    network = towers(0.0)
    before = loss_of(network, vectors)
    train_towers_on(network, pairs, pair_loss, RECIPE, n_epochs=20)
    assert loss_of(network, vectors) < before - 1


def test_a_batch_as_large_as_the_data_takes_the_same_step_as_in_memory(pairs, vectors):
    """One batch of all pairs: their order is all that differs, and no loss depends on it."""
    recipe = Recipe(batch_size=80, lr=0.01)
    x, y = (np.concatenate(side).astype(np.float32) for side in zip(*vectors, strict=True))
    on_disk = train_towers_on(towers(0.0), pairs, pair_loss, recipe, n_epochs=2)
    (in_memory,) = train_towers(
        towers(0.0), x, lambda rows: (torch.from_numpy(y)[rows],), pair_loss, recipe, snapshots=(2,)
    )
    for name, weight in in_memory.items():
        torch.testing.assert_close(on_disk[name], weight, rtol=1e-4, atol=1e-5)


def test_a_loss_that_reads_sections_is_given_them(pairs):
    seen = []

    def loss(image, expression, scale, group):
        seen.append(group)
        return sigmoid_pair_loss(image, expression, scale, -10.0, group=group)

    train_towers_on(towers(), pairs, loss, RECIPE, n_epochs=1, grouped=True)
    assert torch.cat(seen).bincount().tolist() == [50, 30]


def test_a_training_that_was_stopped_ends_with_the_same_weights(pairs, tmp_path):
    """Stopped in the third epoch it goes on after the second: dropout, order and optimiser as if nothing had been."""
    checkpoint, left = tmp_path / "checkpoint.safetensors", [12]

    def stops(*given):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return pair_loss(*given)

    whole = train_towers_on(towers(), pairs, pair_loss, RECIPE, n_epochs=4)
    with pytest.raises(KeyboardInterrupt):  # five batches an epoch
        train_towers_on(towers(), pairs, stops, RECIPE, n_epochs=4, checkpoint=checkpoint)
    steps = [0]

    def counts(*given):
        steps[0] += 1
        return pair_loss(*given)

    resumed = train_towers_on(towers(), pairs, counts, RECIPE, n_epochs=4, checkpoint=checkpoint)
    assert steps == [10]
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight), name
    again = train_towers_on(towers(), pairs, counts, RECIPE, n_epochs=4, checkpoint=checkpoint)
    assert steps == [10]
    assert torch.equal(again["log_scale"], whole["log_scale"])


def test_fewer_epochs_than_were_trained_are_refused(pairs, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train_towers_on(towers(), pairs, pair_loss, RECIPE, n_epochs=2, checkpoint=checkpoint)
    with pytest.raises(InputError, match=r"has had 2 epochs, more than 1; remove it"):
        train_towers_on(towers(), pairs, pair_loss, RECIPE, n_epochs=1, checkpoint=checkpoint)


def test_a_checkpoint_that_is_damaged_or_of_another_network_is_refused(pairs, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train_towers_on(towers(), pairs, pair_loss, RECIPE, n_epochs=1, checkpoint=checkpoint)
    wider = Towers(torch.nn.Linear(5, 9), torch.nn.Linear(5, 9), unit=True)
    with pytest.raises(FormatError, match=r"checkpoint\.safetensors is of another training; remove it"):
        train_towers_on(wider, pairs, pair_loss, RECIPE, n_epochs=2, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(FormatError, match=r"checkpoint\.safetensors is damaged; remove it to train from the start"):
        train_towers_on(towers(), pairs, pair_loss, RECIPE, n_epochs=2, checkpoint=checkpoint)


def test_a_loss_that_is_not_finite_names_epoch_and_step_and_keeps_what_was_good():
    network = torch.nn.Linear(2, 1)

    def batches(epoch):
        yield (torch.ones(3, 2),)
        yield (torch.full((3, 2), torch.nan if epoch == 2 else 1.0),)

    with pytest.raises(TrainingError, match="the loss is nan at epoch 2, step 1") as raised:
        train_stream(network, lambda x: network(x).square().mean(), batches, Recipe(), n_epochs=3)
    assert all(w.isfinite().all() for w in raised.value.weights.values())
