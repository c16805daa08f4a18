"""Runs of completers: how they are named, compared by donor, kept and read back."""

import json

import pandas as pd
import pytest

from hescribe.bench.compare import compare
from hescribe.bench.completion.cells import create_completer, run_completion
from hescribe.bench.completion.compare import completion_lines
from hescribe.bench.completion.protocol import read_completion_protocol
from hescribe.bench.completion.task import CompletionTask
from hescribe.bench.results import Results
from hescribe.errors import InputError, UnknownNameError


def test_a_completer_is_named_with_its_parameters():
    completer = create_completer("knn:k=36:spot_offset=true")
    assert (completer.name, completer.k, completer.spot_offset) == ("knn", 36, True)
    assert create_completer("spackle:hide=[0.1,0.5]:centre=train").hide == (0.1, 0.5)
    spackle = create_completer("spackle:encoder=hub_model:uni:n_steps=5")
    assert (spackle.encoder, spackle.n_steps) == ("hub_model:uni", 5)
    for name, message in (
        ("knn:36", "holds '36', which is no name=value"), ("knn:k=1:k=2", "gives 'k' twice"),
        ("knn:q=1", "has no parameter"),
        ("knn:", "which is no name=value"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            create_completer(name)
    with pytest.raises(UnknownNameError, match="did you mean 'smoother'"):
        create_completer("smother")
    with pytest.raises(UnknownNameError, match="no protocol of completion 'donor-v1'"):
        read_completion_protocol("donor-v1")


def rows_of(values, metric="mse"):
    """Return rows of (model, donor, section, seed, value)."""
    columns = ["model", "donor", "section", "seed", "value"]
    return pd.DataFrame(values, columns=columns).assign(task="t", metric=metric, gene="")


def test_a_difference_is_taken_by_section_then_by_donor():
    """A: (1 - 2, mean of 3 and 5 less 3) -> 0; B: 4 - 1 = 3; the mean over donors is 1.5; c has no partner."""
    rows = rows_of([
        ("x", "A", "1", 0, 1.0), ("y", "A", "1", 0, 2.0), ("x", "A", "2", 0, 3.0), ("x", "A", "2", 1, 5.0),
        ("y", "A", "2", 0, 3.0), ("x", "B", "3", 0, 4.0), ("y", "B", "3", 0, 1.0), ("x", "C", "4", 0, 9.0),
    ])  # fmt: skip
    found = compare(rows, "x", "y", metric="mse")
    assert found.by_donor == {"A": 0.0, "B": 3.0}
    assert found.value == 1.5
    assert (found.low, found.high) == (None, None)


def test_a_paired_interval_is_narrower_than_donors_differ():
    values = [(m, d, d, 0, level + (m == "y") * 0.1) for m in "xy" for d, level in zip("ABCDE", range(5), strict=True)]
    found = compare(rows_of(values), "y", "x", metric="mse")
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)


def test_completers_that_cannot_be_compared_are_told():
    rows = rows_of([("x", "A", "1", 0, 1.0), ("y", "B", "2", 0, 2.0)])
    with pytest.raises(InputError, match="no mse of 'z'; they have x, y"):
        compare(rows, "x", "z", metric="mse")
    with pytest.raises(InputError, match="no section in common"):
        compare(rows, "x", "y", metric="mse")
    with pytest.raises(InputError, match="rows of 2 tasks"):
        compare(pd.concat([rows, rows.assign(task="u")]), "x", "y", metric="mse")


def test_a_run_is_kept_and_read_back(raw_cohort, tmp_path):
    changes = {"n_folds": 0, "shares": (0.5, 0.3)}
    rule = read_completion_protocol("complete-v1").model_copy(update=changes)
    task, out = CompletionTask(raw_cohort, rule), tmp_path / "R"
    names = ["mean", "section_mean", "knn:k=4"]
    first = run_completion(task, names, out)
    again = run_completion(task, names, out)
    assert (first.n_cells, first.n_cached, again.n_cached) == (9, 0, 9)
    results = Results(out)
    assert results.suite == "completion"
    assert results.looks == 3
    lines = completion_lines(results)
    assert [x.share for x in lines] == [0.3] * 3 + [0.5] * 3
    for part in (lines[:3], lines[3:]):
        assert {x.model for x in part} == set(names)
        assert [x.mse for x in part] == sorted(x.mse for x in part)
        assert part[0].behind is None
        for line in part[1:]:
            assert line.behind.value == pytest.approx(line.mse - part[0].mse)
            assert 0 < line.floor < line.mse
    assert json.loads((out / "run.json").read_text())["suite"] == "completion"
