"""Moran's I against squidpy without permutations."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import normalize

from hescribe.prep.moran import morans_i


@pytest.fixture
def peer(squidpy, quietly):
    def run(x, graph):
        table = anndata.AnnData(x)
        table.obsp["spatial_connectivities"] = graph
        done = quietly(squidpy.gr.spatial_autocorr, table, mode="moran", n_perms=None, copy=True)
        return done.loc[table.var_names, "I"].to_numpy()

    return run


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.slow
def test_a_section_gives_what_squidpy_gives(peer, grid, counts, form):
    ours = morans_i(form(np.log2(counts + 1)), normalize(grid, "l1"))
    np.testing.assert_allclose(ours, peer(form(np.log2(counts + 1)), grid), atol=1e-6)
    assert np.isnan(ours[:2]).all()


def test_two_spots_give_what_squidpy_gives(peer):
    graph = sparse.csr_matrix(np.array([[0.0, 1.0], [1.0, 0.0]]))
    x = np.array([[1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(morans_i(x, graph), peer(x, graph), atol=1e-6)
