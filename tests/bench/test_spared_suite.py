"""The suite spared: runs on measured and filled labels, ranks with ties, and the published leaderboard."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hescribe.bench.results import suite_of
from hescribe.bench.spared_suite import (
    SparedResults,
    _told_apart,
    published_scores,
    read_leaderboard,
    run_spared,
)
from hescribe.bench.study import Study
from hescribe.cli.app import app
from hescribe.data.catalogue import load_catalogue
from hescribe.data.folder import write_cohort
from hescribe.data.toy import toy_cohort
from hescribe.errors import DataAccessError, UnknownNameError
from hescribe.report.spared import _tie_groups, rank_figure, spared_table, verdict, write_spared_report


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spared")
    write_cohort(toy_cohort(0, n_donors=3, n_spots=40, n_genes=60), folder / "cohort")
    return Study(
        cohort=str(folder / "cohort"), out=str(folder / "out"), suite="spared", protocol="donor-v1",
        models=("mean", "color_ridge", "knn:encoder=color:k=20", "depth_oracle"), completers=("mean",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(study):
    run_spared(study)
    return SparedResults(Path(study.out))


class TestLeaderboard:
    def test_holds_ten_predictors_on_26_datasets_of_the_catalogue(self):
        table = read_leaderboard()
        assert set(table["dataset"]) == {e.id for e in load_catalogue().values() if e.collection == "spared"}
        assert table.groupby("metric")["model"].nunique().to_dict() == {"mse_entries": 10, "pearson_measured": 10}
        assert len(table) == 470
        assert not table.duplicated(["dataset", "metric", "model"]).any()

    def test_its_means_are_those_that_others_have_computed(self):
        """specs of the benchmark: mean MSE of ViT-B with deltas .985, of SEPAL .999, of HisToGene 2.404 on 25 sets."""
        mean = read_leaderboard().groupby(["metric", "model"])["value"].mean().round(3)
        assert mean["mse_entries"][["vit_delta", "sepal", "histogene"]].tolist() == [0.985, 0.999, 2.404]
        found = mean["pearson_measured"][["vit_delta", "stnet", "bleep"]].tolist()
        assert found == pytest.approx([0.392, 0.378, 0.274], abs=1.5e-3)

    def test_cells_that_are_probably_copied_say_so(self):
        table = read_leaderboard().set_index(["dataset", "model", "metric"])
        for dataset, other, model in (
            ("10xgenomic_mouse_brain_sagittal_posterior", "mirzazadeh_mouse_bone", "eggn"),
            ("mirzazadeh_mouse_bone", "mirzazadeh_mouse_brain", "histogene"),
        ):
            for metric in ("mse_entries", "pearson_measured"):
                cell = table.loc[(dataset, model, metric)]
                assert cell["value"] == table.loc[(other, model, metric), "value"] or metric == "mse_entries"
                assert "probably copied" in cell["doubt"]

    def test_of_another_dataset_nothing_was_published(self):
        assert published_scores("her2st").empty
        assert published_scores("villacampa_lung_organoid")["pearson_measured"].is_monotonic_decreasing


class TestTies:
    def test_what_differs_everywhere_is_told_apart_and_noise_is_not(self):
        rng = np.random.default_rng(0)
        ranks = np.column_stack([rng.normal(1, 0.1, 200), rng.normal(3, 1, 200), rng.normal(3, 1, 200)])
        apart = _told_apart(ranks)
        assert apart.tolist() == [[False, True, True], [True, False, False], [True, False, False]]

    def test_bars_are_the_longest_runs_without_a_difference(self):
        class Tied:
            def __init__(self, *tied):
                self.tied = frozenset(tied)

        entrants = [Tied(0, 1), Tied(0, 1, 2), Tied(1, 2), Tied(3)]
        assert _tie_groups(entrants) == [(0, 1), (1, 2)]


class TestRun:
    def test_every_predictor_is_run_on_every_kind_of_labels_and_controls_once(self, results):
        models = {labels: set(r.rows["model"]) for labels, r in results.runs.items()}
        assert models["measured"] - models["mean"] == {"depth_oracle"}
        assert {x.labels for x in results.entrants} == {"measured", "mean"}
        assert "depth_oracle" not in {x.model for x in results.entrants}

    def test_ranks_are_those_of_the_genes_scores(self, results):
        """Recomputed from the rows with pandas."""
        parts = [r.rows.assign(labels=labels) for labels, r in results.runs.items()]
        rows = pd.concat(parts).query("metric == 'pearson' and gene != '' and control == '' and model != 'mean'")
        wide = rows.pivot_table(index=["donor", "section", "gene"], columns=["model", "labels"], values="value")
        ranks = wide.fillna(-9).rank(axis=1, ascending=False).groupby("donor").mean().mean()
        for x in results.entrants:
            assert x.mean_rank == pytest.approx(ranks[x.model, x.labels])

    def test_a_second_run_finds_everything_done(self, study, results):
        assert results.entrants
        again = run_spared(study)
        assert again.n_cached == again.n_cells > 0

    def test_unknown_completers_are_refused_before_anything_is_written(self, study, tmp_path):
        wrong = replace(study, out=str(tmp_path / "o"), completers=("spakcle",))
        with pytest.raises(UnknownNameError, match="did you mean 'spackle'"):
            run_spared(wrong)
        assert not (tmp_path / "o").exists()

    def test_a_folder_without_finished_cells_says_so(self, study, tmp_path):
        with pytest.raises(DataAccessError):
            _ = SparedResults(tmp_path).entrants


class TestReport:
    def test_page_holds_ranks_scores_and_what_filling_changed(self, results):
        page = write_spared_report(results).read_text()
        for text in ("Synthetic data", "mean rank", "knn:encoder=color:k=20", "change<br>by mean", "data:image/png"):
            assert text in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        table = pd.read_csv(results.path / "table.csv")
        assert set(table["source"]) == {"measured here"}

    def test_few_donors_are_said_to_carry_no_ties(self, results):
        assert "they say nothing about new donors" in verdict(results)[0]
        assert rank_figure(results).axes[0].get_yticklabels()[0].get_text().startswith(results.entrants[0].model)

    def test_published_scores_stand_beside_ours_and_are_marked(self, results, monkeypatch):
        monkeypatch.setitem(results.runs["measured"].plan["task"]["cohort"], "id", "villacampa_lung_organoid")
        table = spared_table(results)
        published = table[table["source"] != "measured here"]
        assert len(published) == 20
        assert set(published["source"]) == {"published, SpaRED 2024"}

    def test_command_line_runs_reports_and_prints_one_json(self, study, tmp_path):
        def say(*words):
            return json.loads(CliRunner().invoke(app, ["bench", *words, "--json"], catch_exceptions=False).stdout)

        given = ["--suite", "spared", "--cohort", study.cohort, "--protocol", "donor-v1", "--models", "color_ridge"]
        said = say("run", *given, "--completers", "mean", "--out", str(tmp_path / "o"))
        assert {r["protocol"] for r in said["table"]} == {"donor-v1", "donor-v1+mean"}
        assert suite_of(tmp_path / "o") == "spared"
        assert say("report", str(tmp_path / "o"))["n_missing"] == 0
