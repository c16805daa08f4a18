"""Cells that are joined into one file are the cells they were, whatever happens in between."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from hescribe.bench import store as store_module
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import run_study
from hescribe.bench.store import Store
from hescribe.bench.task import PredictionTask
from hescribe.errors import FormatError

MODELS = ("mean", "color_ridge", "depth_oracle")


@pytest.fixture
def run(raw_cohort, tmp_path):
    run_study(PredictionTask(raw_cohort, read_protocol("donor-v1")), MODELS, tmp_path)
    return tmp_path


def single(path):
    return sorted((path / "cells").glob("*.parquet"))


def test_joined_cells_have_the_same_rows_in_the_same_order(run, monkeypatch):
    before, done = Results(run).rows, Results(run).finished
    monkeypatch.setattr(store_module, "CELLS_AT_ONCE", 2)
    assert Store(run).join(at_least=9) == 9
    assert not single(run)
    assert Results(run).rows.equals(before)
    assert Results(run).finished == done
    assert Results(run).n_missing == 0


def test_few_cells_stay_files_of_their_own(run):
    assert Store(run).join() == 0
    assert len(single(run)) == 9


def test_a_run_goes_on_beside_joined_cells(run, raw_cohort, monkeypatch):
    Store(run).join(at_least=1)
    task = PredictionTask(raw_cohort, read_protocol("donor-v1"))
    assert run_study(task, MODELS, run).n_cached == 9
    more = run_study(task, (*MODELS, "position"), run)
    assert (more.n_cells, more.n_cached) == (12, 9)
    assert list(Results(run).rows["model"].unique()) == [*MODELS, "position"]
    assert Store(run).join(at_least=1) == 3
    assert len(list((run / "joined").iterdir())) == 2
    assert list(Results(run).rows["model"].unique()) == [*MODELS, "position"]


def test_a_cell_that_is_in_both_after_a_kill_is_read_once(run):
    before = Results(run).rows
    shutil.copytree(run / "cells", run / "aside")
    Store(run).join(at_least=1)
    for path in (run / "aside").iterdir():
        shutil.copy(path, run / "cells")
    assert Results(run).rows.equals(before)
    Store(run).join(at_least=1)
    assert not single(run)
    assert len(list((run / "joined").iterdir())) == 1
    assert Results(run).rows.equals(before)


def test_a_cell_that_is_joined_while_a_report_reads_is_found(run, monkeypatch):
    before, read = Results(run).rows, store_module._try_cell
    keys = [c["key"] for c in Results(run).finished]
    store = Store(run)

    def read_late(path):
        monkeypatch.setattr(store_module, "_try_cell", read)
        store.join(at_least=1)
        return read(path)

    monkeypatch.setattr(store_module, "_try_cell", read_late)
    assert store.read(keys).equals(before)


def test_a_cell_that_two_runs_have_joined_is_read_once(run):
    before = Results(run).rows
    shutil.copytree(run / "cells", run / "aside")
    Store(run).join(at_least=1)
    (run / "joined").rename(run / "one")
    for path in sorted((run / "aside").iterdir())[3:]:
        shutil.copy(path, run / "cells")
    Store(run).join(at_least=1)
    for path in (run / "one").iterdir():
        path.rename(run / "joined" / path.name)
    assert len(list((run / "joined").iterdir())) == 2
    assert Results(run).rows.equals(before)


def test_one_that_joins_late_does_not_replace_the_whole_file_by_what_it_still_finds(run, monkeypatch):
    before, read, store, seen = Results(run).rows, store_module._try_cell, Store(run), []

    def read_late(path):
        seen.append(path)
        if len(seen) == 5:
            monkeypatch.setattr(store_module, "_try_cell", read)
            assert store.join(at_least=1) == 9
        return read(path)

    monkeypatch.setattr(store_module, "_try_cell", read_late)
    assert store.join(at_least=1) == 0
    assert Results(run).rows.equals(before)
    assert len(list((run / "joined").iterdir())) == 1


def test_two_may_join_at_once(run):
    before = Results(run).rows
    with ThreadPoolExecutor(2) as pool:
        for joined in [pool.submit(Store(run).join, at_least=1) for _ in range(2)]:
            joined.result()
    assert Results(run).rows.equals(before)


def test_damage_is_told_with_what_to_delete(run):
    Store(run).join(at_least=1)
    [path] = (run / "joined").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match=rf"{path.name} is damaged; delete it and run again"):
        _ = Results(run).rows
    path.unlink()
    assert Results(run).n_missing == 9
