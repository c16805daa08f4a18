"""Predictions come back from a run, or from the folder that predict wrote, with what was measured beside them."""

import json

import anndata
import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.fitting import fit_model, predict_table
from hescribe.bench.predicted import best_model, read_predicted, read_run
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import run_study
from hescribe.bench.study import Study
from hescribe.bench.task import PredictionTask
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.data.h5ad import write_h5ad
from hescribe.errors import DataAccessError, FormatError, InputError, PanelError
from hescribe.metrics.gene import correlate
from hescribe.predict.ridge import RidgePredictor

MODELS = ("mean", "position", "color_ridge", "depth_oracle")


@pytest.fixture(scope="module")
def folder(raw_cohort, tmp_path_factory):
    path = tmp_path_factory.mktemp("predicted") / "cohort"
    write_cohort(raw_cohort, path)
    return path


def run(folder, out, protocol="donor-v1"):
    task = PredictionTask(read_cohort(folder), read_protocol(protocol))
    study = Study(cohort=str(folder), out=str(out), protocol=protocol, models=MODELS)
    run_study(task, MODELS, out, study=study)
    return out


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """Return what a model that was fitted on the cohort predicts for it."""
    cohort, out = read_cohort(folder), tmp_path_factory.mktemp("written")
    model = fit_model(RidgePredictor(encoder="color"), cohort, read_protocol("donor-v1"))
    for section in cohort:
        write_h5ad(predict_table(model, section), out / f"{section.id}.h5ad")
    return out


def respoil(written, out, change):
    """Return a folder with one prediction, changed."""
    table = anndata.read_h5ad(written / "s0.h5ad")
    write_h5ad(change(table), out / "s0.h5ad")
    return out


def test_the_best_predictor_is_taken_and_never_a_control(finished):
    assert best_model(Results(finished)) == "color_ridge"
    assert read_run(finished)[0] == "color_ridge"


@pytest.mark.parametrize("protocol", ["donor-v1", "mclstexp-2024"])
def test_what_a_run_predicted_correlates_as_its_rows_say(folder, tmp_path, protocol):
    out = run(folder, tmp_path / "run", protocol)
    rows = Results(out).rows.query("model == 'color_ridge' and metric == 'pearson' and gene != ''")
    for one in read_run(out, "color_ridge")[1]:
        expected = rows[rows["section"] == one.section.id].set_index("gene")["value"]
        r = correlate(one.measured, one.predicted)
        np.testing.assert_allclose(r, expected[list(one.section.genes)], atol=1e-5)


def test_a_model_without_predictions_names_those_there_are(finished):
    with pytest.raises(InputError, match="no predictions of 'depth_oracle'; it ran color_ridge, depth_oracle, mean"):
        read_run(finished, "depth_oracle")


def test_a_run_of_constants_has_no_best_model(folder, tmp_path):
    task = PredictionTask(read_cohort(folder), read_protocol("donor-v1"))
    run_study(task, ("mean",), tmp_path, study=Study(cohort=str(folder), out=str(tmp_path), models=("mean",)))
    with pytest.raises(InputError, match=r"no predictor in .* has a defined score"):
        read_run(tmp_path)


@pytest.mark.parametrize("shortcut", ["combat_on_all", "pooled_pcc"])
def test_corrected_or_pooled_values_are_refused(folder, tmp_path, shortcut):
    with pytest.raises(InputError, match="scores corrected or pooled values"):
        read_run(run(folder, tmp_path / "run", f"donor-v1+{shortcut}"))


def test_a_run_of_completers_is_refused(finished, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(Results(finished).plan | {"suite": "completion"}))
    with pytest.raises(InputError, match="is a run of completers"):
        read_run(tmp_path)


def test_predictions_of_a_folder_stand_beside_what_was_measured(written, folder):
    name, sections, notes = read_predicted(written, folder)
    assert name == "ridge"
    assert [s.section.id for s in sections] == [f"s{i}" for i in range(6)]
    assert "trained on this very cohort" in notes[0]
    first = anndata.read_h5ad(written / "s0.h5ad")
    np.testing.assert_array_equal(sections[0].expression, first[:, list(sections[0].section.genes)].layers["predicted"])


def test_spots_and_genes_are_matched_by_name(written, folder, tmp_path):
    turned = respoil(written, tmp_path, lambda t: t[::-1, ::-1].copy())
    a, b = read_predicted(written, folder)[1][0], read_predicted(turned, folder)[1][0]
    genes = [b.section.genes.index(g) for g in a.section.genes]
    np.testing.assert_array_equal(a.expression, b.expression[:, genes])
    np.testing.assert_array_equal(a.measured, b.measured[:, genes])


def test_predicted_genes_that_were_not_measured_are_left_out_and_said(written, folder, tmp_path):
    def rename(table):
        table.var_names = ["NOPE", *table.var_names[1:]]
        return table

    _, sections, notes = read_predicted(respoil(written, tmp_path, rename), folder)
    assert len(sections[0].section.genes) == 11
    assert "1 predicted genes were not measured and are left out" in notes


def test_a_panel_of_other_genes_is_refused(written, folder, tmp_path):
    def rename(table):
        table.var_names = [f"NOPE{i}" for i in range(table.n_vars)]
        return table

    with pytest.raises(PanelError, match=r"no gene of .*s0\.h5ad is among the 12 of cohort colour"):
        read_predicted(respoil(written, tmp_path, rename), folder)


def test_other_spots_are_refused(written, folder, tmp_path):
    with pytest.raises(InputError, match="has other spots than section s0"):
        read_predicted(respoil(written, tmp_path, lambda t: t[1:].copy()), folder)


def test_a_table_that_is_no_prediction_is_refused(written, folder, tmp_path):
    def empty(table):
        del table.layers[keys.PREDICTED]
        return table

    with pytest.raises(FormatError, match="has no layer 'predicted'"):
        read_predicted(respoil(written, tmp_path, empty), folder)


def test_a_truncated_prediction_names_its_file(written, folder, tmp_path):
    (tmp_path / "s0.h5ad").write_bytes((written / "s0.h5ad").read_bytes()[:500])
    with pytest.raises(FormatError, match=r"s0\.h5ad is damaged"):
        read_predicted(tmp_path, folder)


def test_a_folder_without_predictions_is_refused(folder, tmp_path):
    with pytest.raises(DataAccessError, match=r"holds no prediction .* of a section of cohort colour"):
        read_predicted(tmp_path, folder)
