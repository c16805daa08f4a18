"""Hist2ST: its size, its graph, its loss, and that the neighbours are what carries a signal."""

import numpy as np
import pytest
import torch
from scipy.stats import nbinom

from hescribe import keys
from hescribe.errors import InputError, TrainingError
from hescribe.metrics.gene import correlate
from hescribe.predict import _hist2st_network, hist2st
from hescribe.predict._hist2st_network import (
    GraphStep,
    Hist2stNetwork,
    JointLoss,
    Layout,
    Mixer,
    neighbours,
    zero_inflated,
)
from hescribe.predict.hist2st import SIZES, Hist2stPredictor
from hescribe.testing.cohorts import colour_cohort, planted_cohort
from hescribe.train.loop import seeded

N_SIDE = 6
NARROW = {"px": 14, "cell": 7, "n_channels": 64, "n_mixers": 1, "n_layers": 1, "n_hops": 2, "n_heads": 4}


@pytest.fixture(scope="module")
def cohort():
    return colour_cohort()


def small(**changes):
    return Hist2stPredictor(size="small", **{"epochs": 1, "n_views": 1, **changes})


@pytest.fixture
def narrow(monkeypatch):
    """The small size with patches of 14 px: what is tested is not in the pixels."""
    monkeypatch.setitem(hist2st.SIZES, "small", NARROW)


def network(n_genes=3):
    """Return a narrow network in use whose answers are not those of zero weights."""
    with seeded(0):
        made = Hist2stNetwork(Layout(**NARROW), np.zeros(n_genes), dropout=0.0, bare=False).eval()
        torch.nn.init.normal_(made.last.weight)
    return made


def inputs(n_spots, *, plain=False):
    """Return patches of noise or of one colour each, places, and no neighbour but the spot itself."""
    generator = torch.Generator().manual_seed(0)
    shape = (n_spots, 1, 1, 3) if plain else (n_spots, 14, 14, 3)
    patches = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).expand(n_spots, 14, 14, 3)
    alone = torch.full((n_spots, 5), -1)
    alone[:, 0] = torch.arange(n_spots)
    return patches, torch.zeros(n_spots, 2), alone


def test_the_paper_size_has_the_weights_that_its_layers_add_up_to():
    with torch.device("meta"):
        made = Hist2stNetwork(Layout(**SIZES["paper"]), np.zeros(785), dropout=0.2, bare=False)
    n = 1024
    cells, squeeze, places = 3 * 7**2 * 32 + 32, 32 * 4 + 4, 2 * 64 * n
    mixer = 2 * (5**2 * 32 + 32 + 2 * 32) + 32 * 32 + 32 + 2 * 32
    layer = 2 * 2 * n + 3 * n * n + (n + 1) * n + 2 * (n + 1) * n
    jumps = 2 * (4 * 2 * n * n + 4 * 2 * n)
    heads, weigh = 4 * (n + 1) * 785, (n + 1) * n + n + 1
    expected = cells + 2 * mixer + squeeze + places + 8 * layer + 4 * n * n + jumps + 2 * n + heads + weigh
    assert sum(p.numel() for p in made.parameters()) == expected == Hist2stPredictor.card.n_params


def test_the_paper_size_takes_the_published_epochs_and_step_without_trying_others(cohort, monkeypatch):
    """A choice would train it for days. The network itself is made small here."""
    assert (Hist2stPredictor().usual_epochs(), Hist2stPredictor().recipe().lr) == ((350,), 1e-5)
    monkeypatch.setitem(hist2st.SIZES, "paper", NARROW)
    monkeypatch.setitem(hist2st.EPOCHS, "paper", (1,))
    monkeypatch.setattr("hescribe.predict._deep.choose", lambda *_, **__: pytest.fail("chosen among one"))
    assert Hist2stPredictor(n_views=1).fit(cohort).epochs_ == 1


@pytest.mark.usefixtures("narrow")
def test_the_small_size_chooses_its_epochs_on_held_out_donors(cohort, monkeypatch):
    monkeypatch.setitem(hist2st.EPOCHS, "small", (1, 2))
    assert small(epochs=None).fit(cohort).epochs_ in (1, 2)


