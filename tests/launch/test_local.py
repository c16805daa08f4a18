"""Processes of this machine give the rows that threads give, and losing one costs a cell at most."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.launch.conftest import run

from hescribe.bench.runs import Unit, finish_runs
from hescribe.bench.study import Study
from hescribe.bench.suite import plan_study
from hescribe.errors import DataAccessError, HescribeError, InputError, UnknownNameError
from hescribe.launch.base import check_written, create_launcher, launchers
from hescribe.launch.local import LocalLauncher, WorkerProcess
from hescribe.launch.worker import finish_there, plan_units, to_error


def test_processes_give_the_rows_that_threads_give(study, in_threads):
    summary, rows = run(study, LocalLauncher(n_workers=2))
    assert (summary.n_cells, summary.n_cached) == (36, 0)  # 3 folds of 2 models, and 10 shuffles
    assert rows.equals(in_threads)
    assert run(study, LocalLauncher(n_workers=2))[0].n_cached == 36


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_cell_tried_again(study, in_threads, monkeypatch):
    started, begin = [], WorkerProcess._start

    def start(self):
        process = begin(self)
        started.append(process)
        if len(started) == 1:  # before it has answered
            os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(WorkerProcess, "_start", start)
    _, rows = run(study, LocalLauncher(n_workers=1))
    assert len(started) == 2
    assert rows.equals(in_threads)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("raise MemoryError('no more')", "MemoryError: no more"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_cell_whose_process_always_dies_is_named_with_what_it_died_of(study, monkeypatch, code, told):
    begin = WorkerProcess._start

    def start(self):
        with monkeypatch.context() as patch:
            patch.setattr("hescribe.launch.local.WORKER", ("-c", code))
            return begin(self)

    monkeypatch.setattr(WorkerProcess, "_start", start)
    with pytest.raises(HescribeError, match=rf"mean on D0, seed 0 ended 2 times without an answer \({told}\)"):
        run(replace(study, models=("mean",)), LocalLauncher(n_workers=1, n_tries=2))


def test_the_error_of_a_cell_comes_back_as_it_was_and_what_is_finished_stays(study):
    [begun] = plan_study(study)
    units = begun.begin(study)
    (Path(study.cohort) / "cohort.toml").rename(Path(study.cohort) / "aside.toml")
    try:
        with pytest.raises(DataAccessError, match=r"cohort\.toml"):
            list(LocalLauncher(n_workers=1).finish(units, Path(study.out)))
    finally:
        (Path(study.cohort) / "aside.toml").rename(Path(study.cohort) / "cohort.toml")
    assert run(study)[0].n_cached == 0


def test_a_worker_refuses_a_cell_of_other_data_or_code(study):
    run(replace(study, models=("mean",)))
    kind, message = finish_there(str(Path.cwd()), study.out, "./0123")
    assert kind == "DataAccessError"
    assert "its data or its version of hescribe differ" in message


def test_what_was_written_elsewhere_is_told(study):
    [begun] = plan_study(replace(study, models=("mean",)))
    with pytest.raises(DataAccessError, match="a disk that all machines share"):
        check_written(Unit(begun, begun.cells[0]), Path(study.out))


def test_an_error_of_many_parts_and_one_that_is_not_ours_can_be_told():
    assert isinstance(to_error("SchemaError", "both parts"), InputError)
    assert type(to_error("KeyError", "no")) is HescribeError


@pytest.mark.parametrize("name", list(launchers))
def test_a_launcher_says_where_it_runs_and_refuses_what_it_does_not_know(name):
    launcher = create_launcher(name)
    assert type(launcher).summary
    with pytest.raises(InputError, match="no parameter 'workers'"):
        create_launcher(f"{name}:workers=2")
    with pytest.raises(InputError, match="n_tries"):
        list(create_launcher(f"{name}:n_tries=0").finish([], Path()))


def test_an_unknown_launcher_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'slurm'"):
        create_launcher("slrum")


@pytest.mark.parametrize(
    ("suite", "protocol", "models"),
    [
        ("completion", "complete-v1", ("mean", "knn")),
        ("spared", "donor-v1", ("mean", "color_ridge")),
        ("hescape", "donor-v1", ("infonce",)),
    ],
)
def test_every_suite_is_planned_alike_by_whoever_reads_its_study(cohort, tmp_path, suite, protocol, models):
    more = {"completers": ("mean",)} if suite == "spared" else {}
    study = Study(cohort=str(cohort), out=str(tmp_path), suite=suite, protocol=protocol, models=models, **more)
    runs = plan_study(study)
    here = [unit.name_in(tmp_path) for begun in runs for unit in begun.begin(study)]
    finish_runs([], tmp_path, study=study)
    assert len(set(here)) == len(here) > 0
    assert list(plan_units(str(tmp_path))) == here


@pytest.mark.slow
def test_networks_learn_the_same_in_one_process_in_two_and_in_threads_twice_in_a_row(study):
    names = ("mlp", "default", "color_ridge")
    found = [
        run(replace(study, models=names, seeds=(0, 1), out=f"{study.out}{i}"), launcher)[1]
        for i, launcher in enumerate((None, None, LocalLauncher(n_workers=1), LocalLauncher(n_workers=2)))
    ]
    assert len(found[0]) > 0
    for rows in found[1:]:
        assert rows.equals(found[0])


@pytest.mark.slow
def test_a_run_survives_kills_of_its_workers_at_any_moment(study, in_threads):
    killed = []

    def kill():
        while not done.wait(1.5):
            workers = [p for p in Path("/proc").glob("[0-9]*") if _is_worker(p, study.out)]
            if workers:
                os.kill(int(workers[0].name), signal.SIGKILL)
                killed.append(workers[0].name)

    done = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        rows = None
        while rows is None:
            try:
                _, rows = run(study, LocalLauncher(n_workers=2, n_tries=2))
            except HescribeError as error:
                assert "the same command again" in str(error)  # noqa: PT017 - a cell was hit twice: it goes on
    finally:
        done.set()
        killer.join()
    assert killed
    assert rows.equals(in_threads)


def _is_worker(process, out):
    try:
        return f"hescribe.launch.worker\0{out}\0" in (process / "cmdline").read_text()
    except OSError:
        return False
