"""Processes that share a training learn what one process learns, loss by loss and weight by weight."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hescribe.errors import InputError
from hescribe.train.dist import processes

SCRIPT = Path(__file__).with_name("shared_training.py")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """What is left on one process, and on each of two."""
    folder = tmp_path_factory.mktemp("learned")
    subprocess.run([sys.executable, SCRIPT, str(folder)], check=True, timeout=120)
    return {n: [dict(np.load(folder / f"{number}_of_{n}.npz")) for number in range(n)] for n in (1, 2)}


@pytest.mark.parametrize("name", ["infonce", "siglip", "bleep", "siglip within sections"])
class TestTwoProcesses:
    def test_have_the_loss_of_one_at_every_step(self, learned, name):
        (alone,), together = learned[1], learned[2]
        assert len(alone[f"{name}.losses"]) == 9  # three epochs of three batches
        for process in together:
            np.testing.assert_allclose(process[f"{name}.losses"], alone[f"{name}.losses"], rtol=1e-9)

    @pytest.mark.parametrize("what", ["gradient.", ""], ids=["gradients", "weights"])
    def test_have_what_one_has_of_heads_temperature_and_offset(self, learned, name, what):
        (alone,), together = learned[1], learned[2]
        found = [key for key in alone if key.startswith(f"{name}.{what}") and not key.endswith("losses")]
        assert f"{name}.{what}log_scale" in found
        assert (f"{name}.{what}offset" in found) == name.startswith("siglip")
        for process in together:
            for key in found:
                np.testing.assert_allclose(process[key], alone[key], rtol=1e-7, atol=1e-10, err_msg=key)


def test_rows_are_gathered_in_the_order_of_the_batch(learned):
    assert [int(p["flow.n"]) for p in learned[2]] == [2, 2]
    for process in learned[2]:
        np.testing.assert_array_equal(process["flow.rows"], [0, 1, 2])


def test_the_gradient_of_a_row_is_what_all_processes_want_of_it(learned):
    """Process 0 has rows 0 and 1, process 1 row 2; their losses weigh 1 and 2, together 3."""
    np.testing.assert_array_equal(learned[2][0]["flow.gradient"], [3, 30])
    np.testing.assert_array_equal(learned[2][1]["flow.gradient"], [300])


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes() as number:
        assert number == 0


def test_half_of_what_torchrun_sets_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE is 2 and RANK is not set; start the processes with torchrun"):  # noqa: SIM117 - one line each
        with processes():
            pass


@pytest.mark.slow
def test_a_training_that_lost_a_process_goes_on_to_the_weights_it_would_have_had(tmp_path):
    script = [sys.executable, "-m", "tests.train.killed_training", str(tmp_path)]
    subprocess.run(script, check=True, timeout=120, cwd=SCRIPT.parents[2])
    whole, resumed = ([dict(np.load(tmp_path / f"{name}_{i}.npz")) for i in range(2)] for name in ("whole", "resumed"))
    assert [int(p.pop("n_steps")) for p in (*whole, *resumed)] == [16, 16, 8, 8]  # two epochs were done at the kill
    for process in (*whole[1:], *resumed):
        for key, value in whole[0].items():
            np.testing.assert_array_equal(process[key], value, err_msg=key)