def learns_from_neighbours(**changes):
    """Return the correlation with new sections, whose genes follow the spots beside, and the ratio of the spreads."""
    rng = np.random.default_rng(0)
    signals = [rng.uniform(size=N_SIDE**2) for _ in range(15)]
    targets = []
    for signal in signals:
        square = np.pad(signal.reshape(N_SIDE, N_SIDE), 1, constant_values=np.nan)
        beside = [square[:-2, 1:-1], square[2:, 1:-1], square[1:-1, :-2], square[1:-1, 2:]]
        targets.append(np.nanmean(beside, axis=0).reshape(-1, 1) * np.ones(2))
    cohort = planted_cohort(signals, targets)
    train = cohort.where(lambda s: int(s.donor[1:]) < 12)
    fitted = small(epochs=20, views=0.0, **changes).fit(train)
    test = [s for s in cohort if s.donor not in train.donors]
    predicted = np.concatenate([fitted.predict(s.blind()).mean for s in test])
    true = np.concatenate([s.layer(keys.TARGET) for s in test])
    return correlate(true, predicted).mean(), (predicted.std(axis=0) / true.std(axis=0)).mean()


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_what_only_the_neighbours_show_is_found_and_predictions_leave_the_train_mean():
    """Had the heads of the counts to find the means first, predictions would hardly move."""
    correlation, spread = learns_from_neighbours()
    assert correlation > 0.65
    assert spread > 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_what_only_the_neighbours_show_is_lost_without_them(monkeypatch):
    """The same network, patches, attention and places, where every spot is its own neighbourhood."""

    def itself(section, *, alone):
        near = neighbours(section, alone=alone)
        near[:, 1:] = -1
        return near

    monkeypatch.setattr(_hist2st_network, "neighbours", itself)
    assert learns_from_neighbours()[0] < 0.4


class TestGraph:
    def test_a_spot_of_a_square_array_has_the_four_beside_it(self, cohort):
        """In an array of 7 x 7 spots, row by row."""
        near = neighbours(cohort[0], alone=False)
        assert near[24, 0] == 24
        assert set(near[24].tolist()) == {17, 23, 24, 25, 31}
        assert set(near[0, :3].tolist()) == {0, 1, 7}  # and of those two places away two
        assert neighbours(cohort[0], alone=True)[24, 0] == -1

    def test_a_far_spot_is_no_neighbour_and_an_isolated_one_has_itself(self, cohort):
        table = cohort[0].table[[0, 2, 10, 48]].copy()  # 0 and 2 are two places apart
        near = neighbours(cohort[0].with_table(table), alone=False)
        assert near[3].tolist() == [3, -1, -1, -1, -1]
        assert set(near[0].tolist()) - {-1} == {0, 1}

    @pytest.mark.parametrize("bare", [False, True])
    def test_a_step_is_a_layer_on_the_mean_over_those_that_are_there(self, bare):
        with seeded(0):
            x, step = torch.randn(3, 16), GraphStep(16, bare=bare)
        out = step(x, torch.tensor([[0, 1, -1], [1, -1, -1], [2, 0, 1]]))
        if bare:
            found = torch.relu(step.weights.weight @ x[:2].mean(dim=0))
            torch.testing.assert_close(out[0], found / found.norm())
        else:
            z = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()
            torch.testing.assert_close(out[0], x[0] + torch.relu(step.weights.weight @ z[:2].mean(dim=0)))
            torch.testing.assert_close(out[1], x[1] + torch.relu(step.weights.weight @ z[1]))

    def test_four_published_steps_make_spots_alike_and_ours_do_not(self, cohort):
        """The mean cosine of two spots, which starts at 0."""
        near, alike = neighbours(cohort[0], alone=False), {}
        for bare in (True, False):
            with seeded(0), torch.no_grad():
                x = torch.randn(49, 64)
                for _ in range(4):
                    x = GraphStep(64, bare=bare)(x, near)
            x = torch.nn.functional.normalize(x, dim=1)
            alike[bare] = (x @ x.T).mean().item()
        assert alike[True] > 0.8
        assert alike[False] < 0.5


