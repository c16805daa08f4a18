"""A fitted model goes to disk whole, comes back the same, and says how far to trust each gene."""

import json
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

from hescribe import keys
from hescribe.bench import model_folder
from hescribe.bench.fitting import fit_model, predict_table
from hescribe.bench.ladder import create_model
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.trust import trust_table
from hescribe.data.h5ad import write_h5ad
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.prep.tissue import grid_section


@pytest.fixture(scope="module")
def model(raw_cohort):
    return fit_model(create_model("color_ridge"), raw_cohort, read_protocol("donor-v1"))


def test_a_model_survives_the_disk(model, raw_cohort, tmp_path):
    write_model(tmp_path / "m", model)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["model.json", "weights.safetensors"]
    assert (tmp_path / "m/weights.safetensors").stat().st_mode & 0o777 == 0o644  # a model is there to be shared
    restored = read_model(tmp_path / "m")
    assert restored.info == model.info
    section = raw_cohort[0]
    expected = predict_table(model, section).layers[keys.PREDICTED]
    np.testing.assert_array_equal(predict_table(restored, section).layers[keys.PREDICTED], expected)


@pytest.mark.parametrize(("fact", "value"), [("revision", "other"), ("n_dims", 1280), ("px", 96)])
def test_a_model_fitted_on_other_features_than_those_here_is_refused(model, tmp_path, fact, value):
    """An encoder of another revision gives numbers of the same shape that mean something else."""
    other = replace(model, info=replace(model.info, encoder={**model.info.encoder, fact: value}))
    write_model(tmp_path / "m", other)
    with pytest.raises(FormatError, match=f"whose {fact} was {value}, and here it is"):
        read_model(tmp_path / "m")


def test_genes_with_signal_are_trusted_more_than_genes_without(model):
    scores = pd.DataFrame.from_dict(model.info.scores, orient="index")
    signal, none = scores.iloc[:6], scores.iloc[6:]
    assert (signal["trust"] == "predictable").any()
    assert (signal["trust"] != "do not use").all()
    assert (none["trust"] == "predictable").sum() == 0
    assert signal["pearson"].mean() > none["pearson"].mean() + 0.3


def test_info_names_what_the_model_was_trained_on(model, raw_cohort):
    assert model.info.donors == ("D0", "D1", "D2")
    assert model.info.synthetic
    assert model.info.genes == raw_cohort.genes
    assert model.info.encoder["name"] == "color"
    assert model.info.pitch_um == 200.0
    assert 0.2 < model.info.score < 1


def test_prediction_ignores_the_expression_it_is_given(model, raw_cohort):
    section = raw_cohort[0]
    table = section.table.copy()
    table.layers[keys.COUNTS] = table.layers[keys.COUNTS] * 0
    expected = predict_table(model, section).layers[keys.PREDICTED]
    np.testing.assert_array_equal(predict_table(model, section.with_table(table)).layers[keys.PREDICTED], expected)


def test_a_bare_image_is_predicted_on_a_grid(model, raw_cohort):
    section = grid_section(raw_cohort[0].image, "slide", model.info.pitch_um)
    table = predict_table(model, section)
    assert table.n_obs > 5
    assert set(table.obs) == {keys.ARRAY_ROW, keys.ARRAY_COL, keys.OOD, keys.FLAG}
    assert set(table.var[keys.TRUST]) <= {"predictable", "weak", "do not use"}


def test_one_donor_gives_a_model_that_says_it_is_untested(raw_cohort):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    model = fit_model(create_model("color_ridge"), one, read_protocol("donor-v1"))
    assert model.info.score is None
    assert {g["trust"] for g in model.info.scores.values()} == {"untested"}


def test_an_existing_target_is_kept(model, tmp_path):
    write_model(tmp_path / "m", model)
    with pytest.raises(DataAccessError, match="exists; choose another name"):
        write_model(tmp_path / "m", model)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataAccessError, match="is no model folder and is not overwritten"):
        write_model(tmp_path / "other", model, overwrite=True)


def test_a_method_without_a_defined_score_says_so_and_its_prediction_can_be_written(raw_cohort, tmp_path):
    flat = fit_model(create_model("mean"), raw_cohort, read_protocol("donor-v1"))
    assert (flat.info.score, flat.info.undefined) == (None, "")
    write_h5ad(predict_table(flat, raw_cohort[0]), tmp_path / "p.h5ad")
    var = anndata.read_h5ad(tmp_path / "p.h5ad").var
    assert var["pearson"].isna().all()
    assert set(var["trust"]) == {"do not use"}


