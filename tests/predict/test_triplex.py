"""TRIPLEX: its size, its grid, its loss, and that each of its three scales is what carries a signal."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision import models

from hescribe import keys
from hescribe.encode.accelerate import Network
from hescribe.errors import InputError, TrainingError
from hescribe.metrics.gene import correlate
from hescribe.predict import _multiscale, triplex
from hescribe.predict._multiscale import GridConvolution, MapTokens, MultiscaleNetwork, ThreeScales, cells_beside
from hescribe.predict.triplex import TriplexPredictor
from hescribe.prep.graph import rings
from hescribe.testing.cohorts import colour_cohort, planted_cohort

N_SIDE, N_SECTIONS = 6, 15


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort()


def small(**changes):
    return TriplexPredictor(size="small", encoder="color", **{"epochs": 1, **changes})


def resnet18():
    return Network(models.resnet18(), 224, (0.0,) * 3, (1.0,) * 3)


def test_the_paper_size_has_the_weights_that_its_layers_add_up_to():
    """The published attention among 25 patches learns 25 biases a head; ours is a function of the offset."""
    with torch.device("meta"):
        network = MultiscaleNetwork(
            MapTokens(resnet18(), jitter=0.0), 512, 250, TriplexPredictor()._scales(), noisy=False
        )
    published_biases, ours = 3 * 16 * 25, 4 * 16 + 17 * 3 * 16
    n_weights = sum(p.numel() for p in network.parameters())
    assert n_weights == TriplexPredictor.card.n_params - published_biases + ours


def test_a_patch_becomes_the_49_places_of_the_last_feature_map():
    network = resnet18()
    patches = torch.randint(0, 255, (1, 224, 224, 3), dtype=torch.uint8)
    tokens = MapTokens(network, jitter=0.0).eval()(patches)
    assert tokens.shape == (1, 49, 512)
    network.module.fc = torch.nn.Identity()
    with torch.inference_mode():
        pooled = network.module.eval()(patches.permute(0, 3, 1, 2).float())
    torch.testing.assert_close(tokens.mean(dim=1), pooled, rtol=1e-3, atol=1e-3)


def test_a_target_encoder_without_a_feature_map_is_refused():
    network = Network(torch.nn.Sequential(torch.nn.Flatten(1)), 4, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(InputError, match="no pooling after its feature map"):
        MapTokens(network, jitter=0.0)


def test_the_paper_size_is_trained_and_predicts(cohort, monkeypatch):
    """With a residual network of random weights, and patches and tokens made small."""
    card = type("Card", (), {"fov_um": (112.0,), "px": 32})
    encoder = type("Encoder", (), {"card": card, "network": lambda _: resnet18()})
    monkeypatch.setattr(triplex, "create_encoder", lambda _: encoder())
    shape = {"n_dims": 512, "fusion": (1, 4, 1, 0.2), "whole": (2, 4, 1, 0.1), "around": (1, 4, 1, 0.3)}
    monkeypatch.setitem(triplex.SIZES, "paper", shape)
    two = cohort.where(lambda s: s.id in {"s0", "s2"}).map(lambda s: s.with_table(s.table[:8].copy()))
    fitted = TriplexPredictor(encoder="color", epochs=1).fit(two)
    mean = fitted.predict(two[0].blind()).mean
    assert mean.shape == (8, 12)
    assert mean.std(axis=0).max() > 1e-4


def test_the_grid_convolution_is_that_of_torch_on_the_grid_laid_out():
    """Also where spots lie in no order, and where the grid has holes."""
    rng = np.random.default_rng(0)
    places = rng.permutation([(i, j) for i in range(5) for j in range(7)])[:20]
    layer, x = GridConvolution(3), torch.randn(20, 3)
    grid = torch.zeros(1, 3, 5, 7)
    grid[0, :, places[:, 0], places[:, 1]] = x.T
    laid_out = functional.conv2d(grid, layer.kernel.T.reshape(3, 1, 3, 3), layer.bias, padding=1, groups=3)
    cell, beside = map(torch.from_numpy, cells_beside(places + 1000))
    torch.testing.assert_close(layer(x, cell, beside), x + laid_out[0, :, places[:, 0], places[:, 1]].T)


def test_spots_that_share_a_cell_are_added_up():
    layer, x = GridConvolution(2), torch.randn(2, 2)
    cell, beside = map(torch.from_numpy, cells_beside(np.zeros((2, 2), dtype=np.int64)))
    together = x.sum(dim=0) * layer.kernel[4] + layer.bias
    torch.testing.assert_close(layer(x, cell, beside), x + together)


def test_the_spots_around_are_those_within_two_places(cohort):
    shown = ThreeScales.of(cohort[0], np.zeros((49, 1), np.float32), None)
    first, second = rings(cohort[0], 2)
    for spot in (0, 8, 24):  # corner, next to it, middle
        expected = {spot, *first[spot].indices, *second[spot].indices}
        assert set(shown.near[spot].tolist()) - {-1} == expected
    assert (shown.near[24] >= 0).all()


def test_the_loss_is_the_sum_over_branches_that_the_paper_gives():
    """By hand: the truth is 1; the fused answer 0, the branches 1, 2 and 0."""

    class Said(MultiscaleNetwork):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def answers(self, *_):
            return tuple(torch.full((2, 3), v) for v in (0.0, 1.0, 2.0, 0.0))

    loss = _multiscale.supervise_branches(Said(), (), (torch.ones(2, 3),), torch.arange(2))
    assert loss.item() == pytest.approx(1 + (0 + 0.3) + (0.7 + 0.3 * 4) + (0.7 + 0))


def learns(what, *, without=(), monkeypatch=None):
    """Return how well new sections are predicted whose genes follow one scale of what the image shows."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(0.3, 0.7, N_SECTIONS)
    signals = [np.clip(rng.normal(level, 0.2, N_SIDE**2), 0, 1) for level in levels]
    blank = planted_cohort(signals, [np.zeros((N_SIDE**2, 2))] * N_SECTIONS)
    ring = [sum(r @ signal for r in rings(s, 1)) for s, signal in zip(blank, signals, strict=True)]
    follows = {
        "patch": signals,
        "around": [r - r.mean() for r in ring],
        "section": [np.full(N_SIDE**2, s.mean()) for s in signals],
    }
    cohort = planted_cohort(signals, [f[:, None] * np.ones(2) for f in follows[what]])
    if "around" in without:  # a spot is its own surroundings
        monkeypatch.setattr(_multiscale, "N_AROUND", 0)
    if "section" in without:
        monkeypatch.setattr(_multiscale.WholeSection, "forward", lambda self, x, *_: self.norm(x))
    train = cohort.where(lambda s: int(s.donor[1:]) < N_SECTIONS - 4)
    fitted = small(epochs=10, fov_um=(112.0,), lr=3e-3).fit(train)
    test = [s for s in cohort if s.donor not in train.donors]
    predicted = np.concatenate([fitted.predict(s.blind()).mean for s in test])
    return correlate(np.concatenate([s.layer(keys.TARGET) for s in test]), predicted).mean()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "least"), [("patch", 0.95), ("around", 0.8), ("section", 0.85)])