@pytest.mark.parametrize("flag", ["legacy_graph", "legacy_steps"])
@pytest.mark.usefixtures("narrow")
def test_a_published_way_is_a_flag_that_changes_the_prediction(cohort, flag):
    ours, published = (small(**{flag: on}, epochs=2).fit(cohort).predict(cohort[0].blind()).mean for on in (0, 1))
    assert np.abs(ours - published).max() > 1e-3


@pytest.mark.usefixtures("narrow")
def test_an_isolated_spot_is_predicted_and_refused_by_the_published_graph(cohort):
    far = cohort[0].with_table(cohort[0].table[[0, 1, 48]].copy()).blind()
    assert np.isfinite(small().fit(cohort).predict(far).mean).all()
    with pytest.raises(InputError, match=r"spot 6x6 of section s0 has no neighbour within 2 pitches.* leave it off"):
        small(legacy_graph=True).fit(cohort).predict(far)


@pytest.mark.parametrize("n_spots", [1, 2, 3])
@pytest.mark.usefixtures("narrow")
def test_the_smallest_sections_are_predicted_and_learned_from(cohort, n_spots):
    few = cohort.map(lambda s: s.with_table(s.table[:n_spots].copy()))
    mean = small().fit(few).predict(few[0].blind()).mean
    assert mean.shape == (n_spots, 12)
    assert np.isfinite(mean).all()


def test_a_mixer_in_use_does_not_depend_on_what_is_mixed_beside():
    mixer, x = Mixer(4).eval(), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(mixer(x)[:1], mixer(x[:1]))


class TestLikelihood:
    def likelihood(self, count, mean, size, share_empty, depth=1.0):
        """Return what ``zero_inflated`` says of one count, from the parameters themselves."""
        before = np.log(np.expm1(size))  # the softplus
        logit = np.log(share_empty / (1 - share_empty))
        values = (torch.tensor([[v]], dtype=torch.float64) for v in (count, np.log(mean), before, logit, depth))
        return float(zero_inflated(*values))

    @pytest.mark.parametrize("count", [0, 1, 7, 40])
    @pytest.mark.parametrize(("mean", "size", "share_empty", "depth"), [(3.0, 2.0, 0.3, 1.0), (9.0, 0.5, 0.05, 2.5)])
    def test_it_is_that_of_scipy(self, count, mean, size, share_empty, depth):
        counted = nbinom.pmf(count, size, size / (size + mean * depth))
        expected = -np.log((count == 0) * share_empty + (1 - share_empty) * counted)
        assert self.likelihood(count, mean, size, share_empty, depth) == pytest.approx(expected, rel=1e-6)

    def test_a_zero_by_hand(self):
        """Mean 1 and size 1: half of what is counted is 0. With a quarter missed it is 1/4 + 3/4 of 1/2 = 5/8."""
        assert self.likelihood(0, 1.0, 1.0, 0.25) == pytest.approx(-np.log(5 / 8), rel=1e-6)

    def test_extreme_parameters_have_a_finite_likelihood_and_gradient(self):
        parameters = [torch.tensor([[v, -v]], requires_grad=True) for v in (100.0, 100.0, 100.0)]
        value = zero_inflated(torch.tensor([[0.0, 5000.0]]), *parameters, torch.tensor([[1e-3]]))
        value.backward()
        assert torch.isfinite(value)
        assert all(torch.isfinite(p.grad).all() for p in parameters)


