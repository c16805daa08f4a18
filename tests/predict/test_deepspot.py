"""DeepSpot: its sets, that sub-spots and neighbours say what the spot does not, and the published padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hescribe import keys
from hescribe.data.image import ArrayImage
from hescribe.encode.features import embed_section, embed_tiles
from hescribe.errors import InputError, TrainingError
from hescribe.metrics.gene import correlate
from hescribe.predict._deep_set import DeepSet, error_in_sd, places_around, spots_around
from hescribe.predict.deepspot import SIZES, DeepspotPredictor
from hescribe.testing.cohorts import colour_cohort

LEVELS = np.array([70, 130, 190])
EVEN, ODD = [(0, 1, 2), (1, 2, 0), (2, 0, 1)], [(0, 2, 1), (2, 1, 0), (1, 0, 2)]
TILE_PX, N_SIDE = 16, 7
MPP = 200 / (3 * TILE_PX)  # the patch of a spot, 200 um, is 3 x 3 tiles
FIT = {"encoder": "color", "size": "small", "fov_um": 200.0, "lr": 1e-2, "epochs": 15, "batch_size": 32}


def with_target(section, y):
    """Return a section with another target, shape ``(n_spots, n_genes)``."""
    table = section.table.copy()
    table.layers[keys.TARGET] = y.astype(np.float32)
    return section.with_table(table)


def tiled_section(section, seed):
    """Return a section in whose patches three colours meet, and whose genes say how many of three sets are even.

    Red, green and blue of the three tiles in a row of a patch take the same three levels in whatever set, and so does
    their mean. What colours go together in a tile is all that tells even sets from odd ones.
    """
    rng = np.random.default_rng(seed)
    n_even = rng.integers(4, size=section.n_spots)
    image = np.empty((N_SIDE * 3, N_SIDE * 3, 3))
    for (x, y), n in zip(section.xy_um // 200, n_even, strict=True):
        for row in range(3):
            colours = LEVELS[rng.permutation(EVEN if row < n else ODD)]
            image[int(y) * 3 + row, int(x) * 3 : int(x) * 3 + 3] = colours
    pixels = image.repeat(TILE_PX, 0).repeat(TILE_PX, 1)
    pixels = (pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
    tiled = replace(section, image=ArrayImage(pixels, MPP, f"tiled-{seed}"))
    return with_target(tiled, n_even[:, None] + 0.2 * rng.normal(size=(section.n_spots, 4)))


def brightest_neighbour(section):
    """Return the red of the reddest spot around each."""
    red = embed_section(section, "color", fov_um=(200.0,))[:, 0]
    return np.array([red[a].max() for a in spots_around(section, 1)])


def score(predictor, cohort):
    """Return the mean correlation on the last section of a fit on the others."""
    train, test = cohort.where(lambda s: s.id != cohort[-1].id), cohort[-1]
    found = predictor.fit(train).predict(test.blind())
    return np.nanmean(correlate(test.layer(keys.TARGET), found.mean))


def four_genes(cohort):
    """Return a cohort without its other genes."""
    return cohort.map(lambda s: s.with_table(s.table[:, :4].copy()))


@pytest.fixture(scope="module")
def tiled():
    cohort = four_genes(colour_cohort(2))
    return replace(cohort, sections=tuple(tiled_section(s, i) for i, s in enumerate(cohort)))


@pytest.fixture(scope="module")
def ringed():
    rng = np.random.default_rng(0)

    def plant(section):
        y = brightest_neighbour(section)[:, None] / 10
        return with_target(section, y + 0.2 * rng.normal(size=(section.n_spots, 4)))

    return four_genes(colour_cohort(2)).map(plant)


def test_sub_spots_say_what_the_whole_patch_does_not(tiled):
    """Control: the same network without its sub-spots."""
    assert score(DeepspotPredictor(**FIT, n_side=3), tiled) > 0.9
    assert abs(score(DeepspotPredictor(**FIT, n_side=1), tiled)) < 0.3


def test_neighbours_say_what_the_spot_does_not(ringed):
    """Control: the same network without its neighbours."""
    assert score(DeepspotPredictor(**FIT, n_side=1), ringed) > 0.7
    assert abs(score(DeepspotPredictor(**FIT, n_side=1, n_rings=0), ringed)) < 0.3


def test_the_network_is_the_median_of_phi_then_the_mean_of_rho():
    """By hand in numpy, for two sets and three members."""
    torch.manual_seed(0)
    sd = torch.tensor([1.0, 3.0])
    network = DeepSet(4, ("sum", "max"), sd, n_hidden=5, n_ensemble=3, dropout=0.3).eval()
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(2, k, 4)).astype(np.float32) for k in (3, 6)]

    def said(layer, x):
        return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    middle = [np.median([np.maximum(said(phi, x), 0) for phi in network.phi], axis=0) for x in sets]
    pooled = np.hstack([middle[0].sum(axis=1), middle[1].max(axis=1)])
    expected = np.mean([said(rho, pooled) for rho in network.rho], axis=0) * [1, 3]
    found = network(*(torch.from_numpy(x) for x in sets)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_error_weighs_genes_alike_whatever_their_spread():
    """A miss of one standard deviation costs the same for both genes; rows without an answer cost nothing."""
    network = DeepSet(2, ("sum",), torch.tensor([1.0, 10.0]), n_hidden=2, n_ensemble=1, dropout=0.0).eval()
    torch.nn.init.zeros_(network.rho[0].weight)
    torch.nn.init.zeros_(network.rho[0].bias)
    answers = torch.tensor([[1.0, 10.0], [-1.0, 10.0]])
    loss = error_in_sd(network, (torch.zeros(3, 1, 2),), (answers,), torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(1.0)


def test_the_published_size_has_the_published_number_of_weights():
    """UNI's 1024 features and 1,000 genes: 10 x (1024 + 1) x 512 and 10 x (3 x 512 + 1) x 1000."""
    size = SIZES["paper"]
    with torch.device("meta"):
        network = DeepSet(
            1024, ("sum", "sum", "max"), torch.ones(1000), n_hidden=size.n_hidden, n_ensemble=size.n_ensemble,
            dropout=0.3,
        )  # fmt: skip
    n_params = sum(p.numel() for p in network.parameters())
    assert n_params == 5_248_000 + 15_370_000 == DeepspotPredictor.card.n_params


