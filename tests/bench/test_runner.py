"""Cells are atomic and content-keyed: nothing is run twice, nothing stale is served."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench import runner, store
from hescribe.bench.ladder import LADDER, ShuffledPairs, create_model, is_control
from hescribe.bench.protocols import list_protocols, read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import plan_cells, run_cell, run_study
from hescribe.bench.scores import as_json, score_table
from hescribe.bench.store import MEASUREMENTS, Ledger, Store
from hescribe.bench.task import GENE_RULES, PredictionTask
from hescribe.data.image import ArrayImage
from hescribe.errors import DataAccessError, InputError, SchemaError, UnknownNameError
from hescribe.metrics.base import all_metrics
from hescribe.predict.base import Prediction, predictors
from hescribe.predict.knn import KNNPredictor
from hescribe.predict.mean import MeanPredictor

MODELS = ("mean", "color_ridge", "depth_oracle")


@pytest.fixture
def task(raw_cohort):
    return PredictionTask(raw_cohort, read_protocol("donor-v1"))


def without_measurements(rows):
    return rows.drop(columns=list(MEASUREMENTS))


def test_a_second_run_serves_every_cell_from_the_store(task, tmp_path, monkeypatch):
    first = run_study(task, MODELS, tmp_path)
    assert (first.n_cells, first.n_cached) == (9, 0)
    monkeypatch.setattr(runner, "run_cell", lambda *a, **k: pytest.fail("a finished cell was run again"))
    assert run_study(task, MODELS, tmp_path).n_cached == 9


def test_a_run_that_breaks_resumes_to_identical_rows(task, tmp_path, monkeypatch):
    run_study(task, MODELS, tmp_path / "whole")
    real, calls = runner.run_cell, []

    def breaks(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(runner, "run_cell", breaks)
    with pytest.raises(KeyboardInterrupt):
        run_study(task, MODELS, tmp_path / "broken")
    n_missing = Results(tmp_path / "broken").n_missing
    assert 0 < n_missing <= 5
    monkeypatch.setattr(runner, "run_cell", real)
    assert run_study(task, MODELS, tmp_path / "broken").n_cached == 9 - n_missing
    whole, broken = (without_measurements(Results(tmp_path / d).rows) for d in ("whole", "broken"))
    assert whole.equals(broken)


def test_a_change_anywhere_that_a_predictor_imports_from_makes_its_cells_stale():
    """A package that is missing in the list would serve old numbers for new code."""
    source = Path(str(files("hescribe")))
    decide = {part.removesuffix(".py") for part in store.DECIDES}
    used = set()
    for package in decide - {"bench"}:
        for path in [*(source / package).rglob("*.py"), source / f"{package}.py"]:
            used |= set(re.findall(r"^ *from hescribe\.(\w+)", path.read_text(), re.MULTILINE) if path.exists() else ())
    assert used - decide <= {"errors", "progress", "registry", "settings", "_support"}


def test_rows_say_what_an_approximate_search_found(task):
    pytest.importorskip("faiss", reason="approximate search needs the extra [retrieval]")
    fold = next(task.folds())
    exact, approximate = (
        run_cell(task, fold, KNNPredictor(encoder="color", k=5, index=index), 0).rows for index in ("exact", "ivf")
    )
    assert not [r for r in exact if r.metric == "neighbour_recall"]
    said = [r for r in approximate if r.metric == "neighbour_recall"]
    assert [r.section for r in said] == [s.id for s in fold.test]
    assert all(r.value == 1.0 for r in said)  # so small a bank is one list


def test_two_runs_at_once_into_one_folder_leave_the_rows_of_one(task, tmp_path):
    run_study(task, MODELS, tmp_path / "alone")
    with ThreadPoolExecutor(2) as pool:
        for run in [pool.submit(run_study, task, MODELS, tmp_path / "both") for _ in range(2)]:
            run.result()
    alone, both = (without_measurements(Results(tmp_path / d).rows) for d in ("alone", "both"))
    assert alone.equals(both)
    assert Results(tmp_path / "both").looks == 2
    assert list((tmp_path / "both").rglob(".*")) == []


def test_what_runs_beside_a_cell_does_not_change_its_rows(task, tmp_path, monkeypatch):
    """Networks draw random numbers from one stream of the process."""
    small = predictors.create("mlp", encoder="color", epochs=5)
    monkeypatch.setattr(runner, "create_model", lambda _: small.with_params())
    rows = []
    for n_workers in ("1", "4"):
        monkeypatch.setenv("HESCRIBE_WORKERS", n_workers)
        run_study(task, ("mlp",), tmp_path / n_workers, seeds=(0, 1))
        rows.append(without_measurements(Results(tmp_path / n_workers).rows))
    assert rows[0].equals(rows[1])


@pytest.mark.parametrize("change", ["counts", "image", "pitch", "parameter", "protocol", "code"])
def test_a_changed_input_parameter_or_method_runs_its_cells_again(task, raw_cohort, tmp_path, monkeypatch, change):
    before = {c.key for c in plan_cells(task, ["color_ridge"])}
    if change == "counts":

        def bump(section):
            table = section.table.copy()
            table.layers[keys.COUNTS] = table.layers[keys.COUNTS].copy()
            table.layers[keys.COUNTS].data[0] += 1
            table.obs[keys.DEPTH] += 1
            return section.with_table(table)

        task = PredictionTask(raw_cohort.map(bump), task.protocol)
    elif change == "image":
        other = raw_cohort.map(lambda s: replace(s, image=replace(s.image, fingerprint="other")))
        task = PredictionTask(other, task.protocol)
    elif change == "pitch":
        task = PredictionTask(raw_cohort.map(lambda s: replace(s, card=replace(s.card, pitch_um=150.0))), task.protocol)
    elif change == "protocol":
        task = PredictionTask(raw_cohort, replace(task.protocol, revision="2"))
    elif change == "code":
        monkeypatch.setattr(store, "_package_hash", lambda: "another version of the code")
    elif change == "parameter":
        monkeypatch.setattr(runner, "create_model", lambda name: create_model(name).with_params(alpha=1.0))
    assert not before & {c.key for c in plan_cells(task, ["color_ridge"])}


def test_unchanged_input_keeps_its_keys(raw_cohort, task):
    again = PredictionTask(raw_cohort.map(lambda s: s), task.protocol)
    assert [c.key for c in plan_cells(again, MODELS)] == [c.key for c in plan_cells(task, MODELS)]


def test_rows_carry_value_ceiling_chance_and_counts(task):
    rows = run_cell(task, next(task.folds()), create_model("color_ridge"), 0, name="color_ridge").rows
    means = [r for r in rows if r.metric == "pearson" and not r.gene]
    assert {r.section for r in means} == {"s0", "s1"}
    for r in means:
        assert -1 <= r.value <= r.ceiling + 0.2
        assert r.chance == 0
        assert r.n_defined + r.n_undefined == 12
        genes = [g for g in rows if g.metric == "pearson" and g.gene and g.section == r.section]
        assert len(genes) == 12
        assert np.nanmean([g.value for g in genes]) == pytest.approx(r.value)


def test_colour_signal_is_found_and_shuffled_pairs_find_none(task, tmp_path):
    run_study(task, ("color_ridge", "shuffled_pairs", "mean", "depth_oracle"), tmp_path)
    scores = {(s.model, s.metric): s for s in Results(tmp_path).scores}
    signal, null = scores["color_ridge", "pearson"], scores["shuffled_pairs", "pearson"]
    assert signal.value > 0.35
    assert null.value < signal.value / 2  # what differs between sections is left in the null
    assert signal.chance == pytest.approx(null.value, abs=0.02)
    assert signal.chance_sd > 0
    assert scores["mean", "pearson"].value is None
    assert scores["mean", "pearson"].n_undefined == 72  # 12 genes in 6 sections
    assert scores["depth_oracle", "mse"].value is None
    assert signal.low is None  # three donors
    assert set(signal.by_donor) == {"D0", "D1", "D2"}


class Misshapen(MeanPredictor):
    name = "misshapen"

    def predict(self, section):
        return Prediction(self.mean_[None], self.genes_)


class NotFinite(MeanPredictor):
    name = "not_finite"

    def predict(self, section):
        mean = super().predict(section).mean
        mean[0, 0] = np.nan
        return Prediction(mean, self.genes_)


@pytest.mark.parametrize(
    ("model", "message"), [(Misshapen, r"expected \(49, 12\)"), (NotFinite, "not finite for section s0")]
)
def test_a_bad_prediction_is_refused(task, model, message):
    with pytest.raises(InputError, match=message):
        run_cell(task, next(task.folds()), model(), 0)


def test_sections_without_an_image_are_left_out_and_counted(raw_cohort):
    mixed = raw_cohort.map(lambda s: replace(s, image=None) if s.id == "s0" else s)
    card = PredictionTask(mixed, read_protocol("donor-v1")).card
    assert (card.n_sections, card.n_left_out) == (5, 1)


def test_a_cohort_without_any_image_is_refused(raw_cohort):
    blank = raw_cohort.map(lambda s: replace(s, image=None))
    with pytest.raises(InputError, match="no section of cohort colour has an image"):
        next(PredictionTask(blank, read_protocol("donor-v1")).folds())


def test_wrong_counts_are_refused_before_anything_is_run(raw_cohort, tmp_path):
    def damage(section):
        table = section.table.copy()
        table.layers[keys.COUNTS].data[:2] = -1.0, np.nan
        return section.with_table(table)

    bad = raw_cohort.map(lambda s: damage(s) if s.id in {"s1", "s4"} else s)
    with pytest.raises(SchemaError, match=r"section s1: 1 counts are not finite") as error:
        run_study(PredictionTask(bad, read_protocol("donor-v1")), MODELS, tmp_path / "out")
    assert len(error.value.problems) == 4
    assert not (tmp_path / "out").exists()


def test_a_cohort_without_deep_spots_is_refused(raw_cohort):
    deep = replace(read_protocol("donor-v1"), min_counts=10**9)
    with pytest.raises(InputError, match="no section of cohort colour has 10 spots with 1000000000 counts"):
        _ = PredictionTask(raw_cohort, deep).prepared


def test_one_donor_is_refused(raw_cohort):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    with pytest.raises(InputError, match="has one donor only"):
        next(PredictionTask(one, read_protocol("donor-v1")).folds())


def test_looks_count_variants_once_and_survive_deleted_cells(task, tmp_path):
    run_study(task, ("mean", "color_ridge", "depth_oracle"), tmp_path)
    assert Results(tmp_path).looks == 2  # the control is no look
    for cell in (tmp_path / "cells").iterdir():
        cell.unlink()
    run_study(task, ("mean", "color_ridge", "position"), tmp_path)
    assert Results(tmp_path).looks == 3


def test_a_ledger_counts_by_task_and_protocol(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add("t1", "p", "m", "{}")
    ledger.add("t1", "p", "m", "{}")
    ledger.add("t2", "p", "m", "{}")
    assert (ledger.looks("t1", "p"), ledger.looks("t2", "p"), ledger.looks("t1", "q")) == (1, 1, 0)


def test_a_line_torn_by_a_full_disk_costs_no_other_look(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add("t", "p", "m1", "{}")
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('["t", "p", "m')
    ledger.add("t", "p", "m2", "{}")
    assert ledger.looks("t", "p") == 2


def test_a_null_without_any_defined_score_has_no_spread(raw_cohort, tmp_path):
    """Blank images: every colour feature is constant, and so is what the shuffled pairs predict."""

    def blank(section):
        pixels = np.full_like(section.image.pixels, 200)
        return replace(section, image=ArrayImage(pixels, section.image.mpp, f"blank-{section.id}"))

    task = PredictionTask(raw_cohort.map(blank), read_protocol("donor-v1"))
    run_study(task, ("color_ridge", "shuffled_pairs", "domain_oracle"), tmp_path)
    text = json.dumps(as_json(Results(tmp_path).scores), allow_nan=False)
    assert '"chance_sd": null' in text


def test_one_shuffle_without_a_score_does_not_empty_the_null(task, tmp_path):
    run_study(task, ("shuffled_pairs",), tmp_path)
    rows = Results(tmp_path).rows
    rows = rows[(rows["metric"] == "pearson") & (rows["gene"] == "")].copy()
    rows.loc[rows["seed"] == 0, "value"] = np.nan
    left = rows[rows["seed"] > 0].groupby(["seed", "donor"])["value"].mean().groupby("seed").mean()
    (score,) = score_table(rows)
    assert score.chance == pytest.approx(left.mean())
    assert score.chance_sd == pytest.approx(left.std(ddof=1))


def test_a_full_disk_leaves_no_cell_behind(task, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.pq, "write_table", full)
    with pytest.raises(DataAccessError, match="cannot be written: No space left on device"):
        run_study(task, ("mean",), tmp_path)
    assert list((tmp_path / "cells").iterdir()) == []


def test_stored_predictions_are_those_that_were_scored(task, tmp_path):
    run_study(task, ("color_ridge",), tmp_path)
    fold = next(task.folds())
    expected = create_model("color_ridge").fit(fold.train).predict(fold.test[0].blind()).mean
    np.testing.assert_allclose(Results(tmp_path).predictions("color_ridge")["s0"], expected, rtol=1e-4)


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(DataAccessError, match="holds no benchmark run"):
        _ = Results(tmp_path).plan


@pytest.mark.parametrize("name", LADDER)
def test_every_rung_can_be_created_and_has_a_card(name):
    model = create_model(name)
    assert model.card.summary
    assert json.dumps(model.get_params())


def test_controls_are_no_predictors():
    controls = [n for n in LADDER if is_control(create_model(n))]
    assert controls == ["shuffled_pairs", "depth_oracle", "domain_oracle"]
    assert not set(controls) & set(predictors)


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="there is no model 'rigde'; known: mean, position"):
        create_model("rigde")


@pytest.mark.parametrize("name", list_protocols())
def test_protocols_name_existing_metrics_and_rules(name):
    protocol = read_protocol(name)
    assert protocol.name == name
    assert set(protocol.metrics) <= set(all_metrics())
    assert protocol.gene_rule in GENE_RULES
    assert protocol.split in {"donor", "section", "published"}


def test_an_unknown_protocol_is_an_error():
    with pytest.raises(
        UnknownNameError, match="known: donor-v1, labels-split-v1, labels-v1, mclstexp-2024, section-v1, spared-2024"
    ):
        read_protocol("donor-v9")


def test_store_writes_rows_last(task, tmp_path, monkeypatch):
    """A cell whose predictions were written but whose rows were not is not finished."""
    result = run_cell(task, next(task.folds()), create_model("mean"), 0)
    monkeypatch.setattr(store.pq, "write_table", lambda *a, **k: (_ for _ in ()).throw(OSError(5, "broken")))
    with pytest.raises(DataAccessError):
        Store(tmp_path).write("k", result.rows, result.predictions)
    assert (tmp_path / "predictions" / "k.npz").exists()
    assert not Store(tmp_path).has("k")


def test_shuffled_pairs_may_be_those_of_any_predictor(cohort):
    """The nearest train spot of a train spot is itself: it is given the expression of another of its section."""
    fitted = ShuffledPairs(base=KNNPredictor(encoder="color", k=1)).fit(cohort)
    predicted, target = fitted.predict(cohort[0].blind()).mean, cohort[0].layer(keys.TARGET)
    np.testing.assert_allclose(np.sort(predicted, axis=0), np.sort(target, axis=0), rtol=1e-5)
    assert (np.abs(predicted - target).max(axis=1) > 1e-3).mean() > 0.8


def test_a_look_whose_line_was_lost_is_counted_again_by_the_next_run(task, tmp_path):
    run_study(task, ("mean", "color_ridge"), tmp_path)
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(ledger.read_text()[:-20])
    assert Ledger(tmp_path).looks(task.name, task.protocol.name) == 1
    assert run_study(task, ("mean", "color_ridge"), tmp_path).n_cached == 6
    assert Ledger(tmp_path).looks(task.name, task.protocol.name) == 2


def test_a_row_says_where_a_cell_need_not_repeat(monkeypatch):
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "H200")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert runner.device_name() == "H200, repeats but for rounding"
    monkeypatch.delitem(sys.modules, "torch")
    assert runner.device_name() == "cpu"


def test_a_row_waits_for_a_thread_that_is_still_loading_torch(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text(
        "import time\ntime.sleep(0.3)\nclass cuda:\n    is_available = staticmethod(lambda: False)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(import_module, "torch")
        while "torch" not in sys.modules:
            assert not loading.done()
        assert runner.device_name() == "cpu"
    sys.modules.pop("torch")
