"""ComBat against scanpy's."""

import anndata
import numpy as np
import pandas as pd
import pytest

from hescribe.prep.batch import Combat


@pytest.fixture
def peer(scanpy, quietly):
    def run(x, batch):
        obs = pd.DataFrame({"batch": pd.Categorical(batch)}, index=[str(i) for i in range(len(batch))])
        return quietly(scanpy.pp.combat, anndata.AnnData(x.copy(), obs=obs), "batch", inplace=False)

    return run


def ours(x, batch):
    return Combat().fit(x, batch).transform(x, batch)


@pytest.mark.parametrize(
    ("n_spots", "n_genes", "n_batches", "tolerance"),
    [
        (600, 40, 5, 1e-6),
        (40, 2, 2, 1e-4),
        (12, 4, 3, 1e-4),
        (30, 50, 10, 1e-3),  # three spots a batch: scanpy stops at a relative change of 1e-4, ours goes on
    ],
)
def test_random_tables_give_what_scanpy_gives(peer, n_spots, n_genes, n_batches, tolerance):
    rng = np.random.default_rng(n_spots)
    batch = rng.permutation(np.arange(n_spots) % n_batches)
    effect = rng.normal(0, 1, (n_batches, n_genes))
    x = rng.gamma(2, 1, (n_spots, n_genes)) * (1 + rng.random((n_batches, n_genes)))[batch] + effect[batch]
    np.testing.assert_allclose(ours(x, batch), peer(x, batch), rtol=0, atol=tolerance)


def test_dropouts_give_what_scanpy_gives(peer):
    rng = np.random.default_rng(0)
    batch = np.repeat(list("abcd"), [100, 20, 60, 5])
    x = np.log2(1 + rng.poisson(rng.gamma(2, 0.5, 30), (len(batch), 30)).astype(float))
    x[batch == "d", :3] = 0.0  # constant inside one batch
    np.testing.assert_allclose(ours(x, batch), peer(x, batch), atol=1e-4)


def test_genes_that_vary_give_what_scanpy_gives_without_the_constant_ones(peer):
    rng = np.random.default_rng(1)
    batch = np.repeat(list("ab"), 30)
    x = rng.normal(3, 1, (60, 10)) + (batch == "b")[:, None]
    flat = np.hstack([x, np.full((60, 1), 2.0)])
    np.testing.assert_allclose(ours(flat, batch)[:, :10], peer(x, batch), atol=1e-4)
