"""Predictions of another tool are scored as ours are: nothing is lost in silence, and no training donor is scored."""

import json
import shutil

import anndata
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from typer.testing import CliRunner

from hescribe import keys
from hescribe.bench.export import export_run
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import run_cell, run_study
from hescribe.bench.study import Study, write_study
from hescribe.bench.task import PredictionTask
from hescribe.cli.app import app
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.errors import DataAccessError, FormatError, InputError, LeakageError, PanelError, SchemaError
from hescribe.predict.external import ExternalPredictor

RULE = read_protocol("donor-v1")


@pytest.fixture(scope="module")
def run(raw_cohort, tmp_path_factory):
    """Return a run of the colour ridge, and what was exported of it."""
    path = tmp_path_factory.mktemp("run")
    write_cohort(raw_cohort, path / "cohort")
    run_study(PredictionTask(read_cohort(path / "cohort"), RULE), ("mean", "color_ridge"), path / "out")
    write_study(Study(cohort=str(path / "cohort"), out=str(path / "out")), path / "out" / "study.toml")
    export_run(path / "out", path / "exported")
    return path


@pytest.fixture
def folder(run, tmp_path):
    shutil.copytree(run / "exported", tmp_path / "predictions")
    return tmp_path / "predictions"


@pytest.fixture(scope="module")
def task(raw_cohort):
    return PredictionTask(raw_cohort, RULE)


@pytest.fixture(scope="module")
def fold(task):
    return next(task.folds())


def change(folder, section, work):
    """Rewrite the prediction of a section."""
    path = folder / f"{section}.h5ad"
    table = work(anndata.read_h5ad(path))
    path.unlink()
    table.write_h5ad(path)


def predicted(folder, fold, **params):
    fitted = ExternalPredictor(folder=str(folder), **params).fit(fold.train)
    return fitted.predict(fold.test[0].blind())


def means(rows, metric="pearson"):
    return {r.section: r.value for r in rows if r.metric == metric and not r.gene}


def test_our_own_predictions_come_back_with_the_same_scores(run, task):
    external = ExternalPredictor(folder=str(run / "exported"))
    again = [r for fold in task.folds() for r in run_cell(task, fold, external, 0).rows]
    own = Results(run / "out").rows.query("model == 'color_ridge' and gene == ''")
    for metric in ("pearson", "pearson_depth_partial", "mse"):
        expected = own[own["metric"] == metric].set_index("section")["value"].to_dict()
        assert means(again, metric) == pytest.approx(expected, abs=1e-6)
    assert not [r for r in again if r.metric == "share_filled"]


def test_an_export_holds_prediction_and_truth_of_the_spots_that_were_scored(run, task):
    table = anndata.read_h5ad(run / "exported" / "s0.h5ad")
    section = next(s for fold in task.folds() for s in fold.test if s.id == "s0")
    assert set(section.genes) == set(table.var_names)
    truth = table[section.table.obs_names, list(section.genes)].layers[keys.TARGET][section.kept]
    np.testing.assert_allclose(truth, section.layer(keys.TARGET), rtol=1e-6)
    assert table.obs[keys.KEPT].to_numpy().tolist() == section.kept.tolist()
    assert keys.SPATIAL in table.obsm


def test_spots_and_genes_go_by_name_and_others_are_left_alone(folder, fold):
    expected = predicted(folder, fold).mean

    def shuffle(table):
        more = table[:, :1].copy()
        more.var_names = ["ELSEWHERE"]
        wide = anndata.concat([more, table], axis=1, merge="same")
        return wide[::-1, ::-1].copy()

    change(folder, fold.test[0].id, shuffle)
    found = predicted(folder, fold)
    assert found.genes == fold.test.genes
    np.testing.assert_array_equal(found.mean, expected)


def test_a_layer_called_predicted_stands_before_x_and_either_may_be_sparse(folder, fold):
    expected = predicted(folder, fold).mean

    def move(table):
        table.layers[keys.PREDICTED] = sparse.csr_matrix(table.X)
        table.X = sparse.csr_matrix(table.X.shape, dtype=np.float32)
        return table

    change(folder, fold.test[0].id, move)
    np.testing.assert_array_equal(predicted(folder, fold).mean, expected)


def test_a_section_of_a_donor_that_the_tool_was_trained_on_is_refused(folder, fold):
    section = fold.test[0]
    (folder / "predictions.toml").write_text(f'tool = "Net 2"\ntrain_donors = ["{section.donor}"]\n')
    with pytest.raises(LeakageError, match=rf"Net 2 was trained on donor {section.donor} of section {section.id}"):
        predicted(folder, fold)


def test_the_donors_of_a_section_stand_before_those_of_all(folder, fold):
    section = fold.test[0]
    facts = f'tool = "Net"\ntrain_donors = ["{section.donor}"]\n[train_donors_of]\n"{section.id}" = []\n'
    (folder / "predictions.toml").write_text(facts)
    assert predicted(folder, fold).mean.shape[0] == section.n_spots
    (folder / "predictions.toml").write_text(facts.replace(f'"{section.id}" = []', '"other" = []'))
    with pytest.raises(LeakageError):
        predicted(folder, fold)