def test_the_default_network_reads_a_spot_nine_tiles_and_its_ring():
    predictor, cohort = DeepspotPredictor(encoder="color"), colour_cohort()
    state = predictor._start(cohort)
    sets = predictor._read(cohort[0], state).take(torch.tensor([0, 24]))
    assert [tuple(s.shape) for s in sets] == [(2, 1, 11), (2, 9, 11), (2, 8, 11)]
    network = predictor._network(state, 12)
    assert network.pools == ("sum", "sum", "max")
    assert len(network.phi) == len(network.rho) == 10
    assert network.phi[0].out_features == 512


def test_tiles_are_scaled_as_the_spot_is():
    """One phi reads both, so that one unit must mean the same: with one tile they are equal."""
    predictor, cohort = DeepspotPredictor(encoder="color", n_side=1, standardise="section"), colour_cohort()
    state = predictor._start(cohort)
    sets = predictor._read(cohort[0], state)
    tiled = replace(predictor, n_side=2)._read(cohort[0], state)
    as_spot = replace(tiled, tiles=embed_tiles(cohort[0], "color", n_side=1, fov_um=112.0))
    found = as_spot.take(torch.arange(5))[1]
    np.testing.assert_allclose(found, sets.take(torch.arange(5))[0], rtol=1e-4, atol=1e-4)


def test_neighbours_are_the_first_ring_of_the_array():
    """7 x 7 places: a corner has three neighbours, an edge five, the inside eight, and none is itself."""
    section = colour_cohort()[0]
    around = spots_around(section, 1)
    assert sorted(around[0]) == [1, 7, 8]
    assert sorted(around[3]) == [2, 4, 9, 10, 11]
    assert sorted(around[24]) == [16, 17, 18, 23, 25, 30, 31, 32]
    assert len(spots_around(section, 2)[24]) == 24


def test_a_spot_that_is_alone_stands_for_its_neighbours():
    section = colour_cohort()[0]
    alone = section.with_table(section.table[[0, 24, 48]].copy())
    around = spots_around(alone, 1)
    assert [len(a) for a in around] == [0, 0, 0]
    np.testing.assert_array_equal(places_around(around, 2, blank=False), [[0, 0], [1, 1], [2, 2]])


@pytest.mark.parametrize("n_spots", [1, 2, 3])
def test_sections_of_few_spots_are_learned_from_and_predicted(n_spots):
    cohort = colour_cohort()
    few = cohort.map(lambda s: s.with_table(s.table[:n_spots].copy()))
    fitted = DeepspotPredictor(encoder="color", size="small", epochs=1).fit(few)
    assert np.isfinite(fitted.predict(cohort[0].blind()).mean).all()
    assert np.isfinite(fitted.predict(few[0].blind()).mean).all()


