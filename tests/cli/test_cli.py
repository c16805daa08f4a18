"""The contract of the command line that scripts rely on: words, streams, exit codes, JSON."""

import json
import re
import shutil
import subprocess
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.app import app
from hescribe.cli.output import OUTPUT
from hescribe.data.folder import write_cohort
from hescribe.slide.bag_files import FileBag
from hescribe.testing.cohorts import raw_colour_cohort

SCORE = {
    "task", "protocol", "model", "metric", "value", "low", "high", "n_donors", "n_defined", "n_undefined", "chance",
    "ceiling",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a cohort C and a fitted model M."""
    folder = tmp_path_factory.mktemp("cli")
    write_cohort(raw_colour_cohort(), folder / "C")
    fitted = invoke("fit", "color_ridge", folder / "C", "--out", folder / "M")
    assert fitted.exit_code == 0, fitted.stderr
    return folder


@pytest.fixture
def cohort(folder):
    return folder / "C"


@pytest.fixture
def model(folder):
    return folder / "M"


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def told(*words):
    """Return the error of a command that must fail with one or two sentences and nothing else."""
    result = invoke(*words)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def given(*words):
    """Return the one JSON object that a command prints, which must be all of stdout."""
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_stands_alone_on_stdout_and_talk_on_stderr(cohort, tmp_path):
    words = [sys.executable, "-m", "hescribe.cli", "bench", "run", "--cohort", str(cohort), "--models", "mean"]
    done = subprocess.run([*words, "--out", str(tmp_path / "R"), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n_cells"] == 3
    assert "3 cells, 0 of them done before" in done.stderr
    done = subprocess.run([*words, "--out", str(tmp_path / "R"), "--quiet"], capture_output=True, text=True, check=True)
    assert "mean" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("words", [("list", "nothing"), ("bench", "run", "--nothing"), ("fit",), ("nothing",)])
def test_wrong_usage_is_exit_2(words):
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_debug_gives_the_traceback(model, tmp_path):
    result = invoke("predict", model, tmp_path / "nothing", "--out", tmp_path / "P", "--debug")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "DataAccessError"
    assert not OUTPUT.as_json


def test_quiet_still_tells_the_error(tmp_path):
    assert "is no cohort" in told("data", "check", tmp_path, "--quiet")


@pytest.mark.parametrize("kind", ["predictors", "encoders", "readers", "protocols", "datasets", "rungs"])
def test_every_kind_can_be_listed(kind):
    names = [next(iter(row.values())) for row in given("list", kind)[kind]]
    shown = invoke("list", kind).stdout
    assert names
    assert all(name in shown for name in names)


def test_doctor_says_what_is_here():
    facts = given("doctor")
    assert {"hescribe", "python", "cores", "cache", "offline", "packages", "encoders"} <= facts.keys()
    assert "color" in json.dumps(facts["encoders"])


def test_bench_run_prints_the_table_scripts_rely_on(cohort, tmp_path):
    words = ("bench", "run", "--cohort", cohort, "--out", tmp_path / "R", "--models", "mean,color_ridge")
    first = given(*words)
    assert (first["out"], first["n_cells"], first["n_cached"]) == (str(tmp_path / "R"), 6, 0)
    assert all(row.keys() >= SCORE for row in first["table"])
    scores = {(r["model"], r["metric"]): r for r in first["table"]}
    ridge = scores["color_ridge", "pearson"]
    assert ridge["value"] > 0.3
    assert (ridge["low"], ridge["high"], ridge["n_donors"]) == (None, None, 3)
    assert scores["mean", "pearson"]["value"] is None
    again = given(*words)
    assert (again["n_cached"], again["table"]) == (6, first["table"])
    report = given("bench", "report", tmp_path / "R")
    assert (report["n_missing"], (tmp_path / "R/report.html").is_file()) == (0, True)


def test_bench_run_takes_a_study_and_options_override_it(cohort, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(f'cohort = "{cohort}"\nout = "{tmp_path}/R"\nmodels = ["position"]\n')
    assert {r["model"] for r in given("bench", "run", study, "--models", "mean")["table"]} == {"mean"}
    assert 'models = ["mean"]' in (tmp_path / "R/study.toml").read_text()
    study.write_text(study.read_text() + 'protocoll = "donor-v1"\n')
    assert "unknown key 'protocoll'; did you mean 'protocol'?" in told("bench", "run", study)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--models", "rigde"), "there is no model 'rigde'; known: mean"),
        (("--models", ""), "models is empty"),
        (("--models", "mean,mean"), "names 'mean' twice"),
        (("--seeds", "x"), "'x' is no comma-separated list of whole numbers"),
        (("--seeds", "-1"), "holds -1"),
        (("--protocol", "donor-v9"), "there is no protocol 'donor-v9'; known: donor-v1"),
    ],
)
def test_a_wrong_benchmark_is_told_and_leaves_nothing(cohort, tmp_path, words, message):
    assert message in told("bench", "run", "--cohort", cohort, "--out", tmp_path / "R", *words)
    assert not (tmp_path / "R").exists()


def test_one_donor_can_be_fitted_but_not_scored(tmp_path):
    write_cohort(raw_colour_cohort(n_donors=1), tmp_path / "C")
    assert "has one donor only" in told("bench", "run", "--cohort", tmp_path / "C", "--out", tmp_path / "R")
    assert not (tmp_path / "R").exists()
    fitted = given("fit", "color_ridge", tmp_path / "C", "--out", tmp_path / "M")
    assert (fitted["score"], fitted["trust"]) == (None, {"untested": 12})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("alpa=1", "RidgePredictor has no parameter 'alpa'; did you mean 'alpha'?"),
        ("alpha=abc", "alpha of RidgePredictor must be a number or null, got 'abc'"),
        ("alpha=NaN", "alpha of RidgePredictor must be a number or null, got nan"),
        ("alpha=-1", "alpha of RidgePredictor must be at least 1e-06, got -1"),
        ("alpha", "--set 'alpha' is not name=value"),
        ("fov_um=112", "fov_um of RidgePredictor must be a list in brackets, each item a number or null, got 112"),
        ("encoder=colour", "there is no encoder 'colour'; did you mean 'color'?"),
    ],
)
def test_a_wrong_parameter_is_told_and_leaves_nothing(cohort, tmp_path, value, message):
    assert message in told("fit", "color_ridge", cohort, "--out", tmp_path / "M", "--set", value)
    assert not (tmp_path / "M").exists()


def test_a_parameter_can_be_set(cohort, tmp_path):
    words = ("fit", "ridge", cohort, "--out", tmp_path / "M", "--set", "encoder=color", "--set", "alpha=1e3")
    assert given(*words, "--set", "fov_um=[200]")["n_genes"] == 12
    params = json.loads((tmp_path / "M/model.json").read_text())["params"]
    assert (params["encoder"], params["alpha"], params["fov_um"]) == ("color", 1000.0, [200])


def test_fit_refuses_controls_and_taken_targets(cohort, model):
    assert "is a control, not a predictor" in told("fit", "depth_oracle", cohort, "--out", model.parent / "M2")
    assert "exists; choose another name" in told("fit", "mean", cohort, "--out", model)


@pytest.mark.slow
def test_fit_auto_shows_what_it_looked_at_and_says_what_it_picked(cohort, tmp_path):
    words = ("fit", "auto", cohort, "--models", "mean,color_ridge,knn:encoder=color:k=5", "--out")
    shown = invoke(*words, tmp_path / "M")
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"color_ridge +0\.\d+ .*picked", shown.stdout)
    assert "Picked color_ridge (Pearson" in shown.stdout
    assert "The simplest candidate whose mean Pearson" in shown.stderr
    told_by_json = given(*words, tmp_path / "M2", "--genes", "all")
    assert json.loads((tmp_path / "M2/model.json").read_text())["chosen_on"]
    assert (told_by_json["method"], told_by_json["choice"]["picked"]) == ("ridge", "color_ridge")
    assert len(told_by_json["choice"]["candidates"]) == 3


def test_fit_auto_tells_what_is_wrong_and_leaves_nothing(cohort, tmp_path):
    for words, message in (
        (("auto", "--set", "alpha=1"), "--set is for one method"),
        (("auto", "--models", "mean,rigde"), "there is no model 'rigde'"),
        (("color_ridge", "--models", "mean"), "--models lists the candidates of auto"),
        (("auto", "--models", ""), "there is no candidate"),
    ):
        assert message in told("fit", words[0], cohort, "--out", tmp_path / "M", *words[1:])
        assert not (tmp_path / "M").exists()


def test_fit_writes_the_card_of_the_model_and_model_card_writes_it_again(cohort, model, tmp_path):
    assert sorted(p.name for p in model.iterdir()) == ["README.md", "card.html", "model.json", "weights.safetensors"]
    before = (model / "card.html").read_bytes()
    assert given("model", "card", model)["written"] == [str(model / "card.html"), str(model / "README.md")]
    assert (model / "card.html").read_bytes() == before
    assert given("model", "card", model, "--out", tmp_path / "c.html")["written"] == [str(tmp_path / "c.html")]
    assert "is no model folder: model.json is missing" in told("model", "card", cohort)


@pytest.mark.slow
def test_fit_takes_all_genes_or_those_of_a_file(cohort, tmp_path):
    wide = given("fit", "color_ridge", cohort, "--out", tmp_path / "M", "--genes", "all")
    assert wide["n_genes"] == 12
    done = given("predict", tmp_path / "M", cohort / "sections/s1.h5ad", "--out", tmp_path / "P")
    assert (done["sections"][0]["n_genes"], done["trained_on"]) == (12, ["s1"])
    (tmp_path / "genes.txt").write_text("GENE5\nGENE1\n")
    given("fit", "color_ridge", cohort, "--out", tmp_path / "M2", "--genes", tmp_path / "genes.txt")
    assert json.loads((tmp_path / "M2/model.json").read_text())["genes"] == ["GENE5", "GENE1"]


def test_fit_tells_which_genes_it_cannot_take_and_leaves_nothing(cohort, tmp_path):
    (tmp_path / "twice.txt").write_text("GENE1\nGENE1\n")
    (tmp_path / "novel.txt").write_text("GENE1\nNOVEL\n")
    for method, genes, message in (
        ("encoder_mlp", "all", "mlp learns its genes together"),
        ("color_ridge", tmp_path / "nothing.txt", "nothing.txt cannot be read"),
        ("color_ridge", tmp_path / "novel.txt", "lacks 1 of 2 genes: NOVEL"),
        ("color_ridge", tmp_path / "twice.txt", "names GENE1 twice"),
        ("auto", tmp_path / "twice.txt", "names GENE1 twice"),
    ):
        assert message in told("fit", method, cohort, "--out", tmp_path / "M", "--genes", genes)
        assert not (tmp_path / "M").exists()


def test_a_method_without_a_score_says_why(cohort, tmp_path):
    result = invoke("fit", "mean", cohort, "--out", tmp_path / "M")
    assert "no gene has a defined score" in result.stdout


def test_predict_takes_a_cohort_a_section_and_an_image(cohort, model, tmp_path):
    by_cohort = given("predict", model, cohort, "--out", tmp_path / "P")
    assert [s["section"] for s in by_cohort["sections"]] == [f"s{i}" for i in range(6)]
    by_section = given("predict", model, cohort / "sections/s1.h5ad", "--out", tmp_path / "P1")
    assert by_section["sections"] == [{"section": "s1", "n_spots": 49, "n_genes": 12}]
    whole, one = (anndata.read_h5ad(tmp_path / p / "s1.h5ad") for p in ("P", "P1"))
    np.testing.assert_array_equal(whole.layers[keys.PREDICTED], one.layers[keys.PREDICTED])
    by_image = given("predict", model, cohort / "images/s1.png", "--mpp", "4", "--out", tmp_path / "P2")
    assert by_image["sections"][0]["n_genes"] == 12
    assert (by_section["trained_on"], by_image["trained_on"]) == (["s1"], ["s1"])  # the bare image by its tissue
    assert sorted(p.name for p in (tmp_path / "P2").iterdir()) == ["report.html", "s1.h5ad", "s1.png"]


@pytest.mark.slow
def test_predict_names_the_training_spots_that_predictions_rest_on(cohort, model, tmp_path):
    given("fit", "knn", cohort, "--out", tmp_path / "K", "--set", "encoder=color", "--set", "k=3")
    given("predict", tmp_path / "K", cohort / "sections/s1.h5ad", "--out", tmp_path / "P", "--explain")
    table = pd.read_csv(tmp_path / "P" / "s1.neighbours.csv")
    assert list(table["rank"][:4]) == [1, 2, 3, 1]
    own = table[table["rank"] == 1]
    assert (own["spot"] == own["train_spot"]).all()
    assert set(own["section"]) == {"s1"}
    given("fit", "mean", cohort, "--out", tmp_path / "E")
    for unable, message in (
        (tmp_path / "E", "mean averages no training spots"),
        (model, "this ridge kept no training spots to name; fit it with --set keep_spots=true"),
    ):
        assert message in told("predict", unable, cohort, "--out", tmp_path / "Q", "--explain")
    assert not (tmp_path / "Q").exists()


def test_predict_draws_the_regions_that_a_prediction_rests_on(cohort, model, tmp_path):
    words = ("predict", model, cohort / "sections/s1.h5ad", "--out", tmp_path / "P")
    given(*words, "--explain-gene", "GENE1", "--explain-spot", "3x3")
    assert (tmp_path / "P/s1.GENE1.3x3.png").read_bytes().startswith(b"\x89PNG")
    for options, message in (
        (("--explain-gene", "GENE1"), "--explain-gene and --explain-spot go together"),
        (("--explain-gene", "NOVEL", "--explain-spot", "3x3"), "does not predict NOVEL"),
        (("--explain-gene", "GENE1", "--explain-spot", "33x3"), "has no spot '33x3'; its spots are named like '0x0'"),
    ):
        assert message in told(*words[:-1], tmp_path / "Q", *options)
        assert not (tmp_path / "Q").exists()


def test_predict_tells_what_it_cannot_predict(cohort, model, tmp_path):
    out = tmp_path / "P"
    shutil.copy(cohort / "sections/s1.h5ad", tmp_path / "lone.h5ad")
    image = cohort / "images/s1.png"
    for words, message in (
        ((model, image), "the size of a pixel is not recorded; give it with --mpp"),
        ((model, image, "--mpp", "20000"), "is not a pixel size in um"),
        ((model, cohort, "--mpp", "4"), "--mpp is for a bare image"),
        ((model, cohort / "sections/s9.h5ad"), "names no section 's9'"),
        ((model, tmp_path / "lone.h5ad"), "is no section of a cohort"),
        ((model, tmp_path / "nothing.png", "--mpp", "1"), "nothing.png does not exist"),
        ((cohort, cohort), "is no model folder: model.json is missing"),
    ):
        assert message in told("predict", *words, "--out", out)
        assert not out.exists()


def test_predict_tells_when_no_section_has_an_image(model, tmp_path):
    write_cohort(raw_colour_cohort(1).map(lambda s: type(s)(s.id, s.donor, s.table, None, s.card)), tmp_path / "C")
    assert "no section of" in told("predict", model, tmp_path / "C", "--out", tmp_path / "P")


def test_embed_fills_the_cache_or_writes_features(cohort, tmp_path):
    done = given("embed", cohort, "--encoder", "color")
    assert (len(done["sections"]), done["sections"][0]["n_spots"], done["out"]) == (6, 49, None)
    image = cohort / "images/s0.png"
    words = ("embed", image, "--encoder", "color", "--mpp", "4", "--pitch-um")
    n_dims = given(*words, "100", "--out", tmp_path / "E")["sections"][0]["n_dims"]
    table = anndata.read_h5ad(tmp_path / "E/s0.h5ad")
    assert table.obsm["X_color"].shape == (table.n_obs, n_dims)
    assert table.uns["hescribe"]["encoder"] == "color"
    assert (tmp_path / "E" / table.uns["hescribe"]["source"]).resolve() == image.resolve()
    given(*words, "100", "--out", tmp_path / "H", "--format", "h5")
    bag = FileBag(tmp_path / "H/s0.h5")
    np.testing.assert_array_equal(bag.read(), table.X)
    np.testing.assert_allclose(bag.read_places().xy * 4, table.obsm["spatial_um"], atol=4)  # whole pixels of 4 um
    with h5py.File(bag.path) as file:
        facts = json.loads(file.attrs["hescribe"])
    assert (facts["encoder"], facts["mpp"]) == ("color", 4.0)
    assert "--format is one of h5ad, h5, got 'npz'" in told(*words, "100", "--format", "npz")
    assert "distance between spots" in told(*words, "0")
    assert "there is no encoder 'colour'" in told("embed", cohort, "--encoder", "colour")


def test_a_target_that_cannot_be_written_is_named(cohort, model, tmp_path):
    (tmp_path / "file").write_text("mine")
    target = tmp_path / "file" / "below"
    for words in (
        ("fit", "mean", cohort, "--out", target),
        ("predict", model, cohort, "--out", target),
        ("bench", "run", "--cohort", cohort, "--models", "mean", "--out", target),
        ("data", "import", cohort / "sections", "--reader", "h5ad", "--mpp", "4", "--out", target),
    ):
        assert re.search(r"below.* cannot be written", told(*words)), words
    assert (tmp_path / "file").read_text() == "mine"


def test_the_version_is_printed(monkeypatch):
    monkeypatch.setattr(OUTPUT, "as_json", False)
    assert re.fullmatch(r"\d+\.\d+\S*\n", invoke("--version").stdout)
