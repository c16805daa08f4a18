"""A predictor on normalised stains is not misled by a slide that was stained otherwise."""

import numpy as np
import pytest
from typer.testing import CliRunner

from hescribe.bench.fitting import fit_model, predict_section
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.cli.app import app
from hescribe.cli.model import with_stain
from hescribe.data.toy import toy_cohort
from hescribe.errors import InputError
from hescribe.predict.ridge import RidgePredictor
from hescribe.predict.stained import StainedPredictor
from hescribe.prep.stain import METHODS
from hescribe.testing.faults import restain

STRONGER = (1.5, 0.8, 1.3)  # optical density of red, green and blue, times


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort(3, n_donors=3, n_spots=40, n_genes=40)


@pytest.fixture(scope="module")
def ridge():
    return RidgePredictor(encoder="color", fov_um=(112.0,))


def moved(model, section):
    """Return how far a prediction moves under another stain, in units of its own spread."""
    plain, odd = (predict_section(model, s).mean for s in (section, restain(section, STRONGER)))
    return np.abs(odd - plain).mean() / plain.std(axis=0).mean()


@pytest.mark.slow
@pytest.mark.parametrize("stain", METHODS)
def test_another_stain_moves_the_prediction_less(cohort, ridge, stain, tmp_path):
    train, section = cohort.where(lambda s: s.donor != cohort.donors[0]), cohort[0]
    rule = read_protocol("donor-v1")
    write_model(tmp_path / "M", fit_model(StainedPredictor(predictor=ridge, stain=stain), train, rule))
    model = read_model(tmp_path / "M")
    assert model.info.params["stain"] == stain
    assert model.info.encoder["name"] == "color"
    assert moved(model, section) < 0.5 * moved(fit_model(ridge, train, rule), section)


def test_only_train_donors_set_the_stain(cohort, ridge):
    train = cohort.where(lambda s: s.donor != cohort.donors[0])
    fitted = StainedPredictor(predictor=ridge).fit(_prepared(train))
    again = StainedPredictor(predictor=ridge).fit(_prepared(cohort.where(lambda s: s.donor != cohort.donors[1])))
    assert np.abs(fitted.stain_["first"] - again.stain_["first"]).max() > 1e-3
    before = {k: np.copy(v) for k, v in fitted.stain_.items()}
    fitted.predict(cohort[0].blind())
    assert all((fitted.stain_[k] == v).all() for k, v in before.items())


def _prepared(cohort):
    from hescribe.bench.task import PredictionTask  # noqa: PLC0415

    task = PredictionTask(cohort, read_protocol("donor-v1"))
    return task.on_panel(task.prepared, task.choose_genes(task.prepared))


def test_there_are_two_ways_and_the_command_line_knows_them(tmp_path):
    with pytest.raises(InputError, match="'macenko' or 'reinhard'"):
        StainedPredictor().with_params(stain="vahadane")
    assert with_stain(RidgePredictor(), ["alpha=3"], "reinhard").get_params()["predictor"]["alpha"] == 3
    words = ["fit", "auto", "cohort", "--out", str(tmp_path / "M"), "--stain", "macenko"]
    assert "not for auto" in CliRunner().invoke(app, words).stderr
