"""``hescribe analyse`` from the command line: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hescribe.cli.app import app
from hescribe.data.folder import write_cohort


@pytest.fixture(scope="module")
def work(raw_cohort, tmp_path_factory):
    """Return a folder with a cohort, a run and the predictions of a model."""
    path = tmp_path_factory.mktemp("analyse")
    write_cohort(raw_cohort, path / "cohort")
    call("bench", "run", "--cohort", path / "cohort", "--models", "color_ridge", "--out", path / "run")
    call("fit", "color_ridge", path / "cohort", "--out", path / "model")
    call("predict", path / "model", path / "cohort", "--out", path / "predicted")
    return path


def call(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


def test_a_run_gives_a_page_and_one_json_object(work, tmp_path):
    result = call("analyse", work / "run", "--out", tmp_path / "A", "--encoder", "color", "--json")
    facts = json.loads(result.stdout)
    assert facts["model"] == "color_ridge"
    assert facts["n_genes"] == len(facts["genes"]) == 12
    assert facts["sections"] == [f"s{i}" for i in range(6)]
    assert Path(facts["page"]).is_file()


def test_predictions_of_a_model_say_that_they_are_of_its_own_training(work, tmp_path):
    result = call("analyse", work / "predicted", "--cohort", work / "cohort", "--out", tmp_path / "A")
    assert "note: the model was trained on this very cohort" in result.stderr
    assert "genes are predicted better than chance" in result.stdout
    assert (tmp_path / "A" / "genes.csv").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("predicted",), "say with --cohort which cohort was predicted"),
        (("predicted", "--model", "ridge"), "--model is for a benchmark run"),
        (("run", "--cohort", "cohort"), "a benchmark run knows its own"),
        (("run", "--model", "nope"), "holds no predictions of 'nope'; it ran color_ridge"),
        (("run", "--gene-sets", "none.toml"), "none.toml cannot be read"),
        (("run", "--encoder", "nope"), "nope"),
    ],
)
def test_a_mistake_gives_one_sentence_and_writes_nothing(work, tmp_path, args, message):
    place = [str(work / a) if a in {"predicted", "run", "cohort"} else a for a in args]
    result = call("analyse", *place, "--out", tmp_path / "A", code=1)
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "A").exists()
