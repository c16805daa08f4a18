"""Slide models: what a loss says by hand, what is learned from large bags, and what the linear ones rest on."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.linear_model import LogisticRegression

from hescribe.errors import FormatError, InputError
from hescribe.metrics.slides import auc
from hescribe.slide import linear
from hescribe.slide.abmil import ABMIL
from hescribe.slide.bags import ArrayBag
from hescribe.slide.base import tile_components, tile_scale
from hescribe.slide.knn import SlideKNN
from hescribe.slide.linear import fit_classes, fit_grades, fit_risk, grade_shares
from hescribe.slide.linear_probe import LinearProbe
from hescribe.slide.mean_pool import MeanPool
from hescribe.slide.targets import Classes, Survival
from hescribe.slide.toy import toy_bags

torch = pytest.importorskip("torch")

from hescribe.slide import _mil_network  # noqa: E402
from hescribe.slide._outcome import Outcome  # noqa: E402


class TestOutcome:
    def test_likelihood_of_bins_counted_by_hand(self):
        """Hazards 1/4, 1/2: an event in the second bin 3/4 * 1/2, censored in the second 3/4 * 1/2 as well."""
        outcome = Outcome("nll", 2, (5.0,))
        target = Survival(time=np.array([7.0, 9.0, 2.0]), event=np.array([True, False, True]))
        logits = torch.logit(torch.tensor([[0.25, 0.5]] * 3))
        told = outcome.loss(logits, *outcome.encode(target)).item()
        assert told == pytest.approx(-np.log([3 / 8, 3 / 8, 1 / 4]).mean(), rel=1e-5)

    def test_bins_have_the_same_number_of_train_events(self):
        target = Survival(time=np.array([1.0, 2.0, 3.0, 4.0, 100.0]), event=np.array([True] * 4 + [False]))
        outcome = Outcome.of(target, survival_loss="nll", n_bins=2)
        assert outcome.edges == (2.5,)
        assert outcome.encode(target)[0].tolist() == [0, 0, 1, 1, 1]

    def test_too_few_events_for_the_bins_are_told(self):
        target = Survival(time=np.array([1.0, 2.0, 3.0]), event=np.array([True, True, False]))
        with pytest.raises(InputError, match="2 events at 2 times do not fill 4 bins"):
            Outcome.of(target, survival_loss="nll", n_bins=4)

    def test_partial_likelihood_counted_by_hand(self):
        """Risks 2, 1, 1 of times 1, 2 (censored), 3: 2 of 4, then 1 of 1."""
        outcome = Outcome("cox", 1)
        target = Survival(time=np.array([1.0, 2.0, 3.0]), event=np.array([True, False, True]))
        told = outcome.loss(torch.log(torch.tensor([[2.0], [1.0], [1.0]])), *outcome.encode(target)).item()
        assert told == pytest.approx(-np.log(2 / 4) / 2, rel=1e-5)

    def test_grades_of_a_perfect_ladder(self):
        """Sure to stop at each grade's own step."""
        outcome, sure = Outcome("grade", 2), 50.0
        told = outcome.to_prediction(np.array([[sure, 0], [-sure, sure], [-sure, -sure]]))
        np.testing.assert_allclose(told, np.eye(3), atol=1e-9)
        codes = Classes(codes=np.array([0, 1, 2]), names=("1", "2", "3"), ordered=True)
        logits = torch.tensor([[sure, 0], [-sure, sure], [-sure, -sure]])
        assert outcome.loss(logits, *outcome.encode(codes)).item() == pytest.approx(0, abs=1e-6)

    def test_each_class_weighs_the_same(self):
        codes = Classes(codes=np.array([0, 0, 0, 1]), names=("a", "b"))
        weights = Outcome.of(codes, survival_loss="nll", n_bins=4).encode(codes)[1]
        np.testing.assert_allclose(weights.numpy(), [2 / 3, 2 / 3, 2 / 3, 2.0])


