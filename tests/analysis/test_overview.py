"""One record of all that a prediction is good for."""

import json

import numpy as np
import pytest

from hescribe import keys
from hescribe.analysis.gene_sets import GeneSet
from hescribe.analysis.overview import PredictedSection, analyse
from hescribe.errors import InputError

OWN = {"seen": GeneSet(title="seen by colour", genes=tuple(f"GENE{g}" for g in range(6)), source="planted")}


def predict(section, seed=0):
    """Return a prediction of the first six genes that is half right, and noise for the others."""
    noise = np.random.default_rng(seed).normal(size=(section.n_spots, 12))
    values = noise.copy()
    values[:, :6] = section.table.layers[keys.TARGET][:, :6] + 0.1 * noise[:, :6]
    return PredictedSection(section, values)


@pytest.fixture(scope="module")
def labelled(cohort):
    def add(section):
        table = section.table.copy()
        table.obs[keys.REGION] = np.where(table.obs[keys.ARRAY_ROW] < 4, "fat", "duct")
        return section.with_table(table) if section.id == "s0" else section

    return cohort.map(add)


@pytest.fixture(scope="module")
def found(labelled):
    predicted = [predict(s, i) for i, s in enumerate(labelled)]
    return analyse(predicted, encoder="color", sets=OWN, seeds=(0, 1), notes=("as told",))


def test_genes_that_were_predicted_come_first(found):
    assert set(found.genes.index[:6]) == {f"GENE{g}" for g in range(6)}
    assert (found.genes["q"].iloc[:6] < 0.05).all()
    assert (found.genes["q"].iloc[6:] > 0.05).sum() >= 5
    assert found.n_predicted("q") in {6, 7}


def test_the_mean_correlation_is_over_donors_and_their_sections(found):
    by_section = [np.corrcoef(p.measured[:, 2], p.predicted[:, 2])[0, 1] for p in found.sections]
    row = found.genes.loc["GENE2"]
    assert row["r"] == pytest.approx(np.mean(by_section))  # two sections each
    assert (row["r_lowest"], row["r_highest"]) == (pytest.approx(min(by_section)), pytest.approx(max(by_section)))
    assert (row["n_sections"], row["n_donors"], row["n_spots"]) == (6, 3, 49)


def test_a_gene_that_follows_depth_alone_is_lost_without_depth(cohort):
    def deepen(section):
        table = section.table.copy()
        table.layers[keys.TARGET] = table.layers[keys.TARGET].copy()
        table.layers[keys.TARGET][:, 0] = np.log(section.depth) + 0.02 * np.random.default_rng(1).normal(size=49)
        return section.with_table(table)

    deep = cohort.map(deepen)
    values = [np.repeat(np.log(s.depth)[:, None], 12, axis=1) + 0.02 * np.random.default_rng(2).normal(size=(49, 12))
              for s in deep]  # fmt: skip
    genes = analyse([PredictedSection(s, v) for s, v in zip(deep, values, strict=True)], sets={}).genes
    assert genes.loc["GENE0", "r"] > 0.9
    assert genes.loc["GENE0", "q"] < 1e-6
    assert genes.loc["GENE0", "q_without_depth"] > 0.05


def test_panels_that_differ_between_donors_are_brought_together(cohort):
    def cut(section):
        return section.with_table(section.table[:, 6:].copy()) if section.donor == "D2" else section

    predicted = [PredictedSection(s, p.expression[:, -len(s.genes) :]) for s, p in
                 ((cut(s), predict(s)) for s in cohort)]  # fmt: skip
    genes = analyse(predicted, sets={}).genes
    assert len(genes) == 12
    assert genes["n_donors"].to_dict() == {f"GENE{g}": 2 if g < 6 else 3 for g in range(12)}


def test_sets_are_scored_in_every_section(found):
    assert sorted(s.section for s in found.sets) == [f"s{i}" for i in range(6)]
    assert all(s.r > 0.8 and s.p < 0.01 and s.n_in_set == 6 for s in found.sets)


def test_domains_are_scored_where_there_are_labels(found):
    assert {d.section for d in found.domains} == {"s0"}
    sources = {d.source for d in found.domains}
    assert sources == {"predicted", "measured", "image features", "colour", "place", "noise"}


def test_without_labels_it_says_so(cohort):
    found = analyse([predict(cohort[0])], sets={})
    assert not found.domains
    assert "no section has a pathologist's labels; domains were not compared" in found.notes


def test_its_json_has_numbers_and_no_nan(found, cohort):
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["notes"][0] == "as told"
    flat = PredictedSection(cohort[0], np.ones((49, 12)))
    assert json.loads(json.dumps(analyse([flat]).as_json(), allow_nan=False))["genes"][0]["r"] is None


def test_spots_that_are_not_kept_change_nothing(cohort):
    section = cohort[0].with_kept(np.arange(49) > 0)
    a = predict(section)
    values = a.expression.copy()
    values[0] = 1e6
    b = PredictedSection(section, values)
    left, right = (analyse([x], sets={}).genes for x in (a, b))
    np.testing.assert_array_equal(left["r"], right["r"])


def test_small_sections_are_left_out_and_said(cohort):
    small = cohort[1].with_kept(np.arange(49) < 5)
    found = analyse([predict(cohort[0]), predict(small)], sets={})
    assert [p.section.id for p in found.sections] == ["s0"]
    assert "fewer than 10 spots, left out: s1" in found.notes
    with pytest.raises(InputError, match="no section has 10 spots"):
        analyse([predict(small)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((48, 12)), r"section s0 has shape \(48, 12\), expected \(49, 12\)"),
        (np.zeros((12, 49)), r"expected \(49, 12\) \(n_spots, n_genes\)"),
        (np.full((49, 12), np.nan), "section s0 holds values that are not finite"),
    ],
)
def test_a_prediction_that_does_not_fit_is_refused(cohort, values, message):
    with pytest.raises(InputError, match=message):
        PredictedSection(cohort[0], values)
