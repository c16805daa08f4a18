"""The suite of slide-level tasks: who is scored on what, what stands beside a score, and what is refused."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hescribe.bench.slides.cards import OWN, find_tasks, read_suite
from hescribe.bench.slides.cells import plan_slides, read_slide_tasks, run_slides
from hescribe.bench.slides.protocol import list_slide_protocols, read_slide_protocol
from hescribe.bench.slides.results import SlideResults, TaskScores, describe
from hescribe.bench.slides.task import SlideTask
from hescribe.bench.study import read_study
from hescribe.cli.app import app
from hescribe.errors import DataAccessError, InputError, UnknownNameError
from hescribe.metrics.slides import auc
from hescribe.report.slides import attention_figure, write_slide_report
from hescribe.slide.bags import ArrayBag, JoinedBag, Places
from hescribe.slide.labels import SlideTable
from hescribe.slide.toy import toy_bags

TOY = toy_bags(0, n_bags=40, n_tiles=(6, 10), n_dims=4, share=0.5, distance=3.0)
BAGS = {b.id: b for b in TOY.bags}


def table(**columns):
    own = {"slide": list(BAGS), "donor": [f"d{i // 2:02d}" for i in range(40)]}
    return SlideTable(pd.DataFrame({**own, **columns}).astype(str), "labels.csv")


CLASSES = [str(i // 2 % 2) for i in range(40)]  # of a donor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features with places and labels of two tasks, and a finished run of them."""

    root = tmp_path_factory.mktemp("slides")
    (root / "features").mkdir()
    for bag in TOY.bags:
        with h5py.File(root / "features" / f"{bag.id}.h5", "w") as file:
            file["features"] = bag.features
            file["coords"] = np.stack([np.arange(len(bag.features)) * 256, np.zeros(len(bag.features))], axis=1)
    labels = [TOY.target.names[c] for c in TOY.target.codes]
    labels[7] = ""
    own = table(
        label=labels,
        tcga_brca_survival_time=range(1, 41),
        tcga_brca_survival_censorship=[i % 3 // 2 for i in range(40)],
    )
    own.table.to_csv(root / "labels.csv", index=False)
    return root


@pytest.fixture(scope="module")
def study(folder):
    options = {"models": ["knn:k=1", "abmil:epochs=1:n_hidden=4"], "seeds": [0, 1]}
    return read_study(
        None, suite="spade", features=str(folder / "features"), labels=str(folder / "labels.csv"),
        out=str(folder / "out"), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(study):
    assert run_slides(study).n_cached == 0
    return SlideResults(folder_of(study))


def folder_of(study):

    return Path(study.out)


class TestCards:
    def test_there_are_twenty_tasks_and_each_says_where_it_is_from(self):
        cards = read_suite().values()
        assert len(cards) == 20
        assert all(c.slides and c.labels and c.licence != "unknown" and c.told for c in cards)
        assert [sum(c.kind == k for c in cards) for k in ("classes", "grades", "survival")] == [12, 2, 6]

    def test_columns_of_a_table_say_which_tasks_it_has(self):
        found = find_tasks(table(panda="1", bcr_time="1", bcr_event="0", time="3", event="1", tcga_brca_time="1"))
        assert [c.name for c in found] == ["time", "panda", "bcr"]

    def test_a_table_without_a_task_and_one_with_both_conventions_are_told(self):
        with pytest.raises(InputError, match="no column of a task; name one 'label'"):
            find_tasks(table(stage="1"))
        with pytest.raises(InputError, match="event and censorship, whose 1 are opposite"):
            find_tasks(table(time="1", event="1", censorship="1"))


class TestTask:
    def test_every_protocol_can_be_read(self):
        assert {read_slide_protocol(name).name for name in list_slide_protocols()} == set(list_slide_protocols())
        assert read_slide_protocol("slides-v1+late").fusion == "late"
        with pytest.raises(UnknownNameError, match="there is no fusion 'middle'"):
            read_slide_protocol("slides-v1+middle")

    def test_no_donor_is_learned_from_and_told(self):
        task = SlideTask.of(OWN[0], table(label=CLASSES), BAGS, read_slide_protocol("slides-v1"))
        told = []
        for fold in task.folds(3):
            assert not set(task.table.donors[fold.train]) & set(task.table.donors[fold.test])
            told += fold.test.tolist()
        assert sorted(told) == list(range(40))

    def test_no_site_is_learned_from_and_told(self):
        sites = [f"h{i // 4}" for i in range(40)]
        task = SlideTask.of(OWN[0], table(label=CLASSES, site=sites), BAGS, read_slide_protocol("slides-site-v1"))
        for fold in task.folds(0):
            assert not set(task.table.sites[fold.train]) & set(task.table.sites[fold.test])

    def test_the_test_set_of_few_shots_is_the_same_for_all_seeds_and_shots(self):
        protocol = read_slide_protocol("few-shot-v1").model_copy(update={"shots": (1, 4)})
        task = SlideTask.of(OWN[0], table(label=CLASSES), BAGS, protocol)
        folds = [fold for seed in range(4) for fold in task.folds(seed)]
        assert len({tuple(f.test) for f in folds}) == 1
        assert [len(f.train) for f in folds[:2]] == [4, 16]  # slides of 1 and of 4 donors of each class, two each
        assert len({tuple(f.train) for f in folds[::2]}) > 1
        assert not any(set(task.table.donors[f.train]) & set(task.table.donors[f.test]) for f in folds)

    def test_early_fusion_makes_one_bag_of_the_slides_of_a_donor(self):
        task = SlideTask.of(OWN[0], table(label=CLASSES), BAGS, read_slide_protocol("slides-v1+early"))
        assert len(task.bags) == 20
        assert isinstance(task.bags[0], JoinedBag)
        np.testing.assert_array_equal(task.bags[0].read(), np.concatenate([TOY.bags[0].features, TOY.bags[1].features]))
        assert task.target.names[task.target.codes[3]] == CLASSES[6]

    def test_slides_of_a_donor_that_differ_cannot_be_joined(self):
        labels = ["1" if i == 5 else c for i, c in enumerate(["0"] * 40)]
        with pytest.raises(InputError, match="slides of donor d02 have the labels '0' and '1'"):
            SlideTask.of(OWN[0], table(label=labels), BAGS, read_slide_protocol("slides-v1+late"))

    def test_a_missing_bag_is_no_part_of_any_run(self):
        fewer = {k: v for k, v in BAGS.items() if k != "toy003"}
        with pytest.raises(InputError, match="labels without features: toy003"):
            SlideTask.of(OWN[0], table(label=CLASSES), fewer, read_slide_protocol("slides-v1"))

    def test_another_tile_or_label_is_other_data(self):
        protocol = read_slide_protocol("slides-v1")
        one = SlideTask.of(OWN[0], table(label=CLASSES), BAGS, protocol).data_hash
        changed = {**BAGS, "toy000": ArrayBag("toy000", TOY.bags[0].features + 1)}
        assert SlideTask.of(OWN[0], table(label=CLASSES), changed, protocol).data_hash != one
        assert SlideTask.of(OWN[0], table(label=CLASSES[::-1]), BAGS, protocol).data_hash != one


class TestRun:
    def test_scores_are_the_mean_of_folds_and_seeds_with_donors_resampled(self, results):
        score = next(s for s in results.scores if (s.task, s.model, s.metric) == ("label", "knn:k=1", "auc"))
        rows = results.tasks["label"].results.rows
        own = rows[(rows["model"] == "knn:k=1") & (rows["metric"] == "auc")]
        assert len(own) == 2 * 5
        assert score.value == pytest.approx(own["value"].mean())
        assert score.low < score.value < score.high
        assert (score.n_donors, score.chance) == (20, 0.5)

    def test_what_is_told_of_a_slide_is_told_by_a_model_that_has_not_seen_its_donor(self, results):
        """The scores of the cells are those of the predictions kept beside them, slide by slide."""
        own = results.tasks["label"]
        values, _ = own.draws("knn:k=1", "label", "auc")
        (task,) = [t for t in read_slide_tasks(results.study) if t.name == "label"]
        fold = next(task.folds(0))
        cell = next(c for c in plan_slides(task, ["knn:k=1"], [0]) if c.fold.name == fold.name)
        fitted = cell.model.fit([task.bags[i] for i in fold.train], task.target.take(fold.train))
        told = fitted.predict([task.bags[i] for i in fold.test])[:, 1]
        assert values[0] == pytest.approx(auc(task.target.codes[fold.test] == 1, told)[0])

    def test_a_slide_without_a_label_is_left_out_and_said(self, results):
        assert "1 slides without this label are left out" in describe(results.tasks["label"].task)
        assert len(results.tasks["label"].task.bags) == 39

    def test_the_convention_of_censoring_is_always_named(self, results):
        said = describe(results.tasks["tcga_brca_survival"].task)
        assert "27 events (column tcga_brca_survival_censorship: 1 is censored)" in said

    def test_what_is_done_is_not_done_again(self, results, study):
        again = run_slides(study)
        assert again.n_cached == again.n_cells == 2 * 2 * 5 * 2

    def test_a_model_against_itself_gains_nothing(self, results):
        assert results.tasks["label"].gain("knn:k=1", "knn:k=1", "label", "auc") == (0, 0, 0)

    def test_the_report_shows_every_task_and_a_map_of_attention(self, results):
        page = write_slide_report(results).read_text()
        assert page.count("data:image/png") == 4
        assert "which it was not trained on" in page
        assert "above knn:k=1" in page
        assert (results.path / "figures" / "label_attention_0.png").exists()

    def test_labels_that_changed_since_the_run_are_told(self, results, folder):
        path = folder / "labels.csv"
        before = path.read_text()
        path.write_text(before.replace("toy002,d01,negative", "toy002,d01,positive"))
        try:
            with pytest.raises(DataAccessError, match="labels or features of label have changed since the run"):
                SlideResults(results.path).tasks  # noqa: B018 - reading it is the test
        finally:
            path.write_text(before)

    def test_a_run_that_is_not_finished_compares_nothing(self, results, tmp_path):
        own = results.tasks["label"]
        shutil.copytree(own.path, tmp_path / "label")
        next((tmp_path / "label" / "cells").iterdir()).unlink()
        assert TaskScores(own.task, tmp_path / "label").gain("knn:k=1", "knn:k=1", "label", "auc") is None

    def test_a_folder_without_a_finished_cell_is_told(self, results, tmp_path):
        (tmp_path / "study.toml").write_text((results.path / "study.toml").read_text())
        with pytest.raises(DataAccessError, match="holds no benchmark run"):
            SlideResults(tmp_path).tasks  # noqa: B018 - reading it is the test


class TestCommandLine:
    def test_it_runs_and_prints_one_object(self, folder, tmp_path):
        words = ["bench", "run", "--suite", "spade", "--features", str(folder / "features"), "--labels"]
        words += [str(folder / "labels.csv"), "--models", "knn", "--seeds", "0", "--out", str(tmp_path / "r"), "--json"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["n_cells"] == 10
        assert {(r["task"], r["metric"]) for r in told["table"]} == {
            ("label", "auc"), ("label", "balanced_accuracy"), ("tcga_brca_survival", "c_index"),
        }  # fmt: skip

    def test_features_and_labels_are_asked_for(self, tmp_path):
        done = CliRunner().invoke(app, ["bench", "run", "--suite", "spade", "--out", str(tmp_path)])
        assert done.exit_code == 1
        assert "names no features; give --features" in done.output


class TestMap:
    def test_a_tile_lies_where_it_is_and_is_coloured_by_its_rank(self):
        places = Places(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]), 10.0, "px")
        tiles = attention_figure(np.array([0.1, 0.7, 0.2]), places).axes[0].collections[0]
        np.testing.assert_allclose(tiles.get_array(), [1 / 6, 5 / 6, 1 / 2])
        np.testing.assert_allclose(tiles.get_paths()[1].vertices[:4], [[5, -5], [15, -5], [15, 5], [5, 5]])

    def test_the_slide_lies_beside_its_map(self):
        picture = np.zeros((4, 6, 3), np.uint8)
        places = Places(np.array([[5.0, 5.0], [15.0, 5.0]]), 10.0, "px")
        slide, tiles, _ = attention_figure(np.array([0.4, 0.6]), places, image=picture).axes
        assert slide.images[0].get_array().shape == (4, 6, 3)
        assert tiles.get_ylim() == (10, 0)  # down, as in the picture

    def test_weights_of_other_tiles_are_told(self):
        with pytest.raises(InputError, match="2 weights and 1 places"):
            attention_figure(np.ones(2), Places(np.zeros((1, 2)), None, "um"))
