"""The comparison of ways to use experts: equal steps, no truth but for the oracle, and every way is there."""

import numpy as np
import pytest

from hescribe.align.bleep import BleepAligner
from hescribe.align.spade import SpadeAligner
from hescribe.bench.routing import WAYS, compare_ways
from hescribe.bench.task import Fold
from hescribe.data.cohort import Cohort
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.testing.cohorts import colour_cohort

BLEEP = BleepAligner(gene_encoder=PCAEncoder(n_dims=4), n_dims=8, batch_size=64)
SPADE = SpadeAligner(
    aligner=BLEEP.with_params(lr=5e-3), encoder="color", n_fine=4, n_experts=2, epochs=10, tune_epochs=1, strength=1.0,
    temperature=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def fold() -> Fold:
    cohort = colour_cohort()
    train, test = (cohort.where(lambda s, d=d: (s.donor == "D2") is d) for d in (False, True))
    return Fold("D2", train, test)


def test_every_way_is_scored_on_every_test_section_and_the_oracle_is_above_all_experts(fold):
    scores = compare_ways(SPADE, fold)
    assert {(s.way, s.section) for s in scores} == {(way, s.id) for way in WAYS for s in fold.test}
    by_way = {way: np.mean([s.auc for s in scores if s.way == way]) for way in WAYS}
    assert all(by_way["oracle"] >= by_way[way] for way in ("uniform", "hard", "soft"))
    assert by_way["generalist"] > 0.55, "colour carries the expression"
    assert all(np.isnan(s.pearson) == (s.way == "oracle") for s in scores)
    assert {s.setting for s in scores if s.way == "chosen"} == {"1, 0"}


def test_no_way_but_the_oracle_reads_the_expression_of_a_test_section_for_its_image(fold):
    blind = Cohort(tuple(s.with_table(s.table) for s in fold.test), fold.test.card)
    rng = np.random.default_rng(0)

    def shuffle(section):
        table = section.table.copy()
        order = rng.permutation(section.n_spots)
        for layer in table.layers:
            table.layers[layer] = table.layers[layer][order]
        return section.with_table(table)

    scores = compare_ways(SPADE, Fold("D2", fold.train, blind.map(shuffle)))
    for way in WAYS:
        auc = np.mean([s.auc for s in scores if s.way == way])
        assert auc > 0.5 if way == "oracle" else abs(auc - 0.5) < 0.12, f"{way} {auc}"
