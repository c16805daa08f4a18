"""A model is given all measured genes in blocks, each with a trust class and an interval of its own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.bench import all_genes
from hescribe.bench.all_genes import add_genes, check_gene_wise
from hescribe.bench.external import score_fitted
from hescribe.bench.fitting import fit_model, predict_table
from hescribe.bench.ladder import create_model
from hescribe.bench.leakage import find_trained_sections
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.cards import DatasetCard
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import take_print
from hescribe.errors import InputError, PanelError
from hescribe.prep.genes import to_panel
from hescribe.testing.cohorts import colour_section

RULE = replace(read_protocol("donor-v1"), n_genes=9)  # a panel of 9 of the 12 genes


@pytest.fixture(scope="module")
def panel_model(raw_cohort):
    return fit_model(create_model("color_ridge"), raw_cohort, RULE)


@pytest.fixture(scope="module")
def wide(panel_model, raw_cohort):
    return add_genes(panel_model, raw_cohort, RULE)


def predicted(model, section):
    return predict_table(model, section).to_df(layer=keys.PREDICTED)


def test_every_measured_gene_is_predicted_and_the_panel_as_before(wide, panel_model, raw_cohort):
    assert len(panel_model.info.genes) == 9
    assert wide.info.genes == raw_cohort.genes
    all_of_them, before = (predicted(m, raw_cohort[0]) for m in (wide, panel_model))
    pd.testing.assert_frame_equal(all_of_them[list(before)], before, atol=1e-4)


@pytest.mark.slow
def test_a_gene_has_the_scores_that_a_panel_with_it_gives(raw_cohort):
    """A panel is scored by the cells of a benchmark; the penalty is given, for it would be chosen on another panel."""
    model = create_model("color_ridge:alpha=100.0")
    wide = add_genes(fit_model(model, raw_cohort, RULE), raw_cohort, RULE)
    direct = fit_model(model, raw_cohort, read_protocol("donor-v1"))
    columns = ["pearson", "depth_partial", "lowest_donor"]
    one, other = (pd.DataFrame.from_dict(m.info.scores, orient="index")[columns] for m in (wide, direct))
    assert list(one.index) == list(raw_cohort.genes)
    np.testing.assert_allclose(one, other.loc[one.index], atol=2e-4)


def test_genes_with_signal_are_trusted_and_the_others_are_not(wide):
    trust = pd.Series({g: s["trust"] for g, s in wide.info.scores.items()})
    assert (trust.iloc[:6] == "predictable").any()
    assert (trust.iloc[:6] != "do not use").all()
    assert (trust.iloc[6:] == "predictable").sum() == 0


def test_a_gene_of_the_panel_keeps_its_class_whatever_is_added(panel_model, raw_cohort):
    """500 genes that are hardly there follow nothing, and would pull the limit of chance down for all others."""
    rng = np.random.default_rng(0)

    def with_rare(section):
        rare = [f"RARE{i}" for i in range(500)]
        counts = sparse.csr_matrix(rng.poisson(0.02, (section.n_spots, 500)).astype(np.float32))
        old = section.table
        table = AnnData(
            obs=old.obs, var=pd.DataFrame(index=[*old.var_names, *rare]), obsm=dict(old.obsm),
            layers={keys.COUNTS: sparse.hstack([old.layers[keys.COUNTS], counts], format="csr")},
        )  # fmt: skip
        return section.with_table(table)

    wide = add_genes(panel_model, raw_cohort.map(with_rare), RULE)
    assert len(wide.info.genes) == 512
    kept = {g: wide.info.scores[g]["trust"] for g in panel_model.info.genes}
    assert kept == {g: s["trust"] for g, s in panel_model.info.scores.items()}


def test_blocks_change_nothing(wide, panel_model, raw_cohort, monkeypatch):
    monkeypatch.setattr(all_genes, "BLOCK", 5)
    in_blocks = add_genes(panel_model, raw_cohort, RULE)
    assert {g: s["trust"] for g, s in in_blocks.info.scores.items()} == {
        g: s["trust"] for g, s in wide.info.scores.items()
    }
    one, other = (predicted(m, raw_cohort[0]) for m in (in_blocks, wide))
    pd.testing.assert_frame_equal(one, other, atol=1e-4)
    np.testing.assert_allclose(in_blocks.interval.above, wide.interval.above, atol=1e-4)


def test_the_mean_score_stays_that_of_the_panel_and_the_intervals_cover_all(wide, panel_model):
    assert wide.info.score == panel_model.info.score
    assert wide.info.panel == panel_model.info.genes == panel_model.info.panel
    assert wide.interval.below.shape == (12,)
    own = [wide.info.genes.index(g) for g in panel_model.info.genes]
    np.testing.assert_allclose(wide.interval.below[own], panel_model.interval.below, atol=1e-3)


def test_it_survives_the_disk(wide, raw_cohort, tmp_path):
    write_model(tmp_path / "m", wide)
    restored = read_model(tmp_path / "m")
    assert restored.info == wide.info
    pd.testing.assert_frame_equal(predicted(restored, raw_cohort[0]), predicted(wide, raw_cohort[0]))


@pytest.mark.slow
def test_a_single_donor_gets_all_genes_untested_with_intervals_from_its_blocks(raw_cohort):
    one = raw_cohort.where(lambda s: s.donor == "D0")
    wide = add_genes(fit_model(create_model("color_ridge"), one, RULE), one, RULE)
    assert {s["trust"] for s in wide.info.scores.values()} == {"untested"}
    assert wide.info.interval.rests_on == "spots"
    assert (wide.interval.above - wide.interval.below > 0).all()


def test_training_tissue_is_known_again_by_the_panel_where_added_genes_are_missing(wide, raw_cohort):
    """Hashes on all genes would differ as soon as one gene is missing."""
    fewer = to_panel(raw_cohort[3], wide.info.panel + tuple(set(raw_cohort.genes[:9]) - set(wide.info.panel)))
    renamed = replace(fewer, id="other", donor="unknown")
    bare = replace(renamed, image=None)
    found = find_trained_sections(wide.info, "elsewhere", [take_print(bare, "elsewhere", frozenset(wide.info.panel))])
    assert "it is its training section s3" in found["other"]


def test_it_is_scored_on_another_cohort_that_has_its_panel_only(wide):
    other = Cohort(
        tuple(to_panel(colour_section(i, f"E{i}"), wide.info.panel) for i in (98, 99)), DatasetCard(id="elsewhere")
    )
    pearson = next(s for s in score_fitted(wide, other, RULE) if s.metric == "pearson")
    assert pearson.n_defined == 2 * 9
    assert pearson.value > 0.2


def test_what_learns_its_genes_together_is_refused(panel_model, raw_cohort):
    with pytest.raises(InputError, match=r"mlp learns its genes together.*give --genes a file"):
        check_gene_wise(create_model("encoder_mlp"))
    with pytest.raises(InputError, match=r"genes cannot be added under protocol donor-v1\+section_split"):
        add_genes(panel_model, raw_cohort, read_protocol("donor-v1+section_split"))


def test_a_panel_can_be_given_and_must_have_been_measured(raw_cohort):
    model = fit_model(create_model("color_ridge"), raw_cohort, RULE, genes=("GENE7", "GENE2"))
    assert model.info.genes == model.info.panel == ("GENE7", "GENE2")
    with pytest.raises(PanelError, match="lacks 1 of 2 genes: NOVEL"):
        fit_model(create_model("color_ridge"), raw_cohort, RULE, genes=("GENE7", "NOVEL"))
