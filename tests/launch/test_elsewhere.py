"""Ray and Slurm give the rows that threads give: a real cluster of two nodes, and submitit's stand-ins for a queue."""

from types import SimpleNamespace

import pytest
from tests.launch.conftest import run

from hescribe.bench.runs import Unit
from hescribe.bench.suite import plan_study
from hescribe.errors import DataAccessError, HescribeError
from hescribe.launch import slurm
from hescribe.launch.ray import RayLauncher
from hescribe.launch.slurm import Share, SlurmLauncher

pytestmark = pytest.mark.filterwarnings("ignore")  # of ray and submitit


def test_jobs_in_this_process_give_the_rows_that_threads_give(study, in_threads):
    _, rows = run(study, SlurmLauncher(cluster="debug", n_jobs=2))
    assert rows.equals(in_threads)


def test_without_a_queue_there_is_an_error(study):
    with pytest.raises(DataAccessError, match="log in where sbatch runs"):
        run(study, SlurmLauncher())


def test_a_job_that_is_taken_away_goes_on_with_the_same_units():
    again = Share().checkpoint("folder", "out", ["a", "b"])
    assert (type(again.function), again.args) == (Share, ("folder", "out", ["a", "b"]))


def test_a_lost_job_is_submitted_again_with_what_is_left_of_it(study, monkeypatch):
    submitted, submit = [], SlurmLauncher._submit

    def lose_first(self, executor, units, out):
        submitted.append(len(units))
        for share, how in submit(self, executor, units[: 5 if len(submitted) == 1 else None], out):
            yield share, how or "NODE_FAIL"

    monkeypatch.setattr(SlurmLauncher, "_submit", lose_first)
    monkeypatch.setattr(slurm, "POLL_S", 0)
    run(study, SlurmLauncher(cluster="debug", n_jobs=2))
    assert submitted == [36, 31]


def test_the_error_of_a_unit_is_raised_here(study, monkeypatch):
    monkeypatch.setattr(slurm, "finish_there", lambda *_: ("DataAccessError", "the disk is full"))
    with pytest.raises(DataAccessError, match="the disk is full"):
        run(study, SlurmLauncher(cluster="debug", n_jobs=2))


@pytest.mark.slow
def test_jobs_in_processes_give_the_rows_that_threads_give(study, in_threads):
    _, rows = run(study, SlurmLauncher(cluster="local", n_jobs=2))
    assert rows.equals(in_threads)


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_gives_the_rows_that_threads_give(study, in_threads):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    n_done = 0

    class Losing(RayLauncher):
        def finish(self, units, out):
            nonlocal n_done
            for _ in super().finish(units, out):
                n_done += 1
                if n_done == 5:
                    cluster.remove_node(second, allow_graceful=False)
                yield

    try:
        _, rows = run(study, Losing(address=cluster.address))
    finally:
        cluster.shutdown()
    assert n_done == 36
    assert rows.equals(in_threads)


def test_a_cell_that_ray_loses_is_named(study):
    class LostError(Exception):
        pass

    def get(_):
        raise LostError("the worker died: SIGKILL\nand more")

    ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayError=LostError))
    [begun] = plan_study(study)
    with pytest.raises(
        HescribeError, match=r"mean on D0, seed 0 ended 3 times .* \(LostError: the worker died: SIGKILL\)"
    ):
        RayLauncher()._end(ray, None, Unit(begun, begun.cells[0]), begun.out)


def test_a_cluster_that_does_not_answer_is_an_error(study):
    pytest.importorskip("ray")
    with pytest.raises(DataAccessError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        run(study, RayLauncher(address="127.0.0.1:9"))
