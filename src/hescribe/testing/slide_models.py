"""The contract of a slide model. Import the class into a test module, and every registered one is tested.

>>> from hescribe.testing.slide_models import TestSlideModelContract, toy  # in your test module
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.cards import MethodCard
from hescribe.errors import InputError, NotFittedError
from hescribe.metrics.slides import auc, concordance, quadratic_kappa
from hescribe.slide.bags import ArrayBag
from hescribe.slide.base import SlideModel, slide_models
from hescribe.slide.targets import Classes, Survival
from hescribe.slide.toy import ToyBags, toy_bags

N_TRAIN = 40


def make(name: str, *, epochs: int = 2) -> Any:
    """Return a small slide model, so that a fit is quick."""
    model: Any = slide_models.create(name)
    small = {"n_hidden": 16, "n_attention": 8, "epochs": epochs, "lr": 1e-2, "batch_size": 4, "dropout": 0.1}
    if "n_heads" in model.get_params():
        small |= {"n_heads": 2, "lr": 5e-3, "epochs": (epochs + 1) // 2}  # slower, and wants smaller steps
    return model.with_params(**{k: v for k, v in small.items() if k in model.get_params()})


@pytest.fixture(scope="module")
def toy() -> ToyBags:
    """Return generated bags in which half of a positive bag's tiles are telling, so that any pooling shows it."""
    return toy_bags(0, n_bags=60, n_tiles=(8, 16), n_dims=8, share=0.5, distance=6.0)


def train(toy: ToyBags) -> tuple[list[ArrayBag], Classes]:
    """Return the train bags and their classes."""
    return toy.bags[:N_TRAIN], toy.target.take(np.arange(N_TRAIN))