class TestNetworks:
    def test_attention_finds_the_telling_tiles(self):
        toy = toy_bags(0, n_bags=80, n_dims=8, distance=8.0)
        model = ABMIL(n_hidden=32, n_attention=16, epochs=15, lr=3e-3).fit(toy.bags, toy.target)
        new = toy_bags(0, n_bags=100, n_dims=8, distance=8.0)  # the same kinds, and twenty bags more
        found = [auc(t, model.attention(b))[0] for b, t in zip(new.bags[80:], new.telling[80:], strict=True) if t.any()]
        assert np.mean(found) > 0.95

    def test_a_bag_that_is_computed_twice_teaches_what_one_that_is_kept_does(self, monkeypatch):
        """Without dropout, whose units are drawn otherwise; the memory of the second is one bag."""
        toy = toy_bags(1, n_bags=12, n_tiles=(30, 40), n_dims=6)
        model = ABMIL(n_hidden=8, n_attention=4, epochs=3, dropout=0.0, batch_size=4)
        kept = model.with_params().fit(toy.bags, toy.target)
        monkeypatch.setattr(_mil_network, "KEPT_TILES", 10)
        twice = model.with_params().fit(toy.bags, toy.target)
        for name, weights in kept.weights_.items():
            np.testing.assert_allclose(twice.weights_[name], weights, atol=1e-6)

    def test_dropout_leaves_out_the_same_units_both_times(self, monkeypatch):
        """Else the gradient would be that of another value: of a linear network it must be the tiles left in."""
        monkeypatch.setattr(_mil_network, "KEPT_TILES", 0)
        network = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Dropout(0.5))
        wrapped = lambda x: (network(x).sum(dim=0), None)  # noqa: E731
        wrapped.parameters = network.parameters
        for seed in range(5):
            network.zero_grad()
            value = _mil_network._output(wrapped, lambda: np.ones((1, 1), np.float32), None, seed)
            value.sum().backward()
            assert network[0].weight.grad.item() * network[0].weight.item() == pytest.approx(value.item())

    def test_a_draw_of_tiles_still_learns(self):
        toy = toy_bags(0, n_bags=60, n_dims=8, share=0.4, distance=8.0)
        model = MeanPool(n_hidden=16, epochs=15, lr=5e-3, n_tiles=15).fit(toy.bags[:40], toy.target.take(np.arange(40)))
        told = model.predict(toy.bags[40:])[:, 1]
        assert auc(toy.target.codes[40:] == 1, told)[0] > 0.8

    def test_several_starts_are_the_mean_of_each(self):
        toy = toy_bags(0, n_bags=16, n_dims=4, share=0.3)
        small = {"epochs": 1, "n_hidden": 4}
        alone = [ABMIL(seed=seed, **small).fit(toy.bags, toy.target) for seed in (3, 4)]
        both = ABMIL(seed=3, n_starts=2, **small).fit(toy.bags, toy.target)
        np.testing.assert_allclose(both.predict(toy.bags), np.mean([m.predict(toy.bags) for m in alone], axis=0))
        expected = np.mean([m.attention(toy.bags[0]) for m in alone], axis=0)
        np.testing.assert_allclose(both.attention(toy.bags[0]), expected)

    def test_weights_of_another_network_are_refused(self):
        toy = toy_bags(0, n_bags=8, n_tiles=(5, 9), n_dims=4)
        fitted = ABMIL(n_hidden=8, n_attention=4, epochs=1).fit(toy.bags, toy.target)
        other = MeanPool(n_hidden=8).set_fitted(fitted.get_fitted())
        with pytest.raises(FormatError, match="not those of this network"):
            other.predict(toy.bags)

    def test_a_parameter_out_of_its_limits_is_told(self):
        toy = toy_bags(0, n_bags=4, n_dims=2)
        with pytest.raises(InputError, match="dropout of ABMIL must be between"):
            ABMIL(dropout=1.5).fit(toy.bags, toy.target)

    def test_components_are_the_directions_of_most_variance(self):
        """Two dims that are one, and one apart: a variance of 2 along the first two, which is taken for 1."""
        rng = np.random.default_rng(0)
        bags = [ArrayBag(str(i), rng.normal(size=(200, 2))[:, [0, 0, 1]]) for i in range(5)]
        (direction,) = tile_components(bags, tile_scale(bags), 1).T
        np.testing.assert_allclose(np.abs(direction), [0.5, 0.5, 0.0], atol=0.05)

    def test_a_network_on_components_still_finds_the_classes(self):
        toy = toy_bags(0, n_bags=60, n_dims=12, share=0.5, distance=8.0)
        model = MeanPool(n_components=4, n_hidden=16, epochs=10, lr=1e-2)
        told = model.fit(toy.bags[:40], toy.target.take(np.arange(40))).predict(toy.bags[40:])[:, 1]
        assert auc(toy.target.codes[40:] == 1, told)[0] > 0.8


