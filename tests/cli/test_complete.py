"""``hescribe complete`` fills in what was not counted, says what it did, and never touches a count."""

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from PIL import Image
from scipy import sparse
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.app import app
from hescribe.complete.cohort import most_patterned
from hescribe.data.cohort import Cohort
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.prep.counts import log_normalise
from hescribe.testing.cohorts import colour_section
from hescribe.testing.completers import FAST, take_spots, thin_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cohort") / "cohort"
    write_cohort(thin_cohort(), path)
    return path


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def run(folder, tmp_path):
    """Complete a cohort, into a folder of the test's own; genes by default all, and no maps."""

    def complete(method, *words, cohort=folder):
        given = [str(w) for w in words]
        given += [] if "--genes" in given else ["--genes", "0"]
        given += [] if "--maps" in given else ["--maps", "none"]
        return invoke("complete", cohort, "--method", method, "--out", tmp_path / "out", *given)

    return complete


def told(done):
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    return done.stderr


def counts_of(section):
    return sparse.csr_matrix(section.table.layers[keys.COUNTS]).toarray()


def wide_cohort(n_genes):
    return Cohort(tuple(colour_section(i, f"D{i}", n_genes=n_genes) for i in range(3)))


def write_changed(change, path, *, layer=keys.COUNTS):
    """Write the cohort with one section's layer changed, past the checks of ``write_cohort``."""
    write_cohort(thin_cohort(), path)
    file = path / "sections" / "s0.h5ad"
    table = anndata.read_h5ad(file)
    table.layers[layer] = change(table.layers[layer].toarray())
    table.write_h5ad(file)
    return path


def test_a_cohort_is_completed_and_read_back(run, folder, tmp_path):
    done = run("smoother", "--genes", 8)
    assert done.exit_code == 0, done.stderr
    assert "6 sections, 8 genes, smoother" in done.stdout
    before, after = read_cohort(folder), read_cohort(tmp_path / "out")
    assert len(after.genes) == 8
    assert "Completed by smoother, fitted on all of its sections" in after.card.warnings[-1]
    for old, new in zip(before, after, strict=True):
        counts = counts_of(old)[:, [old.genes.index(g) for g in new.genes]]
        layers, observed = new.table.layers, counts > 0
        np.testing.assert_array_equal(counts_of(new), counts)
        np.testing.assert_array_equal(new.depth, old.depth)  # still that of all genes
        assert layers[keys.OBSERVED].dtype == bool
        np.testing.assert_array_equal(layers[keys.OBSERVED], observed)
        np.testing.assert_allclose(layers[keys.COMPLETED][observed], log_normalise(counts, old.depth)[observed])
        assert (layers[keys.COMPLETED][~observed] > 0).all()
    checked = invoke("data", "check", tmp_path / "out")
    assert checked.exit_code == 0, checked.stdout


def test_json_says_what_was_done_to_each_section(run, folder, tmp_path):
    done = run("section_mean", "--json", "--quiet")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    cohort = read_cohort(folder)
    assert said["genes"] == list(cohort.genes)
    assert said["dropped_spots"] == {}
    first, counts = said["sections"][0], counts_of(cohort[0])
    lognorm = log_normalise(counts, cohort[0].depth)
    assert first["section"] == "s0"
    assert first["observed_share"] == pytest.approx((counts > 0).mean())
    assert first["observed_share"] + first["filled_share"] == 1
    assert first["observed_mean"] == pytest.approx(lognorm[counts > 0].mean(), rel=1e-5)
    filled = read_cohort(tmp_path / "out")[0].table.layers[keys.COMPLETED][counts == 0]
    assert first["filled_mean"] == pytest.approx(filled.mean(), rel=1e-5)
    assert first["median_sd"] is None