@pytest.mark.parametrize("name", list(slide_models))
class TestSlideModelContract:
    """What every slide model, present and future, must do."""

    def test_is_a_slide_model_with_a_card(self, name: str) -> None:
        """It has the three methods and says what it is."""
        model = slide_models.create(name)
        assert isinstance(model, SlideModel)
        assert isinstance(model.card, MethodCard)
        assert model.card.summary

    def test_refuses_to_predict_before_fit(self, name: str, toy: ToyBags) -> None:
        """Predicting unfitted is an error that says what to do."""
        with pytest.raises(NotFittedError, match="call fit"):
            make(name).predict(toy.bags)
        with pytest.raises(NotFittedError, match="call fit"):
            make(name).attention(toy.bags[0])

    def test_tells_classes_of_new_bags(self, name: str, toy: ToyBags) -> None:
        """Probabilities add up to 1, and a positive bag mostly gets the higher one."""
        model = make(name, epochs=20)
        assert model.fit(*train(toy)) is model
        told = model.predict(toy.bags[N_TRAIN:])
        np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
        assert auc(toy.target.codes[N_TRAIN:] == 1, told[:, 1])[0] > 0.7

    def test_tells_grades_of_new_bags(self, name: str, toy: ToyBags) -> None:
        """Of three grades, the share of telling tiles cut in three, it gets more right than by chance."""
        bags, codes = _graded(toy)
        grades = Classes(codes=codes, names=("1", "2", "3"), ordered=True)
        told = make(name, epochs=20).fit(bags[:N_TRAIN], grades.take(np.arange(N_TRAIN))).predict(bags[N_TRAIN:])
        assert told.shape == (len(bags) - N_TRAIN, 3)
        np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
        assert quadratic_kappa(codes[N_TRAIN:], told)[0] > 0.2

    def test_tells_who_is_at_risk(self, name: str, toy: ToyBags) -> None:
        """Where positive bags have their event earlier, their risk is higher, though a third is censored."""
        time = np.random.default_rng(1).uniform(1, 2, len(toy.bags)) * np.where(toy.target.codes == 1, 1.0, 4.0)
        known = Survival(time=time, event=np.arange(len(time)) % 3 > 0)
        model = make(name, epochs=20).fit(toy.bags[:N_TRAIN], known.take(np.arange(N_TRAIN)))
        risk = model.predict(toy.bags[N_TRAIN:])
        assert risk.shape == (len(toy.bags) - N_TRAIN, 1)
        new = known.take(np.arange(N_TRAIN, len(time)))
        assert concordance(new.time, new.event, risk[:, 0])[0] > 0.55  # whoever knew the class would have 0.77

    def test_attention_says_how_much_each_tile_weighs(self, name: str, toy: ToyBags) -> None:
        """It is not negative and adds up to 1."""
        weights = make(name).fit(*train(toy)).attention(toy.bags[-1])
        assert weights.shape == (len(toy.bags[-1].features),)
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-5)

    def test_is_deterministic(self, name: str, toy: ToyBags) -> None:
        """The same bags and seed give the same prediction."""
        first, second = (make(name).fit(*train(toy)).predict(toy.bags) for _ in range(2))
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)

    def test_does_not_depend_on_the_bags_beside_or_on_the_order_of_tiles(self, name: str, toy: ToyBags) -> None:
        """A bag alone and with its tiles reversed is what it is among others."""
        model, bag = make(name).fit(*train(toy)), toy.bags[-1]
        among = model.predict(toy.bags)[-1:]
        np.testing.assert_allclose(model.predict([bag]), among, rtol=1e-5, atol=1e-6)
        if not getattr(model, "reads_order", False):
            turned = replace(bag, features=bag.features[::-1])
            np.testing.assert_allclose(model.predict([turned]), among, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(model.attention(turned), model.attention(bag)[::-1], rtol=1e-3, atol=1e-5)

    def test_survives_saving(self, name: str, toy: ToyBags) -> None:
        """What a fit leaves behind is arrays and plain values, and is enough to predict."""
        fitted = make(name).fit(*train(toy))
        restored = make(name).set_fitted(join_fitted(*split_fitted(fitted.get_fitted())))
        np.testing.assert_array_equal(restored.predict(toy.bags), fitted.predict(toy.bags))

    def test_refuses_bags_of_another_encoder(self, name: str, toy: ToyBags) -> None:
        """Bags of other dims are named, in training and afterwards."""
        bags, target = train(toy)
        odd = ArrayBag("odd", np.zeros((3, 5)))
        with pytest.raises(InputError, match="bag odd has 5 dims and bag toy000 has 8"):
            make(name).fit([*bags[:-1], odd], target)
        with pytest.raises(InputError, match="bag odd has 5 dims and the model was fitted on 8"):
            make(name).fit(bags, target).predict([odd])

    def test_refuses_a_class_without_a_slide_and_a_target_too_few(self, name: str, toy: ToyBags) -> None:
        """It does not learn what it never sees."""
        bags, target = train(toy)
        with pytest.raises(InputError, match="no train slide is of class 'third'"):
            make(name).fit(bags, replace(target, names=("negative", "positive", "third")))
        with pytest.raises(InputError, match="39 bags and 40 targets"):
            make(name).fit(bags[1:], target)
        with pytest.raises(InputError, match="no train slide has an event"):
            make(name).fit(bags, Survival(time=np.ones(N_TRAIN), event=np.zeros(N_TRAIN, dtype=bool)))


def _graded(toy: ToyBags) -> tuple[list[ArrayBag], np.ndarray]:
    """Return bags of three grades: of every third positive bag's kind of tiles none, a few and many."""
    negative = [b for b, c in zip(toy.bags, toy.target.codes, strict=True) if c == 0]
    kind = np.concatenate([b.features[t] for b, t in zip(toy.bags, toy.telling, strict=True)]).mean(axis=0)
    rng = np.random.default_rng(2)
    bags, codes = [], np.arange(60) % 3
    for i, grade in enumerate(codes):
        base = negative[i % len(negative)].features
        extra = kind + rng.normal(size=(4 * grade, len(kind)))
        bags.append(ArrayBag(f"g{i:02d}", np.concatenate([base, extra]).astype(np.float32)))
    return bags, codes
