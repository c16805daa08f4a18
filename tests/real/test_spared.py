"""The published preparation of her2st gives the numbers of an independent study of the same 36 sections.

That study took counts per million without gene lengths and corrected no batches; its graph is the
square array's eight neighbours, which is the graph of touching spots.
"""

import numpy as np
import pytest

from hescribe import keys
from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.prep.spared import SparedPreparation

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def her2st(shared_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("her2st") / "cohort"
    import_cohort(shared_data / "her2st", "st", out)
    return read_cohort(out)


@pytest.fixture(scope="module")
def preparation(her2st):
    return SparedPreparation(fitted_on="all", lengths="none", batch="none").fit(her2st)


def test_spots_and_genes_that_pass_come_out_again(her2st, preparation):
    assert (sum(s.n_spots for s in her2st), len(her2st.genes)) == (13_620, 11_871)
    assert len(preparation.panels_.passed) == 365
    assert preparation.measured_share_ == pytest.approx(0.7002, abs=5e-5)


def test_the_ranking_by_moran_comes_out_again(preparation):
    moran = preparation.facts_[keys.D_LOG1P_MORAN]
    assert preparation.panels_.genes[0] == "IGKC"
    assert moran[[0, 127]] == pytest.approx([0.442, 0.136], abs=5e-4)
    assert len(moran) == 128


def test_the_measured_share_comes_out_again(her2st, preparation):
    prepared = preparation.transform(her2st)
    mask = prepared.stack(keys.MASK)
    assert len(mask) == 13_587
    assert mask.mean() == pytest.approx(0.729, abs=5e-4)
    assert mask.mean(axis=0).min() == pytest.approx(0.44, abs=5e-3)
    assert mask.mean(axis=0).max() == pytest.approx(0.99, abs=5e-3)
    assert np.all(prepared.stack(keys.D_LOG1P) > 0)
