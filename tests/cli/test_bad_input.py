"""Bad input at the command line: one error that names file and place, and nothing half-written."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import anndata
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.app import app
from hescribe.data.folder import write_cohort
from hescribe.testing.cohorts import raw_colour_cohort


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a cohort C and a fitted model M, which nothing may change."""
    folder = tmp_path_factory.mktemp("whole")
    write_cohort(raw_colour_cohort(), folder / "C")
    fitted = invoke("fit", "color_ridge", folder / "C", "--out", folder / "M", "--set", "alpha=100")
    assert fitted.exit_code == 0, fitted.stderr
    return folder


@pytest.fixture
def cohort(whole, tmp_path):
    """Return a cohort of the test's own."""
    shutil.copytree(whole / "C", tmp_path / "C")
    return tmp_path / "C"


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def told(*words):
    result = invoke(*words)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: ")
    return result.stderr


def edit(file, change):
    table = anndata.read_h5ad(file)
    change(table)
    table.write_h5ad(file)


def test_predict_says_what_to_doubt_about_a_slide_of_another_stain_and_scale(whole, tmp_path):
    """The same pixels, stained twice as strongly, and said to be half as large."""
    pixels = np.asarray(raw_colour_cohort()[0].image.pixels, dtype=np.float64)
    on_glass = np.pad(pixels**2 / 255, ((150, 150), (150, 150), (0, 0)), constant_values=245)
    Image.fromarray(on_glass.astype(np.uint8)).save(tmp_path / "odd.png")
    done = invoke("predict", whole / "M", tmp_path / "odd.png", "--mpp", 2.0, "--out", tmp_path / "P", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["doubts"]["odd"]
    assert [d for d in found if "um per pixel, those of the training 4 to 4: it shows more detail" in d]
    assert [d for d in found if "look less like the training images than nine in ten training spots did" in d]
    assert len(found) == 2
    assert list(anndata.read_h5ad(tmp_path / "P/odd.h5ad").uns["hescribe"]["doubts"]) == found


def test_predict_doubts_no_section_that_the_model_knows(whole, tmp_path):
    done = invoke("predict", whole / "M", whole / "C", "--out", tmp_path / "P", "--json")
    assert json.loads(done.stdout)["doubts"] == {}


def test_fit_on_one_donor_says_that_its_intervals_rest_on_spots(tmp_path):
    write_cohort(raw_colour_cohort(1, 1), tmp_path / "C")
    done = invoke("fit", "color_ridge", tmp_path / "C", "--out", tmp_path / "M", "--set", "alpha=100")
    assert done.exit_code == 0, done.stderr
    assert "rest on the spots of one donor, not on donors" in done.stderr
    assert "not scored: one donor only" in done.stdout


def test_fit_says_which_sections_and_donors_it_leaves_out(tmp_path):
    """One donor has an image of one section only, another two spots: the model has seen less than the cohort holds."""
    first, *others = raw_colour_cohort().sections
    bare, small = replace(others[1], image=None), first.with_table(first.table[:2].copy())
    write_cohort(replace(raw_colour_cohort(), sections=(small, others[2], bare, *others[3:])), tmp_path / "C")
    done = invoke("fit", "color_ridge", tmp_path / "C", "--out", tmp_path / "M", "--set", "alpha=100", "--json")
    assert "2 of 5 sections have no image or too few spots and are left out, and with them donor D0" in done.stderr
    told_by_json = json.loads(done.stdout)
    assert (told_by_json["n_sections"], told_by_json["n_left_out"]) == (3, 2)


def test_planted_answers_reach_neither_a_prediction_nor_its_file(whole, cohort, tmp_path):
    def plant(table):
        rng = np.random.default_rng(0)
        table.obs["total_counts"], table.obs["leiden"] = rng.random(table.n_obs), ["1"] * table.n_obs
        table.obsm["X_pca"] = rng.random((table.n_obs, 3))
        table.layers[keys.COMPLETED] = rng.random(table.shape)
        table.layers[keys.PREDICTED] = rng.random(table.shape)
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS][::-1]

    edit(cohort / "sections/s0.h5ad", plant)
    tables = []
    for name, source in (("clean", whole / "C"), ("planted", cohort)):
        done = invoke("predict", whole / "M", source / "sections/s0.h5ad", "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        tables.append(anndata.read_h5ad(tmp_path / name / "s0.h5ad"))
    clean, planted = tables
    np.testing.assert_array_equal(clean.layers[keys.PREDICTED], planted.layers[keys.PREDICTED])
    assert set(planted.obs) == {keys.ARRAY_ROW, keys.ARRAY_COL, keys.OOD, keys.FLAG}
    assert set(planted.obsm) == {keys.SPATIAL, keys.SPATIAL_UM}
    assert set(planted.layers) == {keys.PREDICTED, keys.LOWER, keys.UPPER}


def set_count(value):
    def change(table):
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS].astype(np.float32)
        table.layers[keys.COUNTS].data[0] = value

    return change


def set_place(table):
    table.obsm[keys.SPATIAL_UM][3] = 10**6, 5


def drop_gene(table):
    table.var_names = ["GENE99", *table.var_names[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_count(np.nan), "section s0: 1 counts are not finite; the first is nan of gene GENE0 in spot 0x0"),
        (set_count(-2), "section s0: 1 counts are negative; the first is -2 of gene GENE0 in spot 0x0"),
        (set_count(0.5), "section s0: 1 counts are not an integer; the first is 0.5 of gene GENE0 in spot 0x0"),
        (set_place, "section s0: 1 spots are outside the image of 1400 x 1400 um; the first is 3x0"),
        (drop_gene, "s1 and s0 differ in genes"),
    ],
)
def test_a_damaged_section_is_told_and_nothing_is_run(cohort, tmp_path, change, message):
    edit(cohort / "sections/s0.h5ad", change)
    assert message in told("bench", "run", "--cohort", cohort, "--models", "mean", "--out", tmp_path / "R")
    assert message in told("fit", "mean", cohort, "--out", tmp_path / "M")
    assert invoke("data", "check", cohort).exit_code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["C"]


