"""Highly variable genes against scanpy's (flavour of Seurat)."""

import anndata
import numpy as np
import pytest
from scipy import sparse

from hescribe.prep.dispersion import scaled_dispersion


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_dispersions_are_what_scanpy_gives(scanpy, quietly, seed):
    rng = np.random.default_rng(seed)
    counts = rng.negative_binomial(2, 1 / (1 + rng.gamma(0.3, 2, 400)), (150, 400))
    counts[:, :3] = 0  # not seen at all
    x = sparse.csr_matrix(np.log1p(counts * 1e4 / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
    table = anndata.AnnData(x.copy(), uns={"log1p": {}})
    quietly(scanpy.pp.highly_variable_genes, table, n_top_genes=60)
    ours = scaled_dispersion(x)
    seen = np.isfinite(ours)
    np.testing.assert_array_equal(seen, counts.any(axis=0))
    np.testing.assert_allclose(ours[seen], table.var["dispersions_norm"][seen], atol=1e-4)
    assert set(np.argsort(-ours)[:60]) == set(np.flatnonzero(table.var["highly_variable"]))
