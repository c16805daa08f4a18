"""Pairs on disk: every one once an epoch, in an order that repeats and mixes sections; and folders that are damaged."""

import json

import numpy as np
import pytest
import torch

from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.train import shards
from hescribe.train.shards import PairShards, write_pairs

N_ROWS = (40, 7, 25)


def parts(n_rows=N_ROWS):
    """Image vectors that hold section and row, and expression vectors that hold their negatives and a third number."""
    for section, n in enumerate(n_rows):
        image = np.column_stack([np.full(n, section), np.arange(n)]).astype(float)
        yield image, np.column_stack([-image, np.zeros(n)])


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Three sections in blocks of 4 rows, of which 5 are held in memory."""
    monkeypatch.setattr(shards, "BLOCK", 4)
    monkeypatch.setattr(shards, "POOL", 5)
    return write_pairs(tmp_path / "pairs", parts(), key="made so")


def all_of(pairs, *, seed=0, epoch=1, batch_size=8):
    return [np.column_stack(batch) for batch in pairs.batches(batch_size, seed=seed, epoch=epoch)]


def test_an_epoch_holds_every_pair_once_and_halves_stay_together(pairs):
    found = np.concatenate(all_of(pairs))
    assert sorted(map(tuple, found[:, :2])) == [(s, r) for s, n in enumerate(N_ROWS) for r in range(n)]
    np.testing.assert_array_equal(found[:, 2:4], -found[:, :2])
    np.testing.assert_array_equal(found[:, 5], found[:, 0])  # the number of the shard


def test_all_batches_but_the_last_are_full(pairs):
    assert [len(batch) for batch in all_of(pairs)] == [8] * 9
    assert [len(batch) for batch in all_of(pairs, batch_size=50)] == [50, 22]
    assert [len(batch) for batch in all_of(pairs, batch_size=100)] == [72]


def test_seed_and_epoch_fix_the_order(pairs):
    first, again = all_of(pairs), all_of(PairShards.open(pairs.folder))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    for other in (all_of(pairs, epoch=2), all_of(pairs, seed=1)):
        assert not np.array_equal(np.concatenate(first), np.concatenate(other))


def test_batches_mix_sections_and_rows_that_do_not_lie_side_by_side(pairs):
    batch = all_of(pairs)[0]
    assert len(set(batch[:, 0])) > 1
    assert (np.abs(np.diff(batch[:, 1])) > 4).any()


def test_for_a_loss_within_sections_a_batch_holds_several_spots_of_each(tmp_path, monkeypatch):
    """Of 40 sections a batch of 16 would else hold half a spot each, and nothing to tell it from."""
    monkeypatch.setattr(shards, "FEW", 3)
    pairs = write_pairs(tmp_path / "pairs", parts((16,) * 40))
    batches = [batch[2] for batch in pairs.batches(16, seed=0, epoch=1, few_sections=True)]
    assert [len(batch) for batch in batches] == [16] * 40
    assert max(len(batch.unique()) for batch in batches) <= 3
    assert sorted(torch.cat(batches).tolist()) == sorted(list(range(40)) * 16)
    assert max(len(b[2].unique()) for b in pairs.batches(16, seed=0, epoch=1)) > 8


def test_a_section_without_spots_holds_no_pairs(tmp_path):
    assert len(write_pairs(tmp_path / "pairs", parts((3, 0, 2)))) == 5
    with pytest.raises(InputError, match="no pair to write"):
        write_pairs(tmp_path / "none", parts((0, 0)))
    assert not (tmp_path / "none").exists()


def test_what_is_written_is_found_again(pairs):
    assert PairShards.open(pairs.folder) == pairs


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ((np.ones((3, 2)), np.ones((2, 3))), "section 1 has 3 image vectors and 2 expression vectors"),
        ((np.ones((3, 4)), np.ones((3, 3))), r"of section 1 have widths \(4, 3\), and those before it \(2, 3\)"),
        ((np.ones((3, 2)), np.full((3, 3), np.nan)), "expression vectors of section 1 are not finite"),
        ((np.full((3, 2), 1e5), np.ones((3, 3))), "image vectors of section 1 are not finite or beyond 65504"),
    ],
)
def test_refuses_what_makes_no_pairs_and_leaves_nothing_behind(tmp_path, part, told):
    with pytest.raises(InputError, match=told):
        write_pairs(tmp_path / "pairs", [*parts((3,)), part])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and holds no pairs; give a new folder"):
        write_pairs(tmp_path, parts())


def truncate(folder):
    path = folder / "00001.image.npy"
    path.write_bytes(path.read_bytes()[:-3])


def transpose(folder):
    np.save(folder / "00001.image.npy", np.zeros((2, 7), dtype=np.float16))


def widen(folder):
    np.save(folder / "00001.image.npy", np.zeros((7, 2), dtype=np.float32))


def lose(folder):
    (folder / "00001.image.npy").unlink()


def cut_index(folder):
    (folder / "pairs.json").write_text('{"n_rows": [40')


def change_format(folder):
    index = json.loads((folder / "pairs.json").read_text())
    (folder / "pairs.json").write_text(json.dumps(index | {"format": 99}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncate, r"00001\.image\.npy is missing or damaged; remove"),
        (transpose, r"00001\.image\.npy holds float16 of shape \(2, 7\), expected float16 of shape \(7, 2\)"),
        (widen, r"00001\.image\.npy holds float32"),
        (lose, r"00001\.image\.npy is missing or damaged"),
        (cut_index, r"pairs\.json is damaged"),
        (change_format, "is not of format 1"),
    ],
)
def test_damage_is_named_with_its_file(pairs, damage, told):
    damage(pairs.folder)
    with pytest.raises(FormatError, match=told):
        PairShards.open(pairs.folder)


def test_a_folder_without_pairs_is_named(tmp_path):
    with pytest.raises(DataAccessError, match=r"holds no pairs: pairs\.json cannot be read"):
        PairShards.open(tmp_path)


def test_donors_of_uneven_size_share_every_batch(tmp_path):
    """Eight sections of one donor and a small one of another: without balance a batch has 3 % of the second."""
    sides = [np.full((600, 2), i, dtype=np.float32) for i in range(8)] + [np.full((150, 2), 8.0, dtype=np.float32)]
    pairs = write_pairs(tmp_path / "pairs", [(x, x) for x in sides])
    donors = np.array(["A"] * 8 + ["B"])
    found = [(x, shard) for x, _, shard in pairs.batches(64, seed=0, epoch=1, balance=donors)]
    for x, shard in found:
        np.testing.assert_array_equal(x[:, 0].numpy(), shard.numpy())  # its vectors are still those of its section
    of_b = np.array([(shard == 8).sum().item() for _, shard in found[:-1]])
    assert np.abs(of_b - 32).max() <= 1
    as_they_come = [(shard == 8).sum().item() for *_, shard in pairs.batches(64, seed=0, epoch=1)]
    assert sum(as_they_come) == 150


def test_an_epoch_of_even_donors_goes_on_as_it_began(tmp_path):
    x = np.arange(4000, dtype=np.float32).reshape(-1, 2) / 4
    pairs = write_pairs(tmp_path / "pairs", [(x[:1500], x[:1500]), (x[1500:], x[1500:])])
    donors = np.array(["A", "B"])
    one, same, next_ = (
        torch.cat([s for _, _, s in pairs.batches(64, seed=0, epoch=e, balance=donors)]) for e in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, next_)
