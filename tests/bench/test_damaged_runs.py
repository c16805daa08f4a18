"""What is damaged or deleted in a finished run is made again by the next one, or named with what to do."""

import json
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import plan_run, run_study
from hescribe.bench.slides.results import SlideResults
from hescribe.bench.store import Store
from hescribe.bench.task import PredictionTask
from hescribe.cli.app import app
from hescribe.errors import DataAccessError, FormatError
from hescribe.slide.toy import toy_bags

MODELS = ("color_ridge", "depth_oracle")


@pytest.fixture
def task(raw_cohort):
    return PredictionTask(raw_cohort, read_protocol("donor-v1"))


@pytest.fixture
def run(task, tmp_path):
    run_study(task, MODELS, tmp_path)
    return tmp_path


def predictions(run):
    return sorted((run / "predictions").iterdir())


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_predictions_that_are_cut_off_or_gone_are_made_again(task, run, damage, joined):
    if joined:
        Store(run).join(at_least=1)
    rows, path = Results(run).rows, predictions(run)[0]
    whole = path.read_bytes()
    damage(path)
    unit = next(u for u in plan_run(task, MODELS, run).begin(None) if u.cell.key == path.stem)
    assert not unit.is_finished
    assert run_study(task, MODELS, run).n_cached == 5  # of six cells
    assert unit.is_finished
    assert path.read_bytes() == whole
    assert Results(run).rows["value"].equals(rows["value"])
    assert run_study(task, MODELS, run).n_cached == 6


@pytest.mark.parametrize("damage", [cut, flip])
def test_damaged_predictions_are_named_when_they_are_read(task, run, damage):
    path = predictions(run)[0]
    damage(path)
    with pytest.raises(FormatError, match=f"{path.name} is damaged; delete it and run again"):
        Results(run).predictions("color_ridge")
    path.unlink()
    run_study(task, MODELS, run)
    assert len(Results(run).predictions("color_ridge")) == 6


def test_a_report_of_scores_needs_no_predictions(run):
    rows = Results(run).rows
    for path in predictions(run):
        path.unlink()
    assert Results(run).rows.equals(rows)
    assert Results(run).n_missing == 0


def test_a_damaged_cell_names_its_file(task, tmp_path):
    run_study(task, ("mean",), tmp_path)
    cell = next((tmp_path / "cells").iterdir())
    cell.write_bytes(b"PAR1 nonsense")
    with pytest.raises(FormatError, match=f"{cell.name} is damaged; delete it"):
        _ = Results(tmp_path).rows


@pytest.mark.parametrize("joined", [False, True])
def test_no_flipped_bit_changes_a_row(task, tmp_path, joined):
    run_study(task, ("mean",), tmp_path)
    if joined:
        Store(tmp_path).join(at_least=1)
    rows, told = Results(tmp_path).rows, 0
    path = next((tmp_path / ("joined" if joined else "cells")).iterdir())
    whole = path.read_bytes()
    for at in range(4, len(whole), 53):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            assert Results(tmp_path).rows.equals(rows)
        except DataAccessError:
            told += 1
    assert told > len(whole) / 53 / 2


def change(**content):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | content))


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda p: p.write_bytes(b"\xff" + p.read_bytes()),
        lambda p: p.write_text("null"),
        lambda p: p.write_text("[" * 100_000),
        lambda p: p.write_text('{"suite": "prediction"}'),
        change(cells=[{"key": "k"}]),
        change(task="t"),
    ],
)
def test_a_damaged_plan_is_told_in_words(task, run, damage):
    damage(run / "run.json")
    with pytest.raises(FormatError, match=r"run\.json is damaged or of another version; run the same"):
        _ = Results(run).plan
    said = CliRunner().invoke(app, ["bench", "report", str(run)])
    assert said.exit_code == 1
    assert "Traceback" not in said.output
    run_study(task, MODELS, run)
    assert Results(run).n_missing == 0


@pytest.mark.parametrize("protocol", [{}, {"metrics": 3}, {"metrics": [], "colour": "red"}])
def test_a_plan_with_a_damaged_protocol_is_told_in_words(run, protocol):
    change(protocol=protocol)(run / "run.json")
    with pytest.raises(FormatError, match=r"run\.json is damaged"):
        _ = Results(run).protocol


def test_a_plan_that_cannot_be_read_is_told_in_words(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(DataAccessError, match=r"run\.json cannot be read: Is a directory"):
        _ = Results(tmp_path).plan


@pytest.mark.parametrize("byte", [b"\xff", b'"', b"]"])
def test_a_damaged_line_of_the_ledger_costs_no_other_look(task, run, byte):
    whole = (run / "ledger.jsonl").read_bytes()
    (run / "ledger.jsonl").write_bytes(whole + whole.replace(b"prot", b"pro" + byte).replace(b"donor", b"don" + byte))
    assert Results(run).looks == 1


def test_a_torn_line_of_the_ledger_is_counted_again_by_the_next_run(task, run):
    path = run / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:20])
    assert Results(run).looks == 0
    run_study(task, MODELS, run)
    assert Results(run).looks == 1


def test_slides_whose_predictions_were_deleted_are_told_in_words_and_made_again(tmp_path):
    toy = toy_bags(0, n_bags=12, n_tiles=(5, 9), n_dims=4)
    (tmp_path / "F").mkdir()
    lines = ["slide,donor,label"]
    for i, bag in enumerate(toy.bags):
        with h5py.File(tmp_path / f"F/{bag.id}.h5", "w") as file:
            file["features"] = bag.read()
        lines.append(f"{bag.id},d{i // 2},{toy.target.names[toy.target.codes[i]]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    tiles = ["--features", str(tmp_path / "F"), "--labels", str(tmp_path / "labels.csv")]
    words = [
        "bench",
        "run",
        "--suite",
        "spade",
        *tiles,
        "--models",
        "knn",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "R"),
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    path = next((tmp_path / "R").glob("*/predictions/*.npz"))
    path.unlink()
    with pytest.raises(DataAccessError, match=f"lacks predictions of cell {path.stem}; run the same"):
        _ = SlideResults(tmp_path / "R").scores
    assert CliRunner().invoke(app, words).exit_code == 0
    assert SlideResults(tmp_path / "R").scores
