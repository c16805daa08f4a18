"""A predictor in one file is scored beside the ladder by the path of the file."""

import textwrap

import pytest
from typer.testing import CliRunner

from hescribe.bench.ladder import create_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import run_cell, run_study
from hescribe.bench.store import model_code_hash
from hescribe.bench.task import PredictionTask
from hescribe.cli.app import app
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.errors import DataAccessError, InputError
from hescribe.report.table import model_lines

HALF = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.params import Params
from hescribe.predict.base import Prediction


@dataclass(kw_only=True)
class Half(Params):
    name: ClassVar[str] = "half"
    card: ClassVar[MethodCard] = MethodCard(summary="half of the mean")
    share: float = 0.5

    def fit(self, train, *, val=None):
        self.genes_, self.mean_ = train.genes, self.share * train.stack(keys.TARGET).mean(axis=0)
        return self

    def predict(self, section):
        return Prediction(np.tile(self.mean_, (section.n_spots, 1)), self.genes_)
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "my_model.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def test_a_file_is_a_model_with_parameters_behind_its_path(write, raw_cohort):
    path = write(HALF)
    model = create_model(f"{path}:share=1.0")
    assert (model.name, model.share) == ("half", 1.0)
    task = PredictionTask(raw_cohort, read_protocol("donor-v1"))
    fold = next(task.folds())
    mse = {
        name: next(r.value for r in run_cell(task, fold, create_model(name), 0).rows if r.metric == "mse")
        for name in (path, f"{path}:share=1.0", "mean")
    }
    assert mse[f"{path}:share=1.0"] == pytest.approx(mse["mean"])
    assert mse[path] > mse["mean"]


def test_a_changed_file_is_another_model(write):
    before = model_code_hash(create_model(write(HALF)))
    assert model_code_hash(create_model(write(HALF.replace("half of", "half off")))) != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines 0 predictors"),
        (HALF + HALF.replace("Half(", "Other("), "defines 2 predictors"),
        ("x = (", "cannot be run: SyntaxError"),
        ("import no_such_package", "cannot be run: ModuleNotFoundError"),
        (HALF.replace("    card:", "    cart:"), "has no card"),
        (HALF.replace('"half"', '"ridge"'), "is called 'ridge', as a predictor of HEscribe is"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_model_is_told(write, text, message):
    with pytest.raises(InputError, match=message):
        create_model(write(text))


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(DataAccessError, match=r"none\.py does not exist"):
        create_model("none.py")


def test_a_file_cannot_become_a_model_folder(write, tmp_path):
    path = write(HALF)
    for words in (["fit", path, str(tmp_path)], ["fit", "auto", str(tmp_path), "--models", f"mean,{path}:share=1.0"]):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "m")])
        assert done.exit_code == 1
        assert "which a model folder cannot name" in done.stderr


def test_a_report_names_a_file_and_does_not_run_it(write, raw_cohort, tmp_path):
    path = write(HALF)
    write_cohort(raw_cohort, tmp_path / "cohort")
    task = PredictionTask(read_cohort(tmp_path / "cohort"), read_protocol("donor-v1"))
    run_study(task, ("mean", path), tmp_path / "out")
    write(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n" + HALF)
    lines = model_lines(Results(tmp_path / "out"))
    assert {x.model: x.summary for x in lines}[path] == "predictor in a file"
    assert not (tmp_path / "ran").exists()


def test_a_study_file_cannot_run_a_file_unless_the_user_names_it(write, raw_cohort, tmp_path):
    path = write(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n" + HALF)
    write_cohort(raw_cohort, tmp_path / "cohort")
    study = tmp_path / "study.toml"
    study.write_text(f'cohort = "{tmp_path / "cohort"}"\nout = "{tmp_path / "out"}"\nmodels = ["{path}:share=1.0"]\n')
    refused = CliRunner().invoke(app, ["bench", "run", str(study)])
    assert refused.exit_code == 1
    assert "which is code that would be run" in refused.stderr
    assert not (tmp_path / "ran").exists()
    assert CliRunner().invoke(app, ["bench", "run", str(study), "--models", f"mean,{path}"]).exit_code == 0