def test_sections_whose_spots_have_unlike_numbers_of_neighbours_are_learned_from_together():
    """One of 2 spots, where each has one neighbour, beside one where the most have eight."""
    first, second = colour_cohort(1)
    mixed = replace(colour_cohort(1), sections=(first.with_table(first.table[:2].copy()), second))
    fitted = DeepspotPredictor(encoder="color", size="small", epochs=1, batch_size=64).fit(mixed)
    assert np.isfinite(fitted.predict(first.blind()).mean).all()


def test_zeros_that_fill_a_set_change_what_is_said_of_it():
    """The published fault: phi of a zero vector enters the maximum; a neighbour said twice does not."""
    torch.manual_seed(1)
    network = DeepSet(4, ("sum", "max"), torch.ones(3), n_hidden=8, n_ensemble=3, dropout=0.3).eval()
    spot, around = torch.randn(1, 1, 4), torch.randn(1, 3, 4)
    said = network(spot, around)
    torch.testing.assert_close(network(spot, torch.cat([around, around[:, :1]], dim=1)), said)
    assert (network(spot, torch.cat([around, torch.zeros(1, 1, 4)], dim=1)) - said).abs().max() > 1e-3


def test_the_published_padding_is_a_flag_that_changes_spots_at_the_edge_alone():
    """With the same weights: inside of the array no place is left to fill."""
    cohort = colour_cohort()
    corrected = DeepspotPredictor(encoder="color", size="small", epochs=2).fit(cohort)
    published = replace(corrected, legacy_padding=True).set_fitted(corrected.get_fitted())
    section = cohort[0].blind()
    change = np.abs(published.predict(section).mean - corrected.predict(section).mean).max(axis=1).reshape(7, 7)
    np.testing.assert_allclose(change[1:-1, 1:-1], 0, atol=1e-6)
    edge = np.ones((7, 7), bool)
    edge[1:-1, 1:-1] = False
    assert (change[edge] > 1e-5).mean() > 0.9


@pytest.mark.parametrize("chunk", [1, 5])
def test_a_prediction_does_not_depend_on_what_is_predicted_beside_it(chunk):
    cohort = colour_cohort()
    predictor = DeepspotPredictor(encoder="color", size="small", epochs=1).fit(cohort)
    section, design = cohort[0].blind(), predictor.design()
    by_chunks = replace(design, chunk=chunk).predict(predictor._fitted(), section)
    np.testing.assert_allclose(by_chunks, predictor.predict(section).mean, rtol=1e-5, atol=1e-6)


def test_spots_that_are_no_targets_are_neighbours_too():
    """Their image is there, whatever is known of their expression."""
    predictor, cohort = DeepspotPredictor(encoder="color"), colour_cohort()
    masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) != 8))
    sets = predictor._read(masked[0], predictor._start(masked))
    assert 8 in sets.around[0]


def test_a_gene_that_is_constant_in_train_is_predicted_constant():
    cohort = colour_cohort()
    level = cohort.map(lambda s: with_target(s, np.where(np.arange(12) == 3, 2.5, s.layer(keys.TARGET))))
    mean = DeepspotPredictor(encoder="color", size="small", epochs=1).fit(level).predict(level[0].blind()).mean
    np.testing.assert_allclose(mean[:, 3], 2.5, atol=1e-6)
    assert np.ptp(mean[:, 4]) > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_side": 0}, "n_side of DeepspotPredictor must be between 1 and 8"),
        ({"n_rings": -1}, "n_rings of DeepspotPredictor must be at least 0"),
        ({"dropout": 1.0}, "dropout of DeepspotPredictor must be between 0 and 0.99"),
        ({"fov_um": -1.0}, "fov_um of DeepspotPredictor must be"),
        ({"size": "large"}, "size of DeepspotPredictor must be 'paper' or 'small'"),
    ],
)
def test_parameters_out_of_range_are_named(changes, said):
    with pytest.raises(InputError, match=said):
        DeepspotPredictor(**{"encoder": "color", **changes}).fit(colour_cohort())


def test_a_step_too_large_says_what_to_do():
    with pytest.raises(TrainingError, match="lower lr"):
        DeepspotPredictor(encoder="color", size="small", epochs=2, lr=1e30).fit(colour_cohort())
