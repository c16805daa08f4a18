"""``hescribe data prepare`` writes a cohort with layers, and says what each step left."""

import json

import pytest
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.data import app
from hescribe.data.folder import read_cohort, write_cohort

GENES = [f"GENE{g}" for g in range(12)]


@pytest.fixture(scope="module")
def folder(raw_cohort, tmp_path_factory):
    path = tmp_path_factory.mktemp("cohort") / "cohort"
    write_cohort(raw_cohort, path)
    return path


@pytest.fixture
def run(folder):
    return lambda *words: CliRunner().invoke(app, ["prepare", str(folder), *map(str, words)])


def test_a_cohort_is_prepared_on_the_train_donors(run, folder, tmp_path):
    out = tmp_path / "out"
    done = run("--out", out, "--genes", 5, "--train-donors", "D0,D1", "--set", "lengths=none")
    assert done.exit_code == 0, done.stderr
    assert "294 spots (0 left out), 5 genes with Moran's I" in done.stdout
    assert "batches that the fit has not seen, left as they are: D2" in done.stderr
    cohort, before = read_cohort(out), read_cohort(folder)
    assert len(cohort.genes) == 5
    assert keys.C_D_DELTAS in cohort[0].table.layers
    assert cohort[0].image.fingerprint == before[0].image.fingerprint
    assert "held out: s4, s5" in cohort.card.warnings[-1]


def test_json_holds_every_step(run, tmp_path):
    table = tmp_path / "genes.csv"
    table.write_text("gene_id,length_bp\n" + "".join(f"{g},1000\n" for g in GENES[:10]))
    wanted = tmp_path / "genes.txt"
    wanted.write_text("\n".join(GENES[1:]))
    words = ("--recipe", "spared-2024", "--gene-table", table, "--gene-list", wanted, "--train-sections", "s0,s2")
    done = run("--out", tmp_path / "out", *words, "--json", "--quiet")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["n_genes"] == {"measured": 12, "passed": 11, "with_length": 9, "kept": 9}
    assert said["genes_without_length"] == ["GENE10", "GENE11"]
    assert said["train_sections"] == ["s0", "s2"]
    assert said["uses_truth"]
    assert said["params"]["legacy_combat"]
    assert said["dropped_spots"] == {}
    assert 0 <= said["missing_share"] < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe", "spared"), "no recipe 'spared'"),
        (("--set", "n_gene=5"), "did you mean 'n_genes'?"),
        (("--set", "min_measured=high"), "min_measured of SparedPreparation must be a number"),
        (("--train-donors", "D7"), "no donor 'D7'; it has D0, D1, D2"),
        (("--train-donors", "D0", "--train-sections", "s0"), "not both"),
        (("--gene-table", "no.tsv"), "no.tsv does not exist"),
        (("--gene-list", "no.txt"), "no.txt cannot be read"),
        ((), "no gene table for the organism"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(run, tmp_path, words, message):
    done = run("--out", tmp_path / "out", *words)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken_is_refused_before_anything_is_computed(run, folder):
    assert "holds a cohort already" in run("--out", folder, "--set", "lengths=none").stderr
