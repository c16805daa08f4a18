"""Graphs and tables that the reference tests share, and the way into libraries that warn when imported."""

import importlib
import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree


@pytest.fixture(scope="session")
def quietly():
    """Return a way to import and call other people's packages, whose warnings are not ours to mend."""

    def run(function, *args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return run


@pytest.fixture(scope="session")
def squidpy(quietly):
    return quietly(importlib.import_module, "squidpy")


@pytest.fixture(scope="session")
def scanpy(quietly):
    return quietly(importlib.import_module, "scanpy")


@pytest.fixture(scope="session")
def grid():
    """Return the graph of a square grid with holes: 8 neighbours, some spots isolated."""
    rng = np.random.default_rng(0)
    places = np.argwhere(rng.random((16, 16)) < 0.7)
    places = np.vstack([places, [[100, 100], [200, 200]]])
    pairs = cKDTree(places).query_pairs(1.5, output_type="ndarray")
    both = np.vstack([pairs, pairs[:, ::-1]])
    return sparse.csr_matrix((np.ones(len(both)), both.T), shape=(len(places),) * 2)


@pytest.fixture(scope="session")
def counts(grid):
    """Return counts of 40 genes: sparse to dense, one constant, one all zero, one of a single spot."""
    rng = np.random.default_rng(1)
    x = rng.poisson(rng.gamma(1.0, 1.0, 40), (grid.shape[0], 40)).astype(float)
    x[:, 0], x[:, 1], x[:, 2] = 2.0, 0.0, 0.0
    x[5, 2] = 3.0
    return x
