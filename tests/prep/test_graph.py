"""Rings on the three kinds of array, against counts by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.cards import SectionCard, TechnologyCard
from hescribe.data.section import Section
from hescribe.prep.graph import nearest_spots, rings, spot_graph


def grid(kind, places, xy_um=None):
    row, col = np.array(places).T
    obs = pd.DataFrame({keys.ARRAY_ROW: row, keys.ARRAY_COL: col}, index=[str(i) for i in range(len(row))])
    xy = np.column_stack([col, row]) * 100.0 if xy_um is None else xy_um
    card = SectionCard(technology=TechnologyCard(name="t", title="t", grid=kind), pitch_um=100.0)
    return Section("s", "d", AnnData(obs=obs, obsm={keys.SPATIAL_UM: xy}), card=card)


@pytest.mark.parametrize(
    ("kind", "places", "sizes"),
    [
        ("square", [(r, c) for r in range(5) for c in range(5)], (8, 16)),
        ("checker", [(r, c) for r in range(9) for c in range(9) if (r + c) % 2 == 0], (8, 16)),
        ("hex", [(r, c) for r in range(9) for c in range(17) if (r + c) % 2 == 0], (6, 12)),
    ],
)
def test_the_middle_spot_has_full_rings(kind, places, sizes):
    section = grid(kind, places)
    middle = places.index((len({r for r, _ in places}) // 2, len({c for _, c in places}) // 2))
    for ring, size in zip(rings(section, 2), sizes, strict=True):
        row = ring[middle].toarray().ravel()
        assert (row > 0).sum() == size
        assert row[middle] == 0
        assert row.sum() == pytest.approx(1)


def test_a_lone_spot_stands_for_its_empty_rings():
    section = grid("square", [(0, 0), (20, 20)])
    for ring in rings(section, 2):
        np.testing.assert_array_equal(ring.toarray(), np.eye(2))


def test_without_an_array_the_pitch_decides():
    xy = np.array([[0.0, 0.0], [105.0, 0.0], [0.0, 210.0]])
    section = grid(None, [(0, 0), (0, 0), (0, 0)], xy)
    first, second = rings(section, 2)
    assert first[0, 1] == 1
    assert second[0, 2] == 1


def test_touching_spots_are_linked_both_ways_and_never_to_themselves():
    graph = spot_graph(grid("square", [(0, 0), (0, 1), (0, 2)])).toarray()
    np.testing.assert_allclose(graph, [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])


def test_rings_do_not_depend_on_the_order_of_spots():
    places = [(r, c) for r in range(4) for c in range(4)]
    section = grid("square", places)
    order = np.random.default_rng(0).permutation(16)
    shuffled = replace(section, table=section.table[order].copy())
    expected = rings(section, 1)[0].toarray()[np.ix_(order, order)]
    np.testing.assert_allclose(rings(shuffled, 1)[0].toarray(), expected)


SQUARE = [(r, c) for r in range(7) for c in range(7)]


def test_nearest_spots_come_in_the_order_of_their_distance():
    index, distance = nearest_spots(grid("square", SQUARE), 12)
    middle = SQUARE.index((3, 3))
    np.testing.assert_allclose(distance[middle], [1] * 4 + [2**0.5] * 4 + [2] * 4)
    assert {SQUARE[i] for i in index[middle][:4]} == {(2, 3), (4, 3), (3, 2), (3, 4)}
    assert middle not in index[middle]


@pytest.mark.parametrize("kind", ["square", "hex", "checker", None])
def test_which_of_equally_far_spots_are_taken_does_not_depend_on_the_table(kind):
    places = SQUARE if kind in ("square", None) else [(r, c) for r in range(9) for c in range(9) if (r + c) % 2 == 0]
    section, mixed = grid(kind, places), np.random.default_rng(0).permutation(len(places))
    index, _ = nearest_spots(section, 10)  # cuts a ring in each kind of array
    other, _ = nearest_spots(section.with_table(section.table[mixed].copy()), 10)
    np.testing.assert_array_equal(mixed[other], index[mixed])


def test_the_farthest_neighbour_may_lie_on_the_radius():
    index, distance = nearest_spots(grid("square", SQUARE), 6, radius=1.0)
    corner = SQUARE.index((0, 0))
    assert {SQUARE[i] for i in index[corner] if i >= 0} == {(0, 1), (1, 0)}
    assert (index[corner][2:] == -1).all()
    assert np.isinf(distance[corner][2:]).all()


def test_two_spots_at_one_place_are_neighbours_and_none_is_its_own():
    index, distance = nearest_spots(grid("square", [(0, 0), (0, 0), (0, 2)]), 2)
    assert index[:2, 0].tolist() == [1, 0]
    assert distance[:2, 0].tolist() == [0.0, 0.0]
    assert all(i not in index[i] for i in range(3))


def test_a_lone_spot_has_no_nearest_spot():
    index, distance = nearest_spots(grid("square", [(0, 0)]), 3)
    assert index.tolist() == [[-1, -1, -1]]
    assert np.isinf(distance).all()
