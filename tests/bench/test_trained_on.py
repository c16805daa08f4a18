"""What a model or an encoder was trained on is not scored, whatever name it is given."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe.bench.completion.cells import plan_completion
from hescribe.bench.completion.protocol import read_completion_protocol
from hescribe.bench.completion.task import CompletionTask
from hescribe.bench.external import score_fitted
from hescribe.bench.fitting import fit_model
from hescribe.bench.ladder import create_model
from hescribe.bench.leakage import (
    check_encoder,
    check_gene_encoder,
    check_model,
    find_leaks,
    find_trained_dataset,
    find_trained_sections,
)
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import plan_cells, run_cell
from hescribe.bench.task import PredictionTask
from hescribe.cards import DatasetCard
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import take_print
from hescribe.data.folder import write_cohort
from hescribe.encode.color import Color
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, LeakageError, PanelError
from hescribe.predict.ridge import RidgePredictor
from hescribe.prep.genes import to_panel

PROTOCOL = read_protocol("donor-v1")


@pytest.fixture(scope="module")
def model(raw_cohort):
    """A model fitted on donors D0 and D1, four sections."""
    return fit_model(create_model("mean"), raw_cohort.where(lambda s: s.donor != "D2"), PROTOCOL)


def prints(cohort, model):
    return [take_print(s, cohort.card.id, frozenset(model.info.genes)) for s in cohort]


def renamed(section, name, donor, *, keep=slice(None)):
    """The section under another name, its spots renamed, some left out."""
    table = section.table[keep].copy()
    table.obs_names = [f"{name}-{i}" for i in range(table.n_obs)]
    return replace(section, id=name, donor=donor, table=table)


def test_a_training_donor_under_another_name_is_refused(model, raw_cohort):
    planted = renamed(raw_cohort[0], "x1", "P9", keep=slice(9, None))
    other = Cohort((planted, raw_cohort[5]), DatasetCard(id="renamed"))
    with pytest.raises(
        LeakageError, match=r"x1 \(it is its training section s0 \(donor D0\) of colour under another name"
    ):
        check_model(model.info, "renamed", prints(other, model))


def test_every_section_of_a_donor_counts_once_one_is_recognised(model, raw_cohort):
    pair = renamed(raw_cohort[0], "x1", "P9"), renamed(raw_cohort[5], "x2", "P9")
    found = find_trained_sections(model.info, "renamed", prints(Cohort(pair, DatasetCard(id="renamed")), model))
    assert list(found) == ["x1", "x2"]
    assert found["x2"] == "x1, of the same donor P9, was trained on"


def test_sections_of_unknown_donors_are_not_taken_for_one_donor_s(model, raw_cohort):
    pair = renamed(raw_cohort[0], "x1", "unknown"), renamed(raw_cohort[5], "x2", "unknown")
    found = find_trained_sections(model.info, "renamed", prints(Cohort(pair, DatasetCard(id="renamed")), model))
    assert list(found) == ["x1"]


def test_donors_it_has_not_seen_pass(model, raw_cohort):
    unseen = raw_cohort.where(lambda s: s.donor == "D2")
    check_model(model.info, "colour", prints(unseen, model))
    assert find_trained_sections(model.info, "colour", prints(raw_cohort, model)).keys() == {"s0", "s1", "s2", "s3"}


def test_a_donor_of_the_same_name_in_another_cohort_is_another_donor(model, raw_cohort):
    namesake = Cohort((renamed(raw_cohort[5], "s0", "D0"),), DatasetCard(id="elsewhere"))
    assert find_trained_sections(model.info, "elsewhere", prints(namesake, model)) == {}


def test_the_image_alone_gives_a_training_section_away(model, raw_cohort):
    planted = replace(raw_cohort[0], id="x", donor="P", table=raw_cohort[5].table)
    found = find_trained_sections(model.info, "renamed", prints(Cohort((planted,), DatasetCard(id="renamed")), model))
    assert "their images show the same tissue" in found["x"]


def test_what_the_catalogue_knows_gives_a_training_section_away(model):
    info = replace(model.info, cohort="hest_1k", tissue=(replace(model.info.tissue[0], section="TENX155"),))
    blank = take_print_of("TENX128", "hest_1k")
    assert "the catalogue says so" in find_trained_sections(info, "hest_1k", [blank])["TENX128"]


def take_print_of(section, cohort):
    from hescribe.testing.cohorts import colour_section  # noqa: PLC0415 - only here

    return take_print(replace(colour_section(77, "P"), id=section), cohort)


def test_the_folds_refuse_one_section_under_two_donors(raw_cohort):
    planted = renamed(raw_cohort[0], "x", "D9", keep=slice(20, None))
    task = PredictionTask(replace(raw_cohort, sections=(*raw_cohort, planted)), PROTOCOL)
    with pytest.raises(LeakageError, match=r"s0 \(donor D0\) and x \(donor D9\) are the same tissue \(29 spots"):
        list(task.folds())


def test_one_section_twice_is_refused_under_a_split_by_section_whoever_its_donor(raw_cohort):
    planted = renamed(raw_cohort[0], "x", "D0")
    task = PredictionTask(replace(raw_cohort, sections=(*raw_cohort, planted)), read_protocol("section-v1"))
    with pytest.raises(LeakageError, match=r"are the same tissue .*; drop one of them$"):
        list(task.folds())


def test_one_section_twice_of_one_donor_is_no_leak(raw_cohort):
    planted = renamed(raw_cohort[0], "x", "D0")
    assert len(list(PredictionTask(replace(raw_cohort, sections=(*raw_cohort, planted)), PROTOCOL).folds())) == 3


def test_a_fitted_model_is_scored_on_donors_it_has_not_seen_and_on_no_others(model, raw_cohort):
    unseen = raw_cohort.where(lambda s: s.donor == "D2")
    scores = {s.metric: s for s in score_fitted(model, unseen, PROTOCOL)}
    task = PredictionTask(raw_cohort, PROTOCOL)
    fold = next(f for f in task.folds(panel=model.info.genes) if f.name == "D2")
    rows = [r for r in run_cell(task, fold, create_model("mean"), 0).rows if r.metric == "mse" and not r.gene]
    assert scores["mse"].value == pytest.approx(np.mean([r.value for r in rows]))  # the same fit, in a benchmark
    assert scores["mse"].by_donor.keys() == {"D2"}
    assert scores["pearson"].value is None  # the mean predictor is constant
    assert (scores["pearson"].n_defined, scores["pearson"].n_undefined) == (0, 24)
    with pytest.raises(LeakageError, match="was trained on the donors of 4 sections of colour: s0"):
        score_fitted(model, raw_cohort, PROTOCOL)


@pytest.mark.parametrize("protocol", [PROTOCOL, read_protocol("labels-v1")], ids=lambda p: p.name)
def test_every_metric_of_a_fitted_model_is_that_of_the_benchmark(raw_cohort, protocol):
    predictor = RidgePredictor(encoder="color", alpha=10.0)
    ridge = fit_model(predictor, raw_cohort.where(lambda s: s.donor != "D2"), protocol)
    scores = score_fitted(ridge, raw_cohort.where(lambda s: s.donor == "D2"), protocol)
    task = PredictionTask(raw_cohort, protocol)
    fold = next(f for f in task.folds(panel=ridge.info.genes) if f.name == "D2")
    rows = [r for r in run_cell(task, fold, predictor, 0).rows if not r.gene]
    for score in scores:
        assert score.value == pytest.approx(np.mean([r.value for r in rows if r.metric == score.metric])), score.metric


def test_scoring_a_fitted_model_needs_its_genes_and_its_unit(model, raw_cohort):
    fewer = Cohort((to_panel(raw_cohort[4], raw_cohort.genes[:-1]),), raw_cohort.card)
    with pytest.raises(PanelError, match="lacks 1 of 12 genes: GENE11"):
        score_fitted(model, fewer, PROTOCOL)
    with pytest.raises(InputError, match="scores something else than the model predicts"):
        score_fitted(model, raw_cohort, read_protocol("donor-v1+gene_axis"))


def test_a_model_whose_encoder_was_trained_on_the_cohort_is_not_scored(model, raw_cohort):
    encoder = {"name": "e", "trained_on": ["elsewhere"]}
    informed = replace(model, info=replace(model.info, encoder=encoder))
    other = Cohort((renamed(raw_cohort[5], "y", "P"),), DatasetCard(id="elsewhere"))
    with pytest.raises(LeakageError, match="encoder e was trained on elsewhere itself"):
        score_fitted(informed, other, PROTOCOL)


@pytest.fixture
def trained_encoder(monkeypatch):
    """Make the colour encoder say that it was trained on the cohort named colour."""
    card = replace(Color().card, trained_on=("imagenet-1k", "colour"))
    monkeypatch.setattr(Color, "card", card)


@pytest.mark.usefixtures("trained_encoder")
def test_an_encoder_trained_on_the_cohort_is_refused_before_anything_runs(raw_cohort):
    task = PredictionTask(raw_cohort, PROTOCOL)
    with pytest.raises(LeakageError, match="encoder color was trained on colour itself: its scores on colour"):
        plan_cells(task, ["mean", "color_ridge"])
    with pytest.raises(LeakageError, match="encoder color was trained on colour itself"):
        run_cell(task, next(task.folds()), RidgePredictor(encoder="color"), 0)
    assert len(plan_cells(task, ["mean"])) == 3
    judged = CompletionTask(raw_cohort, read_completion_protocol("complete-v1"))
    with pytest.raises(LeakageError, match="encoder color was trained on colour itself"):
        plan_completion(judged, ["mean", "spackle:encoder=color"])


def test_a_collection_that_holds_the_cohort_counts_as_the_cohort():
    assert find_trained_dataset(("hest_1k",), "her2st", ["A1"]) is not None
    assert "mirzazadeh_mouse_brain/V10S29-134_A1" in find_trained_dataset(
        ("mirzazadeh_mouse_brain_p1",), "mirzazadeh_mouse_brain", ["V10S29-134_A1", "V11D08-304_A1"]
    )
    assert find_trained_dataset(("mirzazadeh_mouse_brain_p2",), "mirzazadeh_mouse_brain", ["V10S29-134_A1"]) is None
    assert find_trained_dataset(("imagenet-1k", "tcga"), "her2st", ["A1"]) is None


def test_the_encoders_that_ship_may_be_scored_on_her2st():
    from hescribe.encode.base import create_encoder  # noqa: PLC0415 - only here

    for name in ("efficientnet_lite0", "hub_model:uni", "hub_model:conch"):
        check_encoder(create_encoder(name).card, "her2st", ["A1"])


@pytest.mark.usefixtures("trained_encoder")
def test_leaks_of_models_and_encoders_are_listed_by_section(model, raw_cohort, tmp_path):
    write_model(tmp_path / "M", model)
    sections = (renamed(raw_cohort[2], "x1", "P1"), renamed(raw_cohort[4], "x2", "P2"))
    write_cohort(Cohort(sections, DatasetCard(id="renamed")), tmp_path / "C")
    (leak,) = find_leaks(tmp_path / "C", models=[tmp_path / "M"], encoders=["color"])
    assert (leak.level, leak.kind, leak.sections) == ("error", "leak", ("x1",))
    write_cohort(raw_cohort, tmp_path / "D")
    (found,) = find_leaks(tmp_path / "D", encoders=["color"])
    assert found.text == "encoder color was trained on colour itself"


def test_a_section_whose_image_is_damaged_is_still_known_by_its_counts(model, raw_cohort, tmp_path):
    write_model(tmp_path / "M", model)
    write_cohort(Cohort((renamed(raw_cohort[2], "x1", "P1"),), DatasetCard(id="renamed")), tmp_path / "C")
    (tmp_path / "C/images/x1.png").write_bytes((tmp_path / "C/images/x1.png").read_bytes()[:5000] + b"IEND\xaeB`\x82")
    (leak,) = find_leaks(tmp_path / "C", models=[tmp_path / "M"])
    assert "of the spots have the same counts" in leak.text


def test_a_model_of_the_first_format_is_known_by_names_only_and_says_so(model, raw_cohort, tmp_path):
    write_model(tmp_path / "M", replace(model, info=replace(model.info, tissue=())))
    write_cohort(Cohort((renamed(raw_cohort[2], "x1", "P1"),), DatasetCard(id="renamed")), tmp_path / "C")
    (warning,) = find_leaks(tmp_path / "C", models=[tmp_path / "M"])
    assert (warning.level, "only names of donors could be compared" in warning.text) == ("warning", True)
    assert find_trained_sections(read_model(tmp_path / "M").info, "colour", prints(raw_cohort, model))


def test_a_gene_encoder_that_was_fitted_on_a_test_donor_is_not_scored(raw_cohort):
    train = raw_cohort.where(lambda s: s.donor != "D2")
    encoder = PCAEncoder(n_dims=3).fit(train)
    check_gene_encoder(encoder, raw_cohort.where(lambda s: s.donor == "D2"))
    with pytest.raises(LeakageError, match="pca was fitted on colour/D1, a donor of the test cohort"):
        check_gene_encoder(encoder, raw_cohort.where(lambda s: s.donor != "D0"))


def test_a_gene_encoder_whose_card_names_the_test_data_is_not_scored(raw_cohort):
    class Published(PCAEncoder):
        card = replace(PCAEncoder().card, trained_on=("her2st",))

    her2st = Cohort(raw_cohort.sections, DatasetCard(id="her2st"))
    with pytest.raises(LeakageError, match="encoder pca was trained on her2st itself"):
        check_gene_encoder(Published(n_dims=3), her2st)
    check_gene_encoder(Published(n_dims=3), raw_cohort)