def test_what_a_completer_knows_of_its_error_is_written_and_summed_up(run, tmp_path):
    words = [w for k, v in FAST["stacked"].items() for w in ("--set", f"{k}={v}")]
    write_cohort(thin_cohort().where(lambda s: s.donor == "D0"), tmp_path / "C")
    done = run("stacked", *words, "--json", "--maps", "all", cohort=tmp_path / "C")
    assert done.exit_code == 0, done.stderr
    section, said = read_cohort(tmp_path / "out")[0], json.loads(done.stdout)
    layers = section.table.layers
    sd, observed = layers[keys.COMPLETED_SD], layers[keys.OBSERVED]
    assert (sd[observed] == 0).all()
    assert said["sections"][0]["median_sd"] == pytest.approx(np.median(sd[~observed]))
    assert said["maps"] == [str(tmp_path / "out" / "maps" / f"s{i}.png") for i in range(2)]


def test_the_first_section_of_each_donor_is_drawn(run, tmp_path):
    assert run("mean", "--maps", "first").exit_code == 0
    drawn = sorted((tmp_path / "out" / "maps").iterdir())
    assert [p.name for p in drawn] == ["s0.png", "s2.png", "s4.png"]
    with Image.open(drawn[0]) as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100


def test_nothing_is_filled_in_where_nothing_is_missing(tmp_path):
    def fill(section):
        table = section.table.copy()
        table.layers[keys.COUNTS] = sparse.csr_matrix(counts_of(section) + 1)
        table.obs[keys.DEPTH] = section.depth + len(section.genes)
        return section.with_table(table)

    write_cohort(thin_cohort().map(fill), tmp_path / "C")
    done = invoke("complete", tmp_path / "C", "--method", "mean", "--out", tmp_path / "out", "--genes", 0, "--json")
    assert done.exit_code == 0, done.stderr
    first = json.loads(done.stdout)["sections"][0]
    assert (first["filled_share"], first["filled_mean"]) == (0, None)


def test_a_cohort_at_out_is_replaced_only_when_told(run):
    assert run("mean").exit_code == 0
    assert "replace it with --overwrite" in told(run("mean"))
    assert run("knn", "--overwrite").exit_code == 0


def test_the_cohort_itself_is_not_written_over(tmp_path):
    """With some of its genes chosen, the counts of the others would be gone."""
    write_cohort(thin_cohort(), tmp_path / "C")
    same = tmp_path / "C" / ".." / "C"
    done = invoke("complete", tmp_path / "C", "--method", "mean", "--genes", 4, "--out", same, "--overwrite")
    assert "is the cohort to complete" in told(done)
    assert read_cohort(tmp_path / "C").genes == thin_cohort().genes


def test_unknown_names_are_told_with_the_nearest(run):
    assert "there is no completer 'smother'; did you mean 'smoother'" in told(run("smother"))
    assert "no parameter 'bandwith'; did you mean 'bandwidth'" in told(run("smoother", "--set", "bandwith=1"))


def test_what_is_no_counts_is_refused_with_its_place(run, tmp_path):
    stderr = told(run("mean", cohort=write_changed(np.log1p, tmp_path / "C")))
    assert "s0" in stderr
    assert "counts are not an integer; the first is" in stderr
    assert not (tmp_path / "out").exists()


def test_a_section_with_no_valid_spot_is_told(run, tmp_path):
    cohort = write_changed(lambda counts: counts * 0, tmp_path / "C")
    assert "section s0 has no spot with more than 10" in told(run("mean", "--genes", 4, cohort=cohort))
    assert run("mean", cohort=cohort).exit_code == 0  # all genes on all spots: the mean of the others


def test_sections_on_two_panels_are_refused(run, tmp_path):
    write_cohort(thin_cohort(), tmp_path / "C")
    file = tmp_path / "C" / "sections" / "s0.h5ad"
    anndata.read_h5ad(file)[:, ::-1].copy().write_h5ad(file)
    assert "differ in genes" in told(run("mean", cohort=tmp_path / "C"))


@pytest.mark.parametrize("genes", [0, 3])
def test_a_section_of_one_spot_is_completed(run, tmp_path, genes):
    cohort = thin_cohort()
    write_cohort(cohort.map(lambda s: take_spots(s, [24]) if s.id == "s0" else s), tmp_path / "C")
    done = run("knn", "--genes", genes, "--maps", "first", cohort=tmp_path / "C")
    assert done.exit_code == 0, done.stderr
    section = read_cohort(tmp_path / "out")[0]
    assert section.n_spots == 1
    assert np.isfinite(section.table.layers[keys.COMPLETED]).all()