class TestLinear:
    def setup_method(self):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(30, 50))
        self.x -= self.x.mean(axis=0)
        self.codes = np.arange(30) % 3

    def test_classes_are_those_of_scikit_learn(self):
        target = Classes(codes=self.codes, names=("a", "b", "c"))
        weights, offsets = fit_classes(self.x, target, penalty=5.0)
        theirs = LogisticRegression(C=1 / 5, class_weight="balanced", tol=1e-8, max_iter=5000).fit(self.x, self.codes)
        odds = np.exp(self.x @ weights + offsets)
        np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), theirs.predict_proba(self.x), atol=1e-3)

    def test_two_grades_are_two_classes(self):
        """With one cut proportional odds is logistic regression."""
        codes = np.arange(30) % 2
        weights, cuts = fit_grades(self.x, Classes(codes=codes, names=("0", "1"), ordered=True), penalty=5.0)
        theirs = LogisticRegression(C=1 / 5, tol=1e-8, max_iter=5000).fit(self.x, codes)
        told = grade_shares(self.x @ weights, cuts)
        np.testing.assert_allclose(told, theirs.predict_proba(self.x), atol=1e-3)

    def test_gradients_of_grades_and_risk_are_those_of_their_losses(self, monkeypatch):
        """Both are minimised by their gradient; a wrong one would stop elsewhere than a search without it."""
        checked = []

        def check(loss, start):
            theta = np.random.default_rng(1).normal(size=start.shape) * 0.3
            error = optimize.check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], theta)
            checked.append(error / np.linalg.norm(loss(theta)[1]))
            return start

        monkeypatch.setattr(linear, "_minimise", check)
        fit_grades(self.x, Classes(codes=self.codes, names=("0", "1", "2"), ordered=True), penalty=5.0)
        time = np.random.default_rng(2).integers(1, 8, 30).astype(float)  # many ties
        fit_risk(self.x, Survival(time=time, event=np.arange(30) % 4 > 0), penalty=5.0)
        assert len(checked) == 2
        assert max(checked) < 1e-5

    def test_risk_of_two_groups_solved_by_hand(self):
        """Times 1 (x = 1), 2 (x = 0), all events: the score is 1 - e^b / (e^b + 1) - penalty * b = 0."""
        weights = fit_risk(
            np.array([[0.5], [-0.5]]), Survival(time=np.array([1.0, 2.0]), event=np.ones(2, bool)), penalty=0.1
        )
        b = float(weights[0])
        assert 1 - np.exp(b) / (np.exp(b) + 1) - 0.1 * b == pytest.approx(0, abs=1e-5)

    def test_a_probe_of_maxima_sees_what_a_mean_hides(self):
        """One tile far out in every positive bag, one far out to the other side to level the mean."""
        rng = np.random.default_rng(0)
        bags = []
        for i in range(40):
            x = rng.normal(size=(20, 3))
            if i % 2:
                x[:2, 0] = 8.0, -8.0
            bags.append(ArrayBag(str(i), x))
        target = Classes(codes=np.arange(40) % 2, names=("a", "b"))
        scores = []
        for pool in ("mean", "max"):
            model = LinearProbe(pool=pool).fit(bags[:20], target.take(np.arange(20)))
            scores.append(auc(target.codes[20:] == 1, model.predict(bags[20:])[:, 1])[0])
        assert scores[0] < 0.8 < scores[1]


class TestRetrieval:
    def test_a_slide_finds_itself_first(self):
        toy = toy_bags(0, n_bags=10, n_tiles=(5, 9), n_dims=4)
        model = SlideKNN(k=3).fit(toy.bags, toy.target)
        found = model.retrieve(toy.bags[4])
        assert found[0] == (toy.bags[4].id, pytest.approx(1.0))
        assert len(found) == 3

    def test_shares_and_rates_of_neighbours_counted_by_hand(self):
        """Three train slides on a line; a new one between the first two."""
        bags = [ArrayBag(name, np.array([[x, 1.0], [x, -1.0]])) for name, x in (("a", -3.0), ("b", -2.0), ("c", 5.0))]
        new = ArrayBag("new", np.array([[-2.5, 0.0]]))
        told = SlideKNN(k=2).fit(bags, Classes(codes=np.array([0, 0, 1]), names=("x", "y"))).predict([new])
        np.testing.assert_array_equal(told, [[1.0, 0.0]])
        known = Survival(time=np.array([2.0, 8.0, 1.0]), event=np.array([True, False, True]))
        np.testing.assert_allclose(SlideKNN(k=2).fit(bags, known).predict([new]), [[1 / 10]])
