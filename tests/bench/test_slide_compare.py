"""Slides told from two kinds of features: a planted gain is found, paired by donor, and unlike runs are refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from typer.testing import CliRunner

from hescribe import keys
from hescribe.bench.slides.cells import run_slides
from hescribe.bench.slides.compare import compare_features
from hescribe.bench.study import read_study
from hescribe.cli.app import app
from hescribe.errors import InputError, LeakageError
from hescribe.slide.toy import toy_bags

TOY = toy_bags(0, n_bags=40, n_tiles=(6, 10), n_dims=4, share=0.9, distance=4.0)


def write_features(folder, change):
    folder.mkdir(exist_ok=True)
    for bag in TOY.bags:
        np.save(folder / f"{bag.id}.npy", change(bag.features))


def run(root, name, *, labels="labels.csv", seeds=(0,), models=("linear_probe",), features=None):
    study = read_study(
        None, suite="spade", features=str(root / (features or name)), labels=str(root / labels), seeds=list(seeds),
        models=list(models), out=str(root / "runs" / name),
    )  # fmt: skip
    run_slides(study)
    return root / "runs" / name


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Bags that tell what a slide is, and the same with noise in their place."""
    root, rng = tmp_path_factory.mktemp("compare"), np.random.default_rng(0)
    write_features(root / "good", lambda x: x)
    write_features(root / "noise", lambda x: rng.normal(size=x.shape).astype(np.float32))
    labels = [TOY.target.names[c] for c in TOY.target.codes]
    own = pd.DataFrame({"slide": [b.id for b in TOY.bags], "donor": [f"d{i:02d}" for i in range(40)], "label": labels})
    own.to_csv(root / "labels.csv", index=False)
    own.assign(label=labels[::-1]).to_csv(root / "other.csv", index=False)
    for name in ("good", "noise"):
        run(root, name)
    return root


def of_auc(gains):
    return next(g for g in gains if g.metric == "auc")


def test_a_planted_gain_is_found_with_its_interval(root):
    gain = of_auc(compare_features(root / "runs" / "good", root / "runs" / "noise"))
    assert (gain.task, gain.model, gain.n_donors) == ("label", "linear_probe", 40)
    assert gain.value > 0.9
    assert gain.base < 0.75
    assert gain.gain == pytest.approx(gain.value - gain.base)
    assert 0 < gain.low < gain.gain < gain.high


def test_the_other_way_round_it_is_the_same_with_the_other_sign(root):
    one, other = (
        of_auc(compare_features(root / "runs" / a, root / "runs" / b))
        for a, b in (("good", "noise"), ("noise", "good"))
    )
    assert (other.gain, other.low, other.high) == pytest.approx((-one.gain, -one.high, -one.low))


def test_the_same_features_add_nothing_whatever_the_folder(root):
    again = run(root, "again", features="good")
    assert {(g.gain, g.low, g.high) for g in compare_features(again, root / "runs" / "good")} == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("labels", {"labels": "other.csv"}, "differ in their labels; run both alike but for --features"),
        ("seeds", {"seeds": (0, 1)}, "differ in their models, folds or seeds"),
        ("models", {"models": ("knn",)}, "differ in their models, folds or seeds"),
    ],
)
def test_runs_that_differ_in_more_are_refused(root, name, changed, told):
    other = run(root, name, features="noise", **changed)
    with pytest.raises(InputError, match=told):
        compare_features(root / "runs" / "good", other)


def test_a_run_that_was_stopped_is_refused(root, tmp_path):
    shutil.copytree(root / "runs" / "noise", tmp_path / "stopped")
    next((tmp_path / "stopped" / "label" / "cells").iterdir()).unlink()
    with pytest.raises(InputError, match=r"lacks 1 cells; give its command again to finish it"):
        compare_features(root / "runs" / "good", tmp_path / "stopped")


def test_features_of_an_encoder_that_has_seen_the_slides_are_refused(root, tmp_path):
    shutil.copytree(root / "good", tmp_path / "features")
    (tmp_path / "features" / f"{TOY.bags[3].id}.npy").unlink()
    seen = AnnData(TOY.bags[3].features, uns={keys.SEEN: "toy@1-0 itself"})
    seen.write_h5ad(tmp_path / "features" / f"{TOY.bags[3].id}.h5ad")
    shutil.copy(root / "labels.csv", tmp_path)
    with pytest.raises(LeakageError, match=f"features of slide {TOY.bags[3].id} are of an encoder that was trained on"):
        run(tmp_path, "seen", features="features")
    assert not (tmp_path / "runs").exists()


def test_the_command_prints_one_object_and_a_table(root):
    words = ["bench", "compare", str(root / "runs" / "good"), str(root / "runs" / "noise")]
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert {r["metric"] for r in told["table"]} == {"auc", "balanced_accuracy"}
    assert "gain" in CliRunner().invoke(app, words).output
    missing = CliRunner().invoke(app, [*words[:3], str(root / "nowhere")])
    assert missing.exit_code == 1
    assert "nowhere" in missing.output