class TestLoss:
    answers = (torch.ones(2, 3), torch.tensor([[0.0, 4, 1], [2, 0, 9]]), torch.tensor([[0.5], [2.0]]))

    def loss(self, *, plain=False, **weights):
        joint = JointLoss(**{"counts": 0.0, "views": 0.0, "n_views": 2, "jitter": 0.0, **weights})
        return joint(network(), inputs(4, plain=plain), self.answers, torch.tensor([0, 2]))

    def test_it_is_the_squared_error_of_the_kept_spots_and_a_share_of_the_likelihood(self):
        said = network().say(*inputs(4))
        error = ((said.mean[[0, 2]] - 1) ** 2).mean()
        count, depth = self.answers[1:]
        likelihood = zero_inflated(count, *(p[[0, 2]] for p in (said.count, said.dispersion, said.empty)), depth)
        torch.testing.assert_close(self.loss(), error)
        torch.testing.assert_close(self.loss(counts=0.25), error + 0.25 * likelihood)

    def test_views_that_look_the_same_add_nothing_and_others_do(self):
        """A patch of one colour is the same however it is turned."""
        torch.testing.assert_close(self.loss(plain=True, views=0.5), self.loss(plain=True))
        assert self.loss(views=0.5) > self.loss() + 1e-4


@pytest.mark.usefixtures("narrow")
def test_counts_start_from_the_mean_of_each_gene_at_usual_depth(cohort):
    """Two spots of depth 1 and 3, the usual one being 2: relative depths of 1/2 and 3/2."""
    section = cohort[0].with_table(cohort[0].table[:2].copy())
    section.table.layers[keys.COUNTS] = np.tile([[4.0], [15.0]], 12)
    section.table.obs[keys.DEPTH] = [1.0, 3.0]
    none_kept = cohort[1].with_kept(np.zeros(49, dtype=bool))
    two = cohort.where(lambda s: s.id in {"s0", "s1"}).map(lambda s: section if s.id == "s0" else none_kept)
    np.testing.assert_allclose(small().design().start(two)["log_count"], np.log(20 / 2))
    assert not small(counts=0.0).design().start(two)["log_count"].any()


@pytest.mark.usefixtures("narrow")
def test_a_spot_without_a_count_does_not_end_the_training(cohort):
    def emptied(section):
        table = section.table.copy()
        table.layers[keys.COUNTS][3], table.obs.iloc[3, table.obs.columns.get_loc(keys.DEPTH)] = 0, 0
        return section.with_table(table)

    assert np.isfinite(small(epochs=2).fit(cohort.map(emptied)).predict(cohort[0].blind()).mean).all()


@pytest.mark.usefixtures("narrow")
def test_counts_are_needed_unless_they_have_no_weight(cohort):
    def bare(section):
        table = section.table.copy()
        del table.layers[keys.COUNTS]
        return section.with_table(table)

    with pytest.raises(InputError, match="section s0 has no layer 'counts'"):
        small().fit(cohort.map(bare))
    assert np.isfinite(small(counts=0.0).fit(cohort.map(bare)).predict(cohort[0].blind()).mean).all()


@pytest.mark.usefixtures("narrow")
def test_a_gene_that_is_constant_in_train_stays_at_its_level(cohort):
    def level(section):
        table = section.table.copy()
        table.layers[keys.TARGET][:, 3] = 2.5
        return section.with_table(table)

    mean = small(epochs=2, counts=0.0, views=0.0).fit(cohort.map(level)).predict(cohort[0].blind()).mean
    np.testing.assert_allclose(mean[:, 3], 2.5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": "large"}, "size of Hist2stPredictor must be 'paper' or 'small'"),
        ({"counts": -0.1}, "counts of Hist2stPredictor must be at least 0"),
        ({"n_views": 0}, "n_views of Hist2stPredictor must be at least 1"),
        ({"dropout": 1.0}, "dropout of Hist2stPredictor must be between 0 and 0.99"),
    ],
)
def test_parameters_out_of_range_are_named(cohort, changes, said):
    with pytest.raises(InputError, match=said):
        Hist2stPredictor(**{"size": "small", **changes}).fit(cohort)


@pytest.mark.usefixtures("narrow")
def test_a_step_too_large_says_where_and_what_to_do(cohort):
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+; lower lr"):
        small(lr=1e30, epochs=3).fit(cohort)