@pytest.mark.parametrize(
    ("facts", "error", "message"),
    [
        ('tool = "Net"\n', InputError, "does not say which donors"),
        ("train_donors = []\n", SchemaError, "tool: is missing"),
        ('tool = "Net"\ntrain_doners = []\n', SchemaError, "train_doners: is no key"),
        ("tool = \n", FormatError, "is not TOML"),
        (None, DataAccessError, r"predictions.toml is missing"),
    ],
)  # fmt: skip
def test_facts_that_are_missing_or_wrong_are_refused(folder, fold, facts, error, message):
    (folder / "predictions.toml").unlink()
    if facts is not None:
        (folder / "predictions.toml").write_text(facts)
    with pytest.raises(error, match=message):
        predicted(folder, fold)


def test_missing_and_strange_spots_are_named_or_filled_and_counted(folder, fold, task):
    section = fold.test[0]
    first, last = section.table.obs_names[0], section.table.obs_names[-1]

    def lose(table):
        table = table[table.obs_names != last].copy()
        table.obs_names = ["strange" if n == first else n for n in table.obs_names]
        return table

    change(folder, section.id, lose)
    with pytest.raises(InputError, match=rf"lacks 2 spots \({first}, {last}\) and has 1 spot \(strange\)"):
        predicted(folder, fold)
    filled = predicted(folder, fold, gaps="mean")
    np.testing.assert_allclose(filled.mean[[0, -1]], np.tile(fold.train.stack(keys.TARGET).mean(axis=0), (2, 1)))
    assert filled.filled == pytest.approx(2 / section.n_spots)
    rows = run_cell(task, fold, ExternalPredictor(folder=str(folder), gaps="mean"), 0).rows
    assert means(rows, "share_filled")[section.id] == pytest.approx(2 / section.n_spots)


def test_missing_genes_are_named_or_counted_as_undefined(folder, fold, task):
    section, gone = fold.test[0], list(fold.test.genes[:4])
    for one in fold.test:
        change(folder, one.id, lambda table: table[:, ~table.var_names.isin(gone)].copy())
    with pytest.raises(PanelError, match=rf"lacks 4 genes \({gone[0]}, {gone[1]}, {gone[2]} and 1 more\)"):
        predicted(folder, fold)
    rows = run_cell(task, fold, ExternalPredictor(folder=str(folder), gaps="mean"), 0).rows
    (mean,) = [r for r in rows if (r.section, r.metric, r.gene) == (section.id, "pearson", "")]
    assert (mean.n_undefined, mean.n_defined) == (4, len(fold.test.genes) - 4)
    assert means(rows, "share_filled")[section.id] == pytest.approx(4 / len(fold.test.genes))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda t: anndata.concat([t, t[:1]]), "spot .* twice"),
        (lambda t: anndata.concat([t, t[:, :1]], axis=1), "gene .* twice"),
        (lambda t: AnnData(obs=t.obs, var=t.var), "holds no prediction"),
        (lambda t: AnnData(np.full(t.shape, np.nan), t.obs, t.var), "not finite, of gene GENE0 in spot 0x0"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*names are not unique")
def test_a_prediction_that_is_wrong_in_itself_is_refused(folder, fold, work, message):
    change(folder, fold.test[0].id, work)
    with pytest.raises(FormatError, match=message):
        predicted(folder, fold)


def test_files_that_are_gone_or_damaged_are_named(folder, fold):
    path = folder / f"{fold.test[0].id}.h5ad"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FormatError, match="no readable h5ad"):
        predicted(folder, fold)
    path.unlink()
    with pytest.raises(DataAccessError, match=r"s\d.h5ad is missing"):
        predicted(folder, fold)
    with pytest.raises(DataAccessError, match="no folder of predictions"):
        ExternalPredictor(folder=str(folder / "none"))
    with pytest.raises(InputError, match="needs the folder"):
        predicted("", fold)


def test_of_a_tool_of_another_unit_only_scores_without_a_unit_are_taken(folder, fold, task):
    facts = (folder / "predictions.toml").read_text()
    (folder / "predictions.toml").write_text(facts.replace('unit = "lognorm"', 'unit = "other"'))
    rows = run_cell(task, fold, ExternalPredictor(folder=str(folder)), 0).rows
    assert np.isfinite(list(means(rows).values())).all()
    assert np.isnan(list(means(rows, "mse").values())).all()


def test_changed_files_are_scored_anew(folder, fold):
    before = ExternalPredictor(folder=str(folder))
    assert ExternalPredictor(folder=str(folder)) == before
    change(folder, fold.test[0].id, lambda table: AnnData(table.X + 1, table.obs, table.var))
    assert ExternalPredictor(folder=str(folder)).get_params() != before.get_params()


def test_the_command_line_exports_and_scores_beside_the_ladder(run, tmp_path):
    runner, out = CliRunner(), str(tmp_path / "again")
    done = runner.invoke(app, ["bench", "export", str(run / "out"), "--out", str(tmp_path / "p"), "--json"])
    assert json.loads(done.stdout)["model"] == "color_ridge"
    models = f"mean,external:folder={tmp_path / 'p'}"
    words = ["bench", "run", "--cohort", str(run / "cohort"), "--models", models, "--out", out, "--json"]
    table = json.loads(runner.invoke(app, words).stdout)["table"]
    (external,) = [s for s in table if s["metric"] == "pearson" and s["model"].startswith("external")]
    (ridge,) = [s for s in Results(run / "out").scores if (s.model, s.metric) == ("color_ridge", "pearson")]
    assert external["value"] == pytest.approx(ridge.value, abs=1e-6)
    refused = runner.invoke(app, ["bench", "export", str(run / "out"), "--out", str(tmp_path / "p")])
    assert refused.exit_code == 1
    assert "exists" in refused.stderr
