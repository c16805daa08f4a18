"""Aligners on disk and as encoders: what comes back, what is refused, and what the command line says."""

import json
from dataclasses import replace

import anndata
import numpy as np
import pytest
from typer.testing import CliRunner

from hescribe.align.infonce import InfoNCEAligner
from hescribe.bench.aligner_folder import fit_aligner, read_aligner, write_aligner
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import run_cell
from hescribe.bench.task import PredictionTask
from hescribe.cli.app import app
from hescribe.data.folder import write_cohort
from hescribe.encode.base import create_encoder
from hescribe.encode.features import embed_section, embed_tiles
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import DataAccessError, FormatError, InputError, LeakageError
from hescribe.predict.ridge import RidgePredictor
from hescribe.slide.bag_files import FileBag
from hescribe.testing.cohorts import raw_colour_cohort

RULE = replace(read_protocol("donor-v1"), n_genes=12)
SMALL = InfoNCEAligner(
    encoder="color", fov_um=(150.0,), gene_encoder=PCAEncoder(n_dims=4), n_dims=8, epochs=20, lr=5e-3, batch_size=64
)


@pytest.fixture(scope="module")
def fitted():
    return fit_aligner(SMALL, raw_colour_cohort(), RULE)


@pytest.fixture
def folder(fitted, tmp_path):
    write_aligner(tmp_path / "M", fitted)
    return tmp_path / "M"


def test_held_out_donors_are_found_by_an_aligner_that_has_not_seen_them(fitted):
    assert set(fitted.info.auc.by_donor) == {"D0", "D1", "D2"}
    assert fitted.info.auc.value > 0.6
    assert fitted.info.donors == ("D0", "D1", "D2")
    assert (fitted.info.n_sections, fitted.info.n_spots, fitted.info.n_dims) == (6, 294, 8)


def test_what_is_written_embeds_as_before_on_both_sides(fitted, folder, cohort):
    again = read_aligner(folder)
    assert again.info == fitted.info
    assert again.aligner.get_params() == SMALL.get_params()
    for side in ("embed_image", "embed_expression"):
        np.testing.assert_array_equal(getattr(again.aligner, side)(cohort[0]), getattr(fitted.aligner, side)(cohort[0]))


def test_its_folder_is_an_encoder_for_any_predictor(fitted, folder, cohort):
    np.testing.assert_array_equal(embed_section(cohort[1], str(folder)), fitted.aligner.embed_image(cohort[1].blind()))
    card = create_encoder(str(folder)).card
    assert (card.n_dims, card.trained_on) == (8, ("colour",))
    predictor = RidgePredictor(encoder=str(folder)).fit(cohort)
    assert predictor.coef_.shape == (8, 12)


def test_an_aligner_that_is_fitted_again_is_read_again(fitted, folder, cohort):
    before = embed_section(cohort[0], str(folder))
    other = replace(fitted, aligner=SMALL.with_params(seed=1).fit(cohort))
    write_aligner(folder, other, overwrite=True)
    assert not np.allclose(before, embed_section(cohort[0], str(folder)))


def test_scores_on_the_cohort_that_it_was_fitted_on_are_refused(folder):
    task = PredictionTask(raw_colour_cohort(), RULE)
    with pytest.raises(LeakageError, match="was trained on colour itself"):
        run_cell(task, next(task.folds()), RidgePredictor(encoder=str(folder)), 0)


def test_patches_that_the_aligner_was_not_fitted_on_are_refused(folder, cohort):
    with pytest.raises(InputError, match="leave fov_um out"):
        embed_section(cohort[0], str(folder), fov_um=(55.0,))
    with pytest.raises(InputError, match="no tiles"):
        embed_tiles(cohort[0], str(folder), n_side=2)


def edit(folder, **changes):
    content = json.loads((folder / "aligner.json").read_text())
    (folder / "aligner.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda p: (p / "weights.safetensors").unlink(), DataAccessError, "weights.safetensors is missing"),
        (lambda p: (p / "weights.safetensors").write_bytes(b"\0" * 40), FormatError, "is damaged"),
        (lambda p: (p / "aligner.json").write_text("{"), FormatError, "is damaged"),
        (lambda p: edit(p, schema_version=9), FormatError, "not of format version 1"),
        (lambda p: edit(p, more=1), FormatError, "missing or unknown entries .more."),
        (lambda p: edit(p, method="infonse"), FormatError, "did you mean 'infonce'"),
        (lambda p: edit(p, n_dims="many"), FormatError, "describes no aligner of this version"),
    ],
)
def test_a_damaged_folder_is_refused_in_words(damage, error, message, folder):
    damage(folder)
    with pytest.raises(error, match=message):
        create_encoder(str(folder))


def test_weights_of_another_encoder_are_refused(folder):
    card = json.loads((folder / "aligner.json").read_text())["encoder"]
    edit(folder, encoder={**card, "revision": "0"})
    with pytest.raises(FormatError, match="another version of encoder color"):
        read_aligner(folder)


def test_a_path_without_an_aligner_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match=r"aligner\.json is missing"):
        create_encoder(str(tmp_path / "nowhere"))


def test_the_folder_of_a_predictor_is_named_as_such(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(DataAccessError, match="holds a predictor, which embeds nothing"):
        read_aligner(tmp_path)


def test_command_line_fits_an_aligner_and_embeds_with_it(tmp_path):
    def say(*words):
        done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
        return json.loads(done.stdout) if not done.exit_code else done.stderr

    one = raw_colour_cohort(n_donors=1)
    write_cohort(one, tmp_path / "C")
    given = ["encoder=color", "gene_encoder=pca", "gene_encoder.n_dims=4", "n_dims=8", "epochs=1"]
    words = [w for g in given for w in ("--set", g)]
    said = say("fit", "siglip", tmp_path / "C", "--out", tmp_path / "M", *words)
    assert (said["method"], said["n_dims"], said["auc"]) == ("siglip", 8, None)
    said = say("embed", tmp_path / "C", "--encoder", tmp_path / "M", "--out", tmp_path / "E")
    assert [s["n_dims"] for s in said["sections"]] == [8, 8]
    table = anndata.read_h5ad(tmp_path / "E" / "s0.h5ad")
    np.testing.assert_allclose(np.linalg.norm(table.obsm["X_M"], axis=1), 1, atol=1e-5)
    assert FileBag(tmp_path / "E" / "s0.h5ad").read_seen() == "colour itself"
    other = replace(one, card=replace(one.card, id="other"))
    write_cohort(other, tmp_path / "D")
    say("embed", tmp_path / "D", "--encoder", tmp_path / "M", "--out", tmp_path / "F")
    assert FileBag(tmp_path / "F" / "s0.h5ad").read_seen() is None
    assert "predicts no expression" in say("predict", tmp_path / "M", tmp_path / "C", "--out", tmp_path / "P")
    assert "exists" in say("fit", "siglip", tmp_path / "C", "--out", tmp_path / "M")
