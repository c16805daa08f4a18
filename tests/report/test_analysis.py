"""The page of an analysis says every number it rests on, and is safe whatever genes are called."""

import re

import numpy as np
import pandas as pd
import pytest

from hescribe import keys
from hescribe.analysis.gene_sets import GeneSet
from hescribe.analysis.overview import PredictedSection, analyse
from hescribe.report.analysis import verdict, write_analysis
from hescribe.report.analysis_figures import coexpression_figure, match_domains
from hescribe.report.table import format_number

HOSTILE = "<script>alert('gene')</script>"
SETS = {"mine": GeneSet(title="Mine & <b>yours</b>", genes=("GENE3", "GENE4", "GENE5", "NOPE"), source="planted")}


def predict(section, seed, *, labelled):
    table = section.table.copy()
    table.var_names = [HOSTILE if g == "GENE1" else "COST$A$" if g == "GENE2" else g for g in table.var_names]
    if labelled:
        table.obs[keys.REGION] = np.where(table.obs[keys.ARRAY_ROW] < 4, "fat", "duct")
    noise = np.random.default_rng(seed).normal(size=(section.n_spots, 12))
    values = noise.copy()
    values[:, :6] = table.layers[keys.TARGET][:, :6] + 0.2 * noise[:, :6]
    return PredictedSection(section.with_table(table), values)


@pytest.fixture(scope="module")
def found(cohort):
    predicted = [predict(s, i, labelled=i == 0) for i, s in enumerate(cohort)]
    return analyse(predicted, encoder="color", sets=SETS, seeds=(0,), notes=("the model saw it all",))


@pytest.fixture(scope="module")
def out(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("analysis")
    write_analysis(found, path, model="half <right>", encoder="color")
    return path


@pytest.fixture(scope="module")
def page(out):
    return (out / "analysis.html").read_text(encoding="utf-8")


def test_every_gene_of_the_page_has_the_number_of_the_table(page, found):
    shown = re.findall(r"<tr data-gene=.*?<th scope=\"row\">(.*?)</th>\s*<td>(.*?)</td>", page, re.DOTALL)
    assert [r for _, r in shown] == [format_number(r) for r in found.genes["r"]]


def test_tables_hold_every_number(out, found):
    genes = pd.read_csv(out / "genes.csv").set_index("gene")
    pd.testing.assert_frame_equal(genes, found.genes, check_dtype=False)
    assert len(pd.read_csv(out / "gene_sets.csv")) == 6
    domains = pd.read_csv(out / "domains.csv")
    assert set(domains["source"]) == {"predicted", "measured", "image features", "colour", "place", "noise"}


def test_names_cannot_write_into_the_page(page):
    assert HOSTILE not in page
    assert "<b>yours</b>" not in page
    assert "half <right>" not in page


def test_the_page_needs_no_network_and_has_its_pictures(page, out):
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert {p.name for p in (out / "figures").iterdir()} == {
        "genes_s0.png", "genes_s2.png", "genes_s4.png", "domains.png", "domains_s0.png",
        *(p.name for p in (out / "figures").glob("gene_sets_*.png")),
        *(p.name for p in (out / "figures").glob("coexpression_*.png")),
    }  # fmt: skip
    assert page.count("data:image/png") == len(list((out / "figures").iterdir())) == 7


def test_notes_stand_above_the_result(page):
    assert page.index("The model saw it all.") < page.index('id="result"')


def test_the_verdict_names_what_depth_and_neighbours_do(found):
    first, together, domains = verdict(found)
    assert first.startswith(f"{found.n_predicted('q')} of 12 genes are predicted better than chance")
    assert f"with total counts taken out {found.n_predicted('q_without_depth')} are" in first
    assert f"{found.n_predicted('q_naive')} would seem to be" in first
    assert "Which genes go together is kept to" in together
    assert "agree with the pathologist to" in domains


def test_without_labels_and_sets_the_page_says_so(cohort, tmp_path):
    found = analyse([predict(cohort[0], 0, labelled=False)], sets={})
    page = write_analysis(found, tmp_path, model="m", encoder="color").read_text(encoding="utf-8")
    assert 'id="no-domains"' in page
    assert 'id="no-sets"' in page
    assert not (tmp_path / "domains.csv").exists()


def test_a_constant_prediction_gives_a_page_of_dashes(cohort, tmp_path):
    found = analyse([PredictedSection(cohort[0], np.ones((49, 12)))], sets=SETS)
    page = write_analysis(found, tmp_path, model="m", encoder="color").read_text(encoding="utf-8")
    assert len(verdict(found)) == 1
    assert verdict(found)[0].startswith("0 of 12 genes")
    assert not re.search(r"\bnan\b", re.sub(r"data:image/png;base64,[^\"]*", "", page), re.IGNORECASE)


def test_domains_take_the_number_of_the_region_they_cover():
    truth = np.array([0, 0, 0, 1, 1, 2, -1])
    found = np.array([2, 2, 0, 1, 1, 0, -1])
    assert match_domains(truth, found).tolist() == [0, 0, 2, 1, 1, 2, -1]


def test_co_expression_is_drawn_in_one_order_on_both_sides(found):
    figure = coexpression_figure(found.coexpression["s0"])
    measured, predicted, *_ = figure.axes
    names = [t.get_text() for t in measured.get_yticklabels()]
    assert names == [t.get_text() for t in predicted.get_xticklabels()]
    assert sorted(names) == sorted(g.replace("$", r"\$") for g in found.coexpression["s0"].genes)
    assert [i.get_clim() for i in (*measured.images, *predicted.images)] == [(-1, 1), (-1, 1)]
