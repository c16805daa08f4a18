import json

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from hescribe.cli.app import app as program
from hescribe.cli.data import app
from hescribe.data.catalogue import load_catalogue


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def source(tmp_path):
    """Return a legacy ST folder: two donors' sections without image, one spot of A1 without place."""
    folder = tmp_path / "source"
    folder.mkdir()
    names = [f"{x}x{y}" for x in range(1, 7) for y in range(1, 5)]
    for section in ("A1", "B1"):
        counts = pd.DataFrame(1, index=names, columns=["G1", "G2", "G3"])
        counts.to_csv(folder / f"{section}.tsv", sep="\t")
        place = pd.Series(names).str.split("x", expand=True).astype(int)
        spots = pd.DataFrame({"x": place[0], "y": place[1], "new_x": place[0], "new_y": place[1]})
        spots["pixel_x"], spots["pixel_y"], spots["selected"] = place[0] * 100, place[1] * 100, 1
        spots.iloc[int(section == "A1") :].to_csv(folder / f"{section}_selection.tsv", sep="\t", index=False)
    return folder


def test_import_show_and_check_work_together(run, source, tmp_path):
    out = tmp_path / "cohort"
    imported = run("import", source, "--reader", "st", "--out", out)
    assert imported.exit_code == 0
    assert "2 sections of 2 donors, 47 spots, 3 genes in all sections (0 others left out)" in imported.stdout
    assert "A1: 1 spots left out, not in all of its files or beyond its image: 1x1" in imported.stderr
    assert "A1" in run("show", out).stdout
    assert "0 errors, 1 warning" in run("check", out).stdout


def test_json_is_one_object_and_nothing_else(run, source, tmp_path):
    out = tmp_path / "cohort"
    imported = json.loads(run("import", source, "--reader", "st", "--out", out, "--json", "--quiet").stdout)
    assert imported["n_spots"] == 47
    assert imported["dropped_spots"] == {"A1": ["1x1"]}
    assert imported["scale"]["A1"] == {"mpp": pytest.approx(2.0), "source": "spot pitch"}
    assert json.loads(run("show", out, "--json").stdout)["section"][0]["id"] == "A1"
    checked = json.loads(run("check", out, "--json").stdout)
    assert checked["ok"]
    assert checked["findings"][0]["level"] == "warning"


def test_a_mistake_is_one_sentence_and_exit_1(run, source, tmp_path):
    for words in (
        (tmp_path / "no", "--reader", "st"),
        (source, "--reader", "stt"),
        (source, "--reader", "visium"),
        (source, "--reader", "st", "--mpp", "900"),
        (source, "--reader", "st", "--card", "nothing"),
        (source, "--reader", "st", "--manifest", tmp_path / "no.toml"),
    ):
        result = run("import", *words, "--out", tmp_path / "cohort")
        assert result.exit_code == 1, words
        assert result.stderr.startswith("error: "), words
        assert result.stdout == ""
    assert not (tmp_path / "cohort").exists()


def test_a_parameter_of_the_reader_is_set(run, tmp_path):
    place = [5.0, 15.0, 5.0, 15.0] * 2
    table = pd.DataFrame({"feature_name": ["A", "A", "B", "B"] * 2, "x_location": place, "y_location": 5.0, "qv": 40.0})
    (tmp_path / "x").mkdir()
    table.to_parquet(tmp_path / "x/transcripts.parquet")
    words = (
        "import",
        tmp_path / "x",
        "--reader",
        "xenium",
        "--set",
        "spot_um=10",
        "--out",
        tmp_path / "cohort",
        "--json",
    )
    assert json.loads(run(*words).stdout)["n_spots"] == 2
    for wrong, told in (
        ("spot_um", "is not name=value"),
        ("spots=1", "has no parameter 'spots'; did you mean 'spot_um'"),
    ):
        result = run("import", tmp_path / "x", "--reader", "xenium", "--set", wrong, "--out", tmp_path / "other")
        assert result.exit_code == 1
        assert told in result.stderr


def test_wrong_usage_is_exit_2(run, source):
    assert run("import", source, "--reader", "st").exit_code == 2


def test_a_damaged_cohort_fails_the_check(run, source, tmp_path):
    out = tmp_path / "cohort"
    run("import", source, "--reader", "st", "--out", out)
    (out / "sections/A1.h5ad").write_bytes(b"x")
    result = run("check", out)
    assert result.exit_code == 1
    assert "error: " in result.stdout
    assert "A1.h5ad is damaged" in result.stdout


def test_show_names_what_a_dataset_of_the_catalogue_holds(run):
    shown = run("show", "mirzazadeh_mouse_brain").stdout
    assert "V11D08-304_A1" in shown
    assert "duplicate_of" in shown
    assert "data.mendeley.com/datasets/4w6krnywhn/1" in shown
    assert json.loads(run("show", "her2st", "--json").stdout)["section"][0] == {
        "id": "A1", "donor": "A", "split": None, "role": "main", "chip": None, "organ": None, "condition": None,
        "mpp": None,
    }  # fmt: skip


def test_show_prefers_a_cohort_to_a_dataset_of_the_same_name(run, source, tmp_path, monkeypatch):
    run("import", source, "--reader", "st", "--out", tmp_path / "her2st")
    monkeypatch.chdir(tmp_path)
    assert "B1" in run("show", "her2st").stdout
    assert json.loads(run("show", "her2st", "--json").stdout)["n_genes"] == 3


def test_show_takes_a_folder_of_fetched_files_for_no_cohort(run, tmp_path, monkeypatch):
    (tmp_path / "her2st").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "Andersson" in run("show", "her2st").stdout


def test_show_suggests_a_dataset_and_names_a_folder_that_is_no_cohort(run, tmp_path):
    assert "did you mean 'her2st'" in run("show", "her2s").stderr
    assert "is no cohort" in run("show", tmp_path).stderr
    assert "is no cohort" in run("show", tmp_path / "missing").stderr


def test_the_list_of_datasets_shows_every_id_whole_on_100_columns(monkeypatch):
    monkeypatch.setattr("hescribe.cli.output.Console", lambda **options: Console(**options | {"width": 100}))
    printed = CliRunner().invoke(program, ["list", "datasets"]).stdout.split()
    assert set(load_catalogue()) <= set(printed)