def test_more_genes_than_pass_or_than_a_method_can_take_are_refused(run, tmp_path):
    stderr = told(run("mean", "--genes", 13))
    assert "13 genes were asked for and 12 pass the filters; ask for fewer; or take all genes" in stderr

    write_cohort(wide_cohort(300), tmp_path / "C")
    stderr = told(run("gene_ridge", cohort=tmp_path / "C"))
    assert "gene_ridge is for at most 256 genes, and there are 300; choose fewer" in stderr


def test_genes_with_gaps_are_drawn_before_those_with_none():
    """GENE0 has the clearest pattern, and is counted everywhere; of the others GENE7 has it."""

    def plant(section):
        table, counts = section.table.copy(), counts_of(section)
        left = table.obs[keys.ARRAY_COL].to_numpy() < 3
        counts[:, 0] = np.where(left, 200, 1)
        counts[:, 7] = np.where(left, 100, 0)
        table.layers[keys.COUNTS] = sparse.csr_matrix(counts)
        table.obs[keys.DEPTH] = counts.sum(axis=1) + 5000
        return section.with_table(table)

    genes = most_patterned(thin_cohort().map(plant), 12)
    assert (genes[0], genes[-1]) == ("GENE7", "GENE0")


def test_completers_are_run_and_reported(tmp_path):
    write_cohort(wide_cohort(140), tmp_path / "C")
    words = ("--suite", "completion", "--cohort", tmp_path / "C", "--out", tmp_path / "R", "--models", "mean,knn:k=4")
    done = invoke("bench", "run", *words, "--protocol", "spared-mask-2024")
    assert done.exit_code == 0, done.stderr
    assert "protocol spared-mask-2024 is optimistic" in done.stderr
    table = [line.split()[:2] for line in done.stdout.splitlines()[1:]]
    assert sorted(table[:2]) == [["30%", "knn:k=4"], ["30%", "mean"]]
    assert sorted(table[2:]) == [["50%", "knn:k=4"], ["50%", "mean"]]
    again = invoke("bench", "run", *words, "--protocol", "spared-mask-2024", "--json")
    said = json.loads(again.stdout)
    assert (said["n_cells"], said["n_cached"]) == (6, 6)
    assert {s["metric"] for s in said["table"]} == {"mse", "mae", "pearson_hidden"}
    page = invoke("bench", "report", tmp_path / "R").stdout.strip()
    assert "Optimistic protocol" in Path(page).read_text()


def test_a_cohort_that_cannot_be_judged_leaves_nothing(raw_cohort, tmp_path):
    write_cohort(raw_cohort.where(lambda s: s.donor == "D0"), tmp_path / "C")
    done = invoke("bench", "run", "--suite", "completion", "--cohort", tmp_path / "C", "--out", tmp_path / "R")
    assert "has one donor only (D0); completion across donors needs two" in told(done)
    assert not (tmp_path / "R").exists()


def test_a_suite_that_does_not_exist_and_a_protocol_of_another_are_told(folder, tmp_path):
    base = ("bench", "run", "--cohort", folder, "--out", tmp_path / "R")
    assert "no suite 'completions'; known: prediction, completion" in told(invoke(*base, "--suite", "completions"))
    stderr = told(invoke(*base, "--suite", "completion", "--protocol", "donor-v1"))
    assert "no protocol of completion 'donor-v1'" in stderr


def test_completers_and_their_protocols_are_listed():
    listed = json.loads(invoke("list", "completers", "--json").stdout)["completers"]
    assert {"mean", "knn", "stacked", "spackle"} <= {c["name"] for c in listed}
    assert not {"base", "hiding", "cohort", "centred"} & {c["name"] for c in listed}
    protocols = json.loads(invoke("list", "protocols", "--json").stdout)["protocols"]
    suites = {(p["suite"], p["name"]) for p in protocols}
    assert {("prediction", "donor-v1"), ("hescape", "donor-v1"), ("completion", "complete-v1")} <= suites
