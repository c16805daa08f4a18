"""The mclstexp aligner reads a spot with its neighbours: those of its section that are kept, and no other."""

import numpy as np
import pytest

from hescribe import keys
from hescribe.align.mclstexp import MclstexpAligner
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError

SMALL = {"encoder": "color", "gene_encoder": PCAEncoder(n_dims=4), "n_dims": 16, "n_neighbours": 4, "batch_size": 64}
CENTRE, NEIGHBOUR, FAR = 24, 25, 0  # of the 7 x 7 spots of a section


@pytest.fixture(scope="module")
def fitted(cohort):
    return MclstexpAligner(**SMALL, epochs=2).fit(cohort)


def with_counts_of(section, spot, factor=5):
    """The section with the counts of a spot turned around and multiplied."""
    table = section.table.copy()
    counts = table.layers[keys.COUNTS].copy()
    counts[spot] = factor * counts[spot][::-1]
    table.layers[keys.COUNTS] = counts
    return section.with_table(table)


def changed(fitted, before, after):
    """The spots whose embedding changed."""
    one, other = fitted.embed_expression(before), fitted.embed_expression(after)
    return set(np.flatnonzero(np.abs(one - other).max(axis=1) > 1e-5).tolist())


def test_a_spot_is_read_with_its_neighbours_and_no_others(fitted, cohort):
    assert changed(fitted, cohort[0], with_counts_of(cohort[0], CENTRE)) >= {CENTRE, 17, 23, 25, 31}
    assert FAR not in changed(fitted, cohort[0], with_counts_of(cohort[0], CENTRE))


def test_without_neighbours_a_spot_is_read_alone(cohort):
    alone = MclstexpAligner(**SMALL | {"n_neighbours": 0}, epochs=1).fit(cohort)
    assert changed(alone, cohort[0], with_counts_of(cohort[0], CENTRE)) == {CENTRE}


def test_a_spot_that_is_not_kept_changes_no_other_that_is(fitted, cohort):
    masked = cohort[0].with_kept(np.arange(49) != NEIGHBOUR)
    assert changed(fitted, masked, with_counts_of(masked, NEIGHBOUR)) == {NEIGHBOUR}


def test_a_spot_that_is_not_kept_is_embedded_with_its_neighbours_too(fitted, cohort):
    masked = cohort[0].with_kept(np.arange(49) != NEIGHBOUR)
    assert NEIGHBOUR in changed(fitted, masked, with_counts_of(masked, CENTRE))
    embedded = fitted.embed_expression(masked)[NEIGHBOUR]
    np.testing.assert_allclose(embedded, fitted.embed_expression(cohort[0])[NEIGHBOUR], atol=1e-5)


def test_a_place_is_read_on_demand_and_relative_to_the_section(fitted, cohort):
    """Moved as a whole a section stays what it is, with places or without."""
    table = cohort[0].table.copy()
    table.obs[keys.ARRAY_ROW] += 1000
    moved = cohort[0].with_table(table)
    placed = MclstexpAligner(**SMALL, epochs=1, place=True).fit(cohort)
    assert not changed(fitted, cohort[0], moved)
    assert not changed(placed, cohort[0], moved)
    swapped = table.copy()
    order = np.r_[48, 1:48, 0]  # two corners change places, each alone with the other's neighbours
    swapped.obs[keys.ARRAY_ROW], swapped.obs[keys.ARRAY_COL] = (
        table.obs[name].to_numpy()[order] for name in (keys.ARRAY_ROW, keys.ARRAY_COL)
    )
    lone = MclstexpAligner(**SMALL | {"n_neighbours": 0}, epochs=1)
    assert changed(lone.with_params(place=True).fit(cohort), cohort[0], cohort[0].with_table(swapped)) == {0, 48}
    assert not changed(lone.fit(cohort), cohort[0], cohort[0].with_table(swapped))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"n_heads": 3}, "n_heads of MclstexpAligner must divide 128, got 3"),
        ({"n_layers": 0}, "n_layers of MclstexpAligner must be at least 1"),
        ({"n_neighbours": -1}, "n_neighbours of MclstexpAligner must be at least 0"),
        ({"gene_head": "linear"}, "gene_head of MclstexpAligner has no effect with the attention of mclstexp"),
    ],
)
def test_parameters_out_of_their_limits_are_refused(cohort, given, told):
    with pytest.raises(InputError, match=told):
        MclstexpAligner(**SMALL).with_params(**given).fit(cohort)
