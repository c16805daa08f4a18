"""A spot is read with its neighbours of the same section, wherever the section lies and whatever else is read."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe import keys  # noqa: E402
from hescribe.train.contrastive import Towers, embed_spots  # noqa: E402
from hescribe.train.spot_encoder import SpotEncoder, Surroundings  # noqa: E402


def surroundings_of(cohort, n_neighbours):
    return Surroundings.of(cohort, cohort.stack(keys.TARGET), n_neighbours)


def with_obs(section, **obs):
    table = section.table.copy()
    for name, values in obs.items():
        table.obs[name] = values
    return section.with_table(table)


def spot_encoder(n_values):
    torch.manual_seed(0)
    return SpotEncoder(n_values, 16, n_token=16, n_heads=2, n_layers=2, place=True, dropout=0.2).eval()


def test_a_spot_is_embedded_the_same_whatever_is_embedded_beside_it(cohort):
    surroundings, n = surroundings_of(cohort, 4), sum(s.n_spots for s in cohort)
    network = Towers(torch.nn.Identity(), spot_encoder(12), unit=True).eval()
    all_at_once, in_sevens = (embed_spots(network, surroundings.take, n, chunk=chunk) for chunk in (n, 7))
    np.testing.assert_allclose(in_sevens, all_at_once, atol=1e-5)


def test_no_spot_is_read_with_one_of_another_section(cohort):
    near = surroundings_of(cohort, 8).near.numpy()
    assert (near[:, 0] == np.arange(6 * 49)).all()
    assert ((near // 49 == np.arange(6 * 49)[:, None] // 49) | (near < 0)).all()


def test_a_spot_that_is_not_kept_is_no_neighbour(cohort):
    masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) % 2 == 0))
    surroundings = surroundings_of(masked, 8)
    assert len(surroundings.values) == 6 * 25
    distance = (surroundings.points[surroundings.near[:, 1:]] - surroundings.points[:, None]).norm(dim=-1)
    assert distance.min() > 1.4  # every other spot of an odd-sided square: the nearest are on the diagonal


def test_places_are_relative_to_the_section(cohort):
    place = surroundings_of(cohort, 4).place.reshape(6, 49, 2)
    assert place.abs().max() == 1
    shifted = cohort.map(
        lambda s: with_obs(
            s, **{keys.ARRAY_ROW: s.table.obs[keys.ARRAY_ROW] + 1000, keys.ARRAY_COL: s.table.obs[keys.ARRAY_COL] + 7}
        )
    )
    torch.testing.assert_close(surroundings_of(shifted, 4).place.reshape(6, 49, 2), place)
