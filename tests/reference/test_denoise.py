"""The adaptive median filter against its definition, written spot by spot with numpy's median."""

import numpy as np
import pytest
from scipy import ndimage, sparse

from hescribe.prep.denoise import adaptive_median


def by_definition(x, graph, n_hops):
    out = x.copy()
    step = (graph != 0).toarray() | np.eye(len(x), dtype=bool)
    for i in range(len(x)):
        for g in range(x.shape[1]):
            if x[i, g] != 0:
                continue
            near = np.zeros(len(x), dtype=bool)
            near[i] = True
            for _ in range(n_hops):
                near = step[near].any(axis=0)
                if (median := np.median(x[near, g])) != 0:
                    break
            seen = x[x[:, g] != 0, g]
            out[i, g] = median or (np.median(seen) if len(seen) else 0.0)
    return out


@pytest.mark.parametrize("n_hops", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_exact_on_a_grid_with_holes_and_isolated_spots(grid, counts, n_hops, dtype):
    x = np.log2(counts + 1).astype(dtype)
    np.testing.assert_array_equal(adaptive_median(x, grid, n_hops=n_hops), by_definition(x, grid, n_hops))


def test_it_is_exact_on_a_graph_whose_edges_go_one_way():
    rng = np.random.default_rng(3)
    graph = sparse.csr_matrix(rng.random((60, 60)) < 0.03)
    x = rng.poisson(0.5, (60, 12)).astype(float)
    np.testing.assert_array_equal(adaptive_median(x, graph), by_definition(x, graph, 4))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1)])
def test_it_is_exact_on_the_smallest_tables(shape):
    x = np.random.default_rng(4).poisson(0.5, shape).astype(float)
    graph = sparse.csr_matrix(np.eye(shape[0], k=1) + np.eye(shape[0], k=-1))
    np.testing.assert_array_equal(adaptive_median(x, graph), by_definition(x, graph, 4))


def test_one_step_inside_a_full_grid_is_the_median_filter_of_image_processing():
    side = 12
    image = np.random.default_rng(5).poisson(3.0, (side, side)).astype(float)
    row, col = np.divmod(np.arange(side * side), side)
    touch = (np.maximum(abs(row[:, None] - row), abs(col[:, None] - col)) == 1).astype(float)
    ours = adaptive_median(image.reshape(-1, 1), sparse.csr_matrix(touch), n_hops=1).reshape(side, side)
    theirs = np.where(image == 0, ndimage.median_filter(image, size=3), image)
    inside = np.s_[1:-1, 1:-1]
    assert (image[inside] == 0).any()
    np.testing.assert_array_equal(ours[inside], theirs[inside])