def test_a_signal_at_any_of_the_three_scales_is_found(what, least):
    assert learns(what) > least


def test_a_signal_of_the_section_is_lost_without_the_section(monkeypatch):
    """The 25 spots around show it nearly as well, so both go."""
    assert learns("section", without=("around", "section"), monkeypatch=monkeypatch) < 0.6


def test_a_signal_around_is_lost_without_the_spots_around_and_the_places(monkeypatch):
    """The section branch knows places too: without them only the mean of the section is left."""
    assert learns("around", without=("around", "section"), monkeypatch=monkeypatch) < 0.2


def test_a_prediction_does_not_depend_on_the_chunk(cohort, monkeypatch):
    fitted, section = small().fit(cohort), cohort[0].blind()
    at_once = fitted.predict(section).mean
    monkeypatch.setitem(triplex.CHUNK, "small", 5)
    np.testing.assert_allclose(fitted.predict(section).mean, at_once, rtol=1e-4, atol=1e-5)


def test_nothing_is_dropped_in_use_but_by_the_published_way(cohort):
    section = cohort[0].blind()
    ours, published = (small(legacy_dropout=on, epochs=5).fit(cohort) for on in (False, True))
    np.testing.assert_array_equal(ours.predict(section).mean, ours.predict(section).mean)
    assert np.abs(published.predict(section).mean - published.predict(section).mean).max() > 1e-3


@pytest.mark.parametrize("n_spots", [1, 2, 3])
def test_the_smallest_sections_are_predicted_and_learned_from(cohort, n_spots):
    few = cohort.map(lambda s: s.with_table(s.table[:n_spots].copy()))
    assert np.isfinite(small().fit(few).predict(few[0].blind()).mean).all()


def test_an_isolated_spot_and_a_section_without_an_array_are_predicted(cohort):
    def bare(section):
        table = section.table[::10].copy()  # 2000 um apart at the least
        table.obs = table.obs.drop(columns=[keys.ARRAY_ROW, keys.ARRAY_COL])
        return section.with_table(table)

    assert np.isfinite(small().fit(cohort).predict(bare(cohort[0]).blind()).mean).all()


def test_a_gene_that_is_constant_in_train_stays_at_its_level(cohort):
    def level(section):
        table = section.table.copy()
        table.layers[keys.TARGET][:, 3] = 2.5
        return section.with_table(table)

    mean = small(epochs=3).fit(cohort.map(level)).predict(cohort[0].blind()).mean
    np.testing.assert_allclose(mean[:, 3], 2.5, atol=1e-5)


def test_every_kept_spot_is_dealt_once_and_only_with_spots_of_its_section(cohort, monkeypatch):
    seen, take = [], ThreeScales.take

    def spy(shown, rows):
        seen.append((id(shown), rows.tolist()))
        return take(shown, rows)

    monkeypatch.setattr(ThreeScales, "take", spy)
    small(batch_size=20).fit(cohort.map(lambda s: s.with_kept(np.arange(49) != 7)))
    for section in {shown for shown, _ in seen}:
        dealt = [rows for shown, rows in seen if shown == section]
        assert sorted(row for rows in dealt for row in rows) == [i for i in range(49) if i != 7]
        assert max(map(len, dealt)) == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": "large"}, "size of TriplexPredictor must be 'paper' or 'small'"),
        ({"jitter": 1.0}, "jitter of TriplexPredictor must be between 0 and 0.99"),
        ({"batch_size": 0}, "batch_size of TriplexPredictor must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_named(cohort, changes, said):
    with pytest.raises(InputError, match=said):
        TriplexPredictor(**{"size": "small", "encoder": "color", **changes}).fit(cohort)


def test_a_step_too_large_says_where_and_what_to_do(cohort):
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+; lower lr"):
        small(lr=1e30, epochs=3).fit(cohort)
