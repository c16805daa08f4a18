"""The adaptive median filter fills zeros from the spots around them, and only zeros."""

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.errors import InputError
from hescribe.prep.denoise import adaptive_median, fill_section
from hescribe.prep.graph import spot_graph


def chain(n):
    return sparse.csr_matrix(np.eye(n, k=1) + np.eye(n, k=-1))


def column(*values):
    return np.array(values, dtype=float)[:, None]


def test_a_zero_takes_the_median_of_its_neighbours_and_itself():
    filled = adaptive_median(column(4, 0, 6, 1, 1), chain(5))
    assert filled[1, 0] == 4.0  # median of 4, 0, 6


def test_zeros_in_the_window_count():
    # spot 2: one step 0 0 0, two steps 0 0 0 2 6: median 0, three steps with 8 and 3: 0 0 0 2 3 6 8, median 2
    filled = adaptive_median(column(8, 2, 0, 0, 0, 6, 3), sparse.csr_matrix(_star()))
    assert filled[2, 0] == 2.0


def _star():
    """Spot 2 touches 3 and 4, these touch 1 and 5, and these touch 0 and 6."""
    a = np.zeros((7, 7))
    for i, j in ((2, 3), (2, 4), (3, 1), (4, 5), (1, 0), (5, 6)):
        a[i, j] = a[j, i] = 1
    return a


def test_the_window_grows_only_as_far_as_asked():
    values, graph = column(8, 2, 0, 0, 0, 6, 3), sparse.csr_matrix(_star())
    assert adaptive_median(values, graph, n_hops=2)[2, 0] == 4.5  # the section's median of 8, 2, 6, 3


def test_where_all_medians_are_zero_the_section_median_of_non_zero_values_stands_in():
    filled = adaptive_median(column(0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 7), chain(11))
    assert filled[0, 0] == 5.0  # four steps from spot 0 see zeros only; (3 + 7) / 2


def test_a_gene_without_any_value_stays_zero():
    assert not adaptive_median(np.zeros((4, 2)), chain(4)).any()


def test_measured_values_are_not_changed():
    rng = np.random.default_rng(0)
    values = rng.poisson(0.8, (40, 15)).astype(float)
    filled = adaptive_median(values, chain(40))
    np.testing.assert_array_equal(filled[values > 0], values[values > 0])
    assert (filled > 0).all()


def test_spots_without_neighbours_take_the_section_median():
    filled = adaptive_median(column(0, 2, 5), sparse.csr_matrix((3, 3)))
    assert filled[0, 0] == 3.5


def test_one_spot_and_one_gene_are_enough():
    np.testing.assert_array_equal(adaptive_median(column(0), sparse.csr_matrix((1, 1))), [[0.0]])


def test_a_sparse_table_gives_what_a_dense_one_gives():
    values = np.random.default_rng(1).poisson(0.7, (30, 8)).astype(np.float32)
    dense, thin = adaptive_median(values, chain(30)), adaptive_median(sparse.csr_matrix(values), chain(30))
    np.testing.assert_array_equal(dense, thin)
    assert thin.dtype == np.float32


def test_the_input_is_not_written_to():
    values = column(0, 1, 2)
    adaptive_median(values, chain(3))
    assert values[0, 0] == 0


def test_a_stored_zero_in_the_graph_is_no_neighbour():
    graph = sparse.csr_matrix(([1.0, 0.0], ([0, 0], [1, 2])), shape=(3, 3))
    assert adaptive_median(column(0, 4, 100), graph)[0, 0] == 2.0  # median of 0 and 4


@pytest.mark.parametrize("fault", [-1.0, np.nan, np.inf])
def test_centred_or_broken_values_are_refused(fault):
    with pytest.raises(InputError, match="at least 0, not centred"):
        adaptive_median(column(fault, 1), chain(2))


def test_a_graph_of_other_spots_is_refused():
    with pytest.raises(InputError, match="joins 3 spots and the values have 2 rows"):
        adaptive_median(column(0, 1), chain(3))


def test_no_step_is_refused():
    with pytest.raises(InputError, match="at least 1, got 0"):
        adaptive_median(column(0, 1), chain(2), n_hops=0)


def test_a_section_gets_the_filled_layer_beside_its_counts(cohort):
    section = cohort[0]
    filled = fill_section(section, keys.LOGNORM, keys.COMPLETED)
    expected = adaptive_median(section.layer(keys.LOGNORM), spot_graph(section))
    np.testing.assert_array_equal(filled.layer(keys.COMPLETED), expected)
    np.testing.assert_array_equal(filled.layer(keys.COUNTS), section.layer(keys.COUNTS))
    assert keys.COMPLETED not in section.table.layers


def test_a_missing_layer_is_named(cohort):
    with pytest.raises(InputError, match="s0 has no layer 'nope'"):
        fill_section(cohort[0], "nope", keys.COMPLETED)