def test_a_full_disk_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "save_file", full)
    with pytest.raises(DataAccessError, match="No space left"):
        write_model(tmp_path / "m", model)
    assert list(tmp_path.iterdir()) == []


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "weights.safetensors").write_bytes(b"x" * 40), "is damaged"),
        (lambda p: (p / "model.json").write_text("{"), "is damaged"),
        (lambda p: (p / "weights.safetensors").unlink(), "is no model folder: weights.safetensors is missing"),
        (lambda p: edit(p / "model.json", lambda c: c.update(schema_version=99)), "is not of format version 4"),
        (lambda p: edit(p / "model.json", lambda c: c.pop("donors")), r"missing or unknown entries \(donors\)"),
        (lambda p: edit(p / "model.json", lambda c: c["genes"].reverse()), "name different genes"),
        (lambda p: edit(p / "model.json", lambda c: c.update(method="../ridge")), "there is no predictor"),
        (lambda p: edit(p / "model.json", lambda c: c.update(method=5)), r"model.json describes no model.*method"),
        (lambda p: edit(p / "model.json", lambda c: c.update(genes=5)), "model.json describes no model.*genes"),
        (lambda p: edit(p / "model.json", lambda c: c.update(params=[1])), "model.json describes no model.*params"),
        (lambda p: edit(p / "model.json", lambda c: c["params"].update(alpha="x")), "alpha of RidgePredictor must be"),
        (lambda p: edit(p / "model.json", lambda c: c["scores"].pop("GENE3")), r"other genes .* \(GENE3\)"),
        (lambda p: edit(p / "model.json", lambda c: c["scores"]["GENE0"].pop("trust")), "GENE0 has trust class None"),
        (lambda p: edit(p / "model.json", lambda c: c["scores"]["GENE0"].update(trust="sure")), "class 'sure', not"),
        (lambda p: edit(p / "model.json", lambda c: c["interval"].update(level=90.0)), "between 0 and 1; got 90.0"),
        (lambda p: (p / "model.json").write_text("[" * 100_000), "is damaged"),
        (lambda p: edit(p / "model.json", lambda c: c["tissue"][0].update(image="AAAA")), "is no hash of an image"),
        (lambda p: edit(p / "model.json", lambda c: c["tissue"][0].update(spots=["z"])), "is no hash of a spot"),
        (lambda p: edit(p / "model.json", lambda c: c.pop("tissue")), r"missing or unknown entries \(tissue\)"),
        (lambda p: edit(p / "model.json", lambda c: c.update(fitted=[1])), r"unknown entries \(fitted\)"),
        (lambda p: edit(p / "model.json", lambda c: c["fitted"].update(predict="x")), "'predict' is no name"),
        (lambda p: edit(p / "model.json", lambda c: c["fitted"].update(__class__="x")), "'__class__' is no name"),
    ],
)
def test_a_damaged_model_is_refused(model, tmp_path, damage, message):
    write_model(tmp_path / "m", model)
    damage(tmp_path / "m")
    with pytest.raises((DataAccessError, FormatError, LookupError), match=message):
        read_model(tmp_path / "m")


@pytest.mark.parametrize(("version", "lacks"), [(1, {"tissue", "held_out"}), (2, {"held_out"})])
def test_a_folder_of_an_older_format_is_read_and_knows_less(model, tmp_path, version, lacks):
    write_model(tmp_path / "m", model)

    def make_old(content):
        for entry in lacks:
            del content[entry]
        content["schema_version"] = version

    edit(tmp_path / "m/model.json", make_old)
    info = read_model(tmp_path / "m").info
    assert {name for name in ("tissue", "held_out") if getattr(info, name) == ()} == lacks
    assert info.donors == model.info.donors


def test_a_folder_without_scores_calls_every_gene_untested(model, tmp_path):
    write_model(tmp_path / "m", model)
    edit(tmp_path / "m/model.json", lambda c: c.update(scores={}))
    assert read_model(tmp_path / "m").info.scores == {f"GENE{g}": {"trust": "untested"} for g in range(12)}


def test_nothing_is_predicted_under_0_and_every_interval_holds_its_prediction(model, raw_cohort):
    """A ridge goes under 0 for a gene that is hardly there; its own prediction must not lie under its lower end."""
    state = model.predictor.get_fitted()
    low = model.predictor.with_params().set_fitted({**state, "y_mean_": state["y_mean_"] - 4.0})
    raw = low.predict(raw_cohort[0].blind()).mean
    assert 0 < (raw < 0).sum() < raw.size
    table = predict_table(replace(model, predictor=low), raw_cohort[0])
    np.testing.assert_allclose(table.layers[keys.PREDICTED], np.maximum(raw, 0), rtol=1e-6)
    assert (table.layers[keys.LOWER] <= table.layers[keys.PREDICTED]).all()
    assert (table.layers[keys.PREDICTED] <= table.layers[keys.UPPER]).all()


