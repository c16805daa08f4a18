"""Exemplars: who may be shown to whom, the loss over them, and the graphs of EGGN that read them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from hescribe import keys
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError
from hescribe.metrics.gene import correlate
from hescribe.predict._deep import Features
from hescribe.predict._eggn_network import EggnNetwork
from hescribe.predict._egn_network import EgnNetwork, Shape
from hescribe.predict._exemplars import Exemplars, ResidualAttention, pearson_loss
from hescribe.predict.eggn import EggnPredictor
from hescribe.predict.egn import SIZES, EgnPredictor
from hescribe.predict.ridge import RidgePredictor
from hescribe.testing.cohorts import colour_cohort, planted_cohort
from hescribe.train.loop import Recipe, seeded, train_network

FOV = (112.0,)
FEATURES = Features(SpotInputs(encoder="color", fov_um=FOV, n_rings=0, standardise="train"))


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort()


def found(train, section, k=6):
    state = FEATURES.start(train)
    bank = Exemplars.of(train, FEATURES, state)
    donors = np.repeat([s.donor for s in train], [s.kept.sum() for s in train])
    ids = np.repeat([s.id for s in train], [s.kept.sum() for s in train])
    rows = bank.find(section, FEATURES.read(section, state), k)
    return rows, donors[rows], ids[rows]


class TestWhoIsShown:
    def test_a_train_spot_sees_other_donors_alone(self, cohort):
        """Else the network learns to copy the spot itself, or the replicate beside it."""
        for section in cohort:
            _, donors, _ = found(cohort, section)
            assert section.donor not in set(donors.ravel())

    def test_a_new_donor_sees_every_train_spot(self, cohort):
        train, new = cohort.where(lambda s: s.donor != "D2"), cohort[-1]
        rows, donors, _ = found(train, new, k=len(train) * 49)
        assert set(donors.ravel()) == {"D0", "D1"}
        assert len(np.unique(rows[0])) == 4 * 49

    def test_with_one_donor_other_sections_stand_in(self, cohort):
        one = cohort.where(lambda s: s.donor == "D0")
        _, _, ids = found(one, one[0])
        assert set(ids.ravel()) == {one[1].id}

    def test_with_one_section_a_spot_is_not_shown_itself(self, cohort):
        one = replace(cohort, sections=cohort.sections[:1])
        rows, _, _ = found(one, one[0], k=48)
        assert rows.shape == (49, 48)
        assert not (rows == np.arange(49)[:, None]).any()

    def test_the_nearest_comes_first(self, cohort):
        train, new = cohort.where(lambda s: s.donor != "D2"), cohort[-1]
        state = FEATURES.start(train)
        bank, x = Exemplars.of(train, FEATURES, state), FEATURES.read(new, state)
        distance = ((x[:, None].astype(float) - bank.x[None]) ** 2).sum(axis=-1)
        np.testing.assert_array_equal(bank.find(new, x, 3), np.argsort(distance, axis=1, kind="stable")[:, :3])

    def test_fewer_than_asked_are_taken_again(self, cohort):
        few = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) < 1))
        rows, _, _ = found(few, few[0], k=6)
        assert rows.shape == (49, 6)
        assert len(np.unique(rows[0])) == 4

    def test_a_single_train_spot_is_refused(self, cohort):
        one = replace(cohort, sections=cohort.sections[:1]).map(lambda s: s.with_kept(np.arange(s.n_spots) < 1))
        with pytest.raises(InputError, match="nothing to be compared with; train on at least two spots"):
            EggnPredictor(encoder="color", size="small", epochs=1).fit(one)


class TestLoss:
    def test_is_mse_plus_half_of_one_minus_scipy_s_correlation(self):
        said, wanted = torch.randn(30, 4), torch.randn(30, 4)
        r = np.mean([stats.pearsonr(said[:, g], wanted[:, g])[0] for g in range(4)])
        expected = ((said - wanted) ** 2).mean().item() + (1 - r) / 2
        got = pearson_loss(torch.nn.Identity(), (said,), (wanted,), torch.arange(30))
        assert got.item() == pytest.approx(expected, rel=1e-4)

    def test_genes_that_do_not_vary_in_a_batch_have_no_correlation(self):
        said, wanted = torch.randn(5, 2), torch.zeros(5, 2)
        got = pearson_loss(torch.nn.Identity(), (said,), (wanted,), torch.arange(5))
        assert got.item() == pytest.approx((said**2).mean().item())

    def test_a_constant_answer_has_a_finite_gradient(self):
        said = torch.zeros(6, 3, requires_grad=True)
        pearson_loss(torch.nn.Identity(), (said,), (torch.randn(6, 3),), torch.arange(6)).backward()
        assert torch.isfinite(said.grad).all()


def test_pooling_lies_above_the_mean_where_tokens_differ():
    pool, tokens = ResidualAttention(4, 2), torch.randn(3, 5, 4)
    torch.nn.init.normal_(pool.say.weight)
    said = pool.say(pool.norm(tokens))
    weight = torch.softmax(said, dim=1)
    torch.testing.assert_close(pool(tokens), said.mean(dim=1) + 0.1 * (weight * said).sum(dim=1))


def test_a_spot_without_neighbours_hears_nobody():
    network = EggnNetwork(4, 3, width=8, n_layers=2, n_heads=2).eval()
    torch.nn.init.normal_(network.pool.say.weight)
    x, others = torch.randn(3, 4), (torch.randn(3, 6, 4), torch.randn(3, 6, 3))
    lone, near = torch.full((3, 2), -1), torch.tensor([[1, 2], [0, -1], [0, 1]])
    moved = x + torch.tensor([[0.0], [1.0], [0.0]])
    torch.testing.assert_close(network(moved, lone, *others)[0], network(x, lone, *others)[0])
    assert not torch.allclose(network(moved, near, *others)[0], network(x, near, *others)[0])


def test_the_paper_s_network_has_the_size_that_its_layers_add_up_to():
    """Of 512 features and 250 genes: layers of two SAGE steps, a bridge and a way back, as stated."""
    with torch.device("meta"):
        network = EggnNetwork(512, 250, width=512, n_layers=4, n_heads=8)
    w, sage = 512, 2 * 512 + 2 * 513 * 512
    bridge = 4 * w * w + w + 2 * (w + 1) * w + 4 * w
    expected = 513 * w + 763 * w + 4 * (2 * sage + bridge + w * w) + 2 * w + 513 * 250
    assert sum(p.numel() for p in network.parameters()) == expected


def codebook(seed, n_side=10, n_codes=8):
    """Return a cohort whose genes are drawn for each shade of colour: no smooth map says them, a look-alike does."""
    rng = np.random.default_rng(seed)
    book = rng.normal(size=(n_codes, 6)) * 2
    codes = [rng.integers(n_codes, size=n_side**2) for _ in range(4)]
    targets = [book[c] + rng.normal(0, 0.2, (n_side**2, 6)) for c in codes]
    return planted_cohort([(c + 0.5) / n_codes for c in codes], targets), codes, book


@pytest.mark.slow
def test_what_only_a_look_alike_tells_is_found_and_not_without_exemplars(monkeypatch):
    cohort, codes, book = codebook(0)
    train, test = cohort.where(lambda s: s.donor != "D3"), cohort[3]
    y_true = test.layer(keys.TARGET)
    best = np.nanmean(correlate(y_true, book[codes[3]]))

    def score(predictor):
        return np.nanmean(correlate(y_true, predictor.fit(train).predict(test.blind()).mean))

    assert score(RidgePredictor(encoder="color", fov_um=FOV, alpha=1.0)) < 0.6 * best
    eggn = EggnPredictor(encoder="color", fov_um=FOV, size="small", epochs=60, lr=2e-3)
    with_exemplars = score(eggn.with_params())
    find = Exemplars.find
    monkeypatch.setattr(
        Exemplars,
        "find",
        lambda self, section, x, k: np.random.default_rng(0).permutation(find(self, section, x, k)),
    )
    assert with_exemplars > 0.85 * best
    assert score(eggn.with_params()) < with_exemplars - 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"n_exemplars": 0}, "n_exemplars"), ({"n_neighbours": 0}, "n_neighbours"), ({"size": "xl"}, "size")],
)
def test_parameters_out_of_range_are_named(cohort, changes, said):
    with pytest.raises(InputError, match=f"{said} of EggnPredictor must be"):
        EggnPredictor(encoder="color", **changes).fit(cohort)


def test_the_transformer_has_the_size_that_the_stated_layers_add_up_to():
    """Eight layers of width 1024 with 4,096 inside, and two of cross-attention after every second."""
    sizes = SIZES["paper"]
    with torch.device("meta"):
        network = EgnNetwork(256, 2048, 250, Shape(**{k: v for k, v in sizes.items() if k != "px"}), jitter=0.0)
    w, feed = sizes["n_dims"], sizes["n_feed"]
    layer = 4 * w * w + w + w * feed + feed + feed * w + w + 4 * w
    tokens = 3 * 32**2 * w + w + 64 * w
    expected = (8 + 2 * 4) * layer + tokens + (2048 + 250) * w + w + 2 * w + (w + 1) * 250
    assert sum(p.numel() for p in network.parameters()) == expected


def test_a_token_is_a_square_of_the_patch():
    """Changing one corner of the patch changes the token of that corner alone."""
    network = EgnNetwork(8, 2, 3, Shape(4, 8, 1, 2, 8, 1), jitter=0.0).eval()
    seen = []
    network.token.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    patch = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)
    other = patch.clone()
    other[0, 5, 1] = 200
    for pixels in (patch, other):
        network(pixels, torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))
    assert torch.nonzero((seen[0] != seen[1]).any(dim=-1)[0]).ravel().tolist() == [2]


def test_a_prediction_of_egn_does_not_depend_on_the_chunk_it_is_in(cohort):
    fitted = EgnPredictor(encoder="color", size="small", epochs=1).fit(cohort)
    section = cohort[0].blind()
    design = replace(fitted.design(), chunk=5)
    np.testing.assert_allclose(
        design.predict(fitted._fitted(), section), fitted.predict(section).mean, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("changes", "said"), [({"n_exemplars": 0}, "n_exemplars"), ({"size": "xl"}, "size")])
def test_parameters_of_egn_out_of_range_are_named(cohort, changes, said):
    with pytest.raises(InputError, match=f"{said} of EgnPredictor must be"):
        EgnPredictor(encoder="color", **changes).fit(cohort)


@pytest.mark.slow
def test_what_only_the_exemplars_tell_reaches_the_transformer_s_answer():
    """Pixels are noise; the answer is the mean of what the exemplars express."""
    with seeded(0):
        network = EgnNetwork(8, 4, 3, Shape(4, 16, 2, 2, 32, 1), jitter=0.0)

    def draw(seed, n=256):
        rng = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 255, (n, 8, 8, 3), generator=rng, dtype=torch.uint8)
        wanted = torch.randn(n, 3, generator=rng)
        expression = wanted[:, None] + 0.5 * torch.randn(n, 6, 3, generator=rng)
        return pixels, torch.randn(n, 6, 4, generator=rng), expression, wanted

    pixels, x, y, wanted = draw(0)
    recipe = Recipe(batch_size=32, lr=3e-3, weight_decay=0.0)
    train_network(
        network,
        lambda p, e, f, w: pearson_loss(network, (p, e, f), (w,), torch.arange(len(p))),
        (pixels, x, y, wanted),
        recipe,
        snapshots=(40,),
    )
    pixels, x, y, wanted = draw(1)
    with torch.inference_mode():
        said, shuffled = network(pixels, x, y), network(pixels, x, y.roll(1, 0))
    assert correlate(wanted.numpy(), said.numpy()).min() > 0.8
    assert abs(correlate(wanted.numpy(), shuffled.numpy())).max() < 0.2
