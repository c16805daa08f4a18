"""``hescribe data check``: options, exit codes, the page."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from hescribe.cards import DatasetCard
from hescribe.cli.app import app
from hescribe.data.cohort import Cohort
from hescribe.data.folder import write_cohort


def check(*words):
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


@pytest.fixture(scope="module")
def folders(raw_cohort, tmp_path_factory):
    """Return a sound cohort, and one that holds two of its sections under other names."""
    path = tmp_path_factory.mktemp("check")
    write_cohort(raw_cohort, path / "C")
    copies = tuple(replace(s, id=f"x{i}", donor=f"P{i}") for i, s in enumerate(raw_cohort[2:4]))
    write_cohort(Cohort(copies, DatasetCard(id="copies")), path / "copies")
    write_cohort(raw_cohort.where(lambda s: s.donor == "D2"), path / "new")
    return path


def test_the_page_is_written_and_named(folders, tmp_path):
    page = tmp_path / "quality.html"
    result = check(folders / "C", "--report", page, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["report"] == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_another_cohort_with_the_same_tissue_fails_the_check(folders):
    result = check(folders / "C", "--against", folders / "copies")
    assert result.exit_code == 1
    assert "error: section s2 (donor D1) is the same tissue as x0 (donor P0) of" in result.stdout
    assert "2 errors, 0 warnings" in result.stdout


def test_a_model_that_has_seen_the_cohort_under_other_names_fails_the_check(folders):
    fitted = CliRunner().invoke(app, ["fit", "mean", str(folders / "C"), "--out", str(folders / "M")])
    assert fitted.exit_code == 0
    result = check(folders / "copies", "--model", folders / "M", "--json")
    assert result.exit_code == 1
    found = [f for f in json.loads(result.stdout)["findings"] if f["kind"] == "leak"]
    assert [f["sections"] for f in found] == [["x0"], ["x1"]]
    assert "it is its training section s2 (donor D1) of colour under another name" in found[0]["text"]


def test_a_fitted_model_is_scored_on_new_donors_and_refused_on_old_ones(folders):
    def run(*words):
        return CliRunner().invoke(app, [str(w) for w in words])

    run("fit", "mean", folders / "copies", "--out", folders / "M2")
    refused = run("bench", "score", folders / "M2", folders / "C", "--json")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "it is its training section x0 (donor P0) of copies under another name" in refused.stderr
    scored = run("bench", "score", folders / "M2", folders / "new", "--json")
    table = json.loads(scored.stdout)["table"]
    assert {s["model"] for s in table} == {"mean fitted on copies"}
    assert next(s for s in table if s["metric"] == "mse")["by_donor"].keys() == {"D2"}


def test_scoring_a_model_that_remembers_no_tissue_says_what_may_pass(folders):
    CliRunner().invoke(app, ["fit", "mean", str(folders / "copies"), "--out", str(folders / "M3")])
    info = json.loads((folders / "M3/model.json").read_text())
    (folders / "M3/model.json").write_text(json.dumps(info | {"tissue": []}))
    scored = CliRunner().invoke(app, ["bench", "score", str(folders / "M3"), str(folders / "C")])
    assert scored.exit_code == 0
    assert "remembers no tissue: donors under other names pass" in scored.stderr


def test_an_encoder_that_has_not_seen_the_cohort_passes(folders):
    assert check(folders / "C", "--encoder", "efficientnet_lite0", "--encoder", "hub_model:uni").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--encoder", "efficientnet_lit0"), "efficientnet_lite0"),
        (("--model", "nothing"), "is no model folder"),
        (("--against", "nothing"), "is no cohort"),
        (("--report", "/proc/nothing/q.html"), "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_1(folders, words, message):
    result = check(folders / "C", *words)
    assert (result.exit_code, message in result.stderr) == (1, True)
    assert "Traceback" not in result.stderr
