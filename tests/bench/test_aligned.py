"""Scores of aligners on held-out donors, and the controls that stand beside them."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.align.infonce import InfoNCEAligner
from hescribe.bench.aligned import (
    DensityOnly,
    DepthEncoder,
    RidgeRetriever,
    ShuffledPairsAligner,
    embed_fold,
    on_arc,
    score_aligner,
)
from hescribe.bench.task import Fold
from hescribe.cards import DatasetCard
from hescribe.data.cohort import Cohort
from hescribe.encode.features import embed_section
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import LeakageError
from hescribe.predict.ridge import RidgePredictor

INFONCE = InfoNCEAligner(
    encoder="color", gene_encoder=PCAEncoder(n_dims=4), n_dims=16, epochs=40, lr=5e-3, batch_size=64
)
RIDGE = RidgeRetriever(ridge=RidgePredictor(encoder="color", alpha=1.0))


@pytest.fixture(scope="module")
def fold(cohort):
    train, test = (cohort.where(lambda s, d=d: (s.donor == "D2") is d) for d in (False, True))
    return Fold("D2", train, test)


def mean_auc(rows, pool="within_section", *, without_depth=False):
    values = [r.value for r in rows if (r.metric, r.pool, r.without_depth) == ("auc", pool, without_depth)]
    assert values
    return np.mean(values)


def test_test_spots_ask_and_spots_of_both_sides_are_candidates(fold):
    rows = score_aligner(RIDGE, fold, sizes=(None,))
    assert {r.section for r in rows} == {"s4", "s5"}
    sizes = {r.pool: r.pool_size for r in rows}
    assert sizes == {"within_section": 49, "across_sections": 98, "across_donors": 196, "mixed": 49 + 196}
    assert {r.without_depth for r in rows} == {False, True}


@pytest.mark.parametrize("aligner", [INFONCE, RIDGE], ids=lambda a: a.name)
def test_a_signal_in_colour_is_found_and_lost_with_the_pairs(fold, aligner):
    assert mean_auc(score_aligner(aligner, fold, sizes=(None,))) > 0.65
    if aligner is INFONCE:
        shuffled = score_aligner(ShuffledPairsAligner(base=aligner), fold, sizes=(None,))
        assert mean_auc(shuffled) == pytest.approx(0.5, abs=0.12)


def test_the_aligner_that_was_given_stays_unfitted(fold):
    aligner = INFONCE.with_params(epochs=1)
    embed_fold(aligner, fold)
    assert not aligner.get_fitted()


def test_what_expresses_alike_is_found_across_donors(fold):
    assert mean_auc(score_aligner(RIDGE, fold, sizes=(None,)), "across_donors") > 0.55


def test_an_aligner_on_depth_finds_no_more_than_darkness_does(fold):
    """Colour of this cohort carries genes and not depth, so that neither finds anything."""
    of_depth = INFONCE.with_params(gene_encoder=DepthEncoder())
    for aligner in (of_depth, DensityOnly()):
        assert mean_auc(score_aligner(aligner, fold, sizes=(None,))) == pytest.approx(0.5, abs=0.12)


def test_darkness_finds_depth_where_dark_spots_are_deep(fold):
    def deepened(section):
        darkness = embed_section(section, "color", fov_um=(112.0,))[:, 6]
        table = section.table.copy()
        table.obs[keys.DEPTH] = np.round(1e4 * np.exp(darkness - darkness.mean()))
        return section.with_table(table)

    deep = Fold("D2", fold.train.map(deepened), fold.test.map(deepened))
    assert mean_auc(score_aligner(DensityOnly(), deep, sizes=(None,))) > 0.95


def test_ranks_lie_on_an_arc():
    x = on_arc(np.array([5.0, 1.0, 9.0, 5.0]))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(x[0], x[3])
    assert x[1] @ x[0] > x[1] @ x[2]


def test_shuffled_pairs_keep_the_counts_of_a_spot_together(cohort):
    seen = []

    class Spy(RidgeRetriever):
        def fit(self, train, *, val=None):
            seen.append(train)
            return super().fit(train, val=val)

    ShuffledPairsAligner(base=Spy(ridge=RidgePredictor(encoder="color", alpha=1.0))).fit(cohort)
    for before, after in zip(cohort, seen[0], strict=True):
        old, new = (np.column_stack([s.table.layers[keys.COUNTS], s.depth]) for s in (before, after))
        assert not np.array_equal(old, new)
        np.testing.assert_array_equal(old[np.lexsort(old.T)], new[np.lexsort(new.T)])
        np.testing.assert_array_equal(before.xy_um, after.xy_um)


def test_an_aligner_whose_gene_encoder_saw_the_test_data_is_not_scored(fold):
    class Published(PCAEncoder):
        card = replace(PCAEncoder().card, trained_on=("her2st",))

    test = Cohort(fold.test.sections, DatasetCard(id="her2st"))
    with pytest.raises(LeakageError, match="encoder pca was trained on her2st itself"):
        score_aligner(INFONCE.with_params(gene_encoder=Published(n_dims=4)), Fold("D2", fold.train, test))