def test_a_cohort_on_one_gene_is_refused(tmp_path):
    one = raw_colour_cohort().map(lambda s: s.with_table(s.table[:, :1].copy()))
    write_cohort(one, tmp_path / "C")
    message = "section s0 has 1 genes; a panel needs at least 2"
    assert message in told("bench", "run", "--cohort", tmp_path / "C", "--out", tmp_path / "R")
    assert message in told("fit", "mean", tmp_path / "C", "--out", tmp_path / "M")
    assert [p.name for p in tmp_path.iterdir()] == ["C"]


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-400])


def to_print_colours(path):
    Image.open(path).convert("CMYK").save(path, format="JPEG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut_off, "s0.png is damaged or truncated"),
        (to_print_colours, "s0.png is CMYK"),
        (lambda path: path.write_text("text"), "s0.png is no JPEG, PNG or TIFF file"),
        (lambda path: path.write_bytes(b""), "s0.png is no JPEG, PNG or TIFF file: it is empty"),
        (lambda path: path.unlink(), "s0.png does not exist"),
    ],
)
def test_a_damaged_image_is_told_and_nothing_is_run(whole, cohort, tmp_path, change, message):
    image = cohort / "images/s0.png"
    change(image)
    assert message in told("bench", "run", "--cohort", cohort, "--models", "color_ridge", "--out", tmp_path / "R")
    assert message in told("predict", whole / "M", cohort / "sections/s0.h5ad", "--out", tmp_path / "P")
    assert message in told("predict", whole / "M", image, "--mpp", "4", "--out", tmp_path / "P")
    assert [p.name for p in tmp_path.iterdir()] == ["C"]


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_and_deep_images_are_read(whole, cohort, tmp_path, mode):
    image = cohort / "images/s0.png"
    grey = Image.open(image).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    (grey if mode == "L" else deep).save(image)
    done = invoke("predict", whole / "M", image, "--mpp", "4", "--out", tmp_path / "P")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "s0"', 'id = "../x"', "section[0].id: cannot be the name of a file"),
        ("mpp = 4.0", "mpp = 900.0", "s0.png: mpp 900 is not a pixel size in um"),
        ("mpp = 4.0\n", "", "s0.png: the size of a pixel is not recorded"),
        ("mpp = 4.0", "mpp = 8.0", "coordinates in pixels and in um do not fit 8 um per pixel"),
        ('path = "images/s0.png"', 'path = "../s0.png"', "section[0].image.path: leaves the cohort's folder"),
        ("n_genes = 12", "n_gene = 12", "n_gene: is no key of this file"),
    ],
)
def test_a_wrong_index_is_told(cohort, tmp_path, old, new, message):
    index = cohort / "cohort.toml"
    assert old in index.read_text()
    index.write_text(index.read_text().replace(old, new, 1))
    assert message in told("bench", "run", "--cohort", cohort, "--models", "mean", "--out", tmp_path / "R")
    assert [p.name for p in tmp_path.iterdir()] == ["C"]


def test_a_section_name_cannot_lead_out_of_the_target(cohort, tmp_path):
    edit(cohort / "sections/s0.h5ad", lambda table: table.obs.insert(0, "section_id", "../../x"))
    source = cohort / "sections/s0.h5ad"
    message = told("data", "import", source, "--reader", "h5ad", "--mpp", "4", "--out", tmp_path / "deep/new")
    assert "section name '../../x' cannot be the name of a file" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["C"]


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (("predict", "M", "C/sections/s0.h5ad"), "out/s0.h5ad"),
        (("data", "import", "C/sections", "--reader", "h5ad", "--mpp", "4"), "out/sections/s0.h5ad"),
        (("fit", "mean", "C"), "out"),
    ],
)
def test_a_full_disk_is_one_error_and_leaves_nothing(whole, tmp_path, command, written):
    """A limit on the size of files fails below Python, as a full disk does: HDF5 used to crash on it."""
    invoke("embed", whole / "C", "--encoder", "color")  # else the feature cache is what does not fit
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)); "
    run = limit + "from hescribe.cli.app import main; main()"
    words = [str(whole / w) if (whole / w).exists() else w for w in command]
    done = subprocess.run(
        [sys.executable, "-c", run, *words, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / written} cannot be written: File too large\n"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_changed_input_runs_its_cells_again_and_the_check_tells(cohort, tmp_path):
    words = ("bench", "run", "--cohort", cohort, "--models", "mean,color_ridge", "--out", tmp_path / "R")
    assert "6 cells, 0 of them done before" in invoke(*words).stderr
    image = cohort / "images/s0.png"
    before = image.read_bytes()
    Image.fromarray(np.asarray(Image.open(image))[:, ::-1]).save(image)
    assert "6 cells, 0 of them done before" in invoke(*words).stderr
    assert "s0.png changed since the import" in invoke("data", "check", cohort).stdout
    image.write_bytes(before)
    assert "6 cells, 6 of them done before" in invoke(*words).stderr
    edit(cohort / "sections/s0.h5ad", set_count(1))
    assert "6 cells, 0 of them done before" in invoke(*words).stderr