def test_a_score_that_leaves_correlations_out_says_how_many(model):
    own, *others = model.info.held_out
    assert (own.model, own.metric, own.n_undefined, model.info.undefined) == ("model", "pearson", 0, "")
    holed = replace(own, n_defined=60, n_undefined=12)
    told = replace(model.info, held_out=(holed, *others)).undefined
    assert told.startswith("12 of 72 correlations (genes by section) are undefined")


def test_info_holds_the_scores_of_model_and_controls_by_donor(model):
    found = {(s.model, s.metric): s for s in model.info.held_out}
    own, depth = found["model", "pearson"], found["depth_oracle", "pearson"]
    assert own.value == model.info.score == pytest.approx(sum(own.by_donor.values()) / 3)
    assert own.by_donor.keys() == {"D0", "D1", "D2"}
    assert 0 < own.value < own.ceiling
    assert own.chance_sd > 0
    assert depth.control == "uses_truth"


def rows(values, model, partial=None, seed=0):
    return [
        {"model": model, "seed": seed, "metric": m, "gene": g, "donor": d, "value": v, "ceiling": 0.5}
        for m, table in (("pearson", values), ("pearson_depth_partial", partial or values))
        for g, by_donor in table.items()
        for d, v in by_donor.items()
    ]


def test_trust_classes_by_hand():
    null = [
        r
        for s in range(10)
        for r in rows({f"g{i}": {"A": 0.0, "B": 0.02 * (i % 3)} for i in range(20)}, "shuffled_pairs", seed=s)
    ]
    plain = {
        "good": {"A": 0.3, "B": 0.2},
        "uneven": {"A": 0.5, "B": -0.1},
        "depth": {"A": 0.3, "B": 0.3},
        "none": {"A": 0.0, "B": 0.01},
    }
    partial = {**plain, "depth": {"A": 0.0, "B": 0.0}}
    table = trust_table(pd.DataFrame(null + rows(plain, "m", partial)), "m")
    assert table["trust"].to_dict() == {"good": "predictable", "uneven": "weak", "depth": "weak", "none": "do not use"}
    assert table.loc["uneven", "lowest_donor"] == pytest.approx(-0.1)


def null_of_one_donor(donors, size=0.2):
    """Return shuffled pairs that reach ``size`` in every single donor and cancel out in the mean."""
    signs = [size * (-1) ** i for i in range(len(donors))]
    turned = [-v for v in signs]
    genes = {f"g{i}": dict(zip(donors, signs if i % 2 else turned, strict=True)) for i in range(20)}
    return [r for s in range(10) for r in rows(genes, "shuffled_pairs", seed=s)]


def test_under_five_donors_every_one_must_be_above_the_chance_of_a_single_donor():
    plain = {
        "lasting": {"A": 0.25, "B": 0.3},
        "below one donor's chance": {"A": 0.15, "B": 0.15},
        "carried by A": {"A": 0.9, "B": 0.1},
        "in one donor only": {"A": 0.9},
    }
    table = trust_table(pd.DataFrame(null_of_one_donor("AB") + rows(plain, "m")), "m")
    assert table["trust"].drop("lasting").eq("weak").all()
    assert table.loc["lasting", "trust"] == "predictable"
    assert np.isnan(table.loc["in one donor only", "without_best"])


def test_from_five_donors_on_the_best_one_does_not_carry_a_gene():
    """Without the best donor the first keeps a mean of 0.22, the second of 0.15; one donor's chance is 0.2."""
    plain = {
        "lasting": {"A": 0.1, "B": 0.3, "C": 0.3, "D": 0.3, "E": 0.4, "F": 0.1},
        "carried by A": {"A": 0.9, "B": 0.1, "C": 0.2, "D": 0.1, "E": 0.2, "F": 0.15},
        "negative once": {"A": 0.5, "B": 0.5, "C": 0.5, "D": 0.5, "E": 0.5, "F": -0.01},
    }
    table = trust_table(pd.DataFrame(null_of_one_donor("ABCDEF") + rows(plain, "m")), "m")
    assert table["trust"].to_dict() == {"lasting": "predictable", "negative once": "weak", "carried by A": "weak"}
    assert table.loc["lasting", "without_best"] == pytest.approx(1.1 / 5)
    assert table.loc["carried by A", "without_best"] == pytest.approx(0.75 / 5)


def test_a_model_for_use_is_not_fitted_under_a_changed_target(raw_cohort):
    with pytest.raises(InputError, match=r"donor-v1\+gene_axis predicts something else than ln"):
        fit_model(create_model("mean"), raw_cohort, read_protocol("donor-v1+gene_axis"))
