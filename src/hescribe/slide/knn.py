"""Retrieval: a slide is what the train slides are that look most alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.metrics.pairs import to_unit
from hescribe.slide._pooled import PooledModel
from hescribe.slide.bags import Bag
from hescribe.slide.targets import Classes, Target


@dataclass(kw_only=True)
class SlideKNN(PooledModel):
    """The nearest train slides by cosine of their pooled tiles, centred on the train slides.

    Of classes and grades the prediction is their shares among the neighbours, of survival the neighbours' events for
    each unit of follow-up.

    Parameters
    ----------
    k
        Neighbours; all train slides if there are fewer.
    pool
        What stands for a slide.
    """

    name: ClassVar[str] = "knn"
    card: ClassVar[MethodCard] = MethodCard(summary="the train slides that look most alike, by cosine")
    k: int = 5

    def fit(self, bags: Sequence[Bag], target: Target) -> Self:
        """Remember the train slides.

        Raises
        ------
        InputError
            If k is below 1, bags and target do not match, a class has no train slide, or bags differ in their number
            of dims.
        """
        self.check_between("k", 1)
        pooled = self.pool_train(bags, target)
        self.mean_ = pooled.mean(axis=0)
        self.bank_ = to_unit(pooled - self.mean_)
        self.ids_ = tuple(bag.id for bag in bags)
        if isinstance(target, Classes):
            self.known_ = np.eye(len(target.names))[target.codes]
        else:
            self.known_ = np.stack([target.event, target.time], axis=1).astype(np.float64)
        self.is_survival_ = int(not isinstance(target, Classes))
        return self

    def predict(self, bags: Iterable[Bag]) -> np.ndarray:
        """Return shares of the classes, or events per follow-up, shape ``(n_bags, n_classes)`` or ``(n_bags, 1)``."""
        nearest = self._nearest(self._similarity(bags), self.k)
        known = self.known_[nearest]  # (n_bags, k, n_classes), or of survival event and time
        if self.is_survival_:
            total = known.sum(axis=1)
            return total[:, :1] / total[:, 1:]
        return known.mean(axis=1)

    def retrieve(self, bag: Bag, k: int | None = None) -> list[tuple[str, float]]:
        """Return the most similar train slides and their cosines, the most similar first.

        Parameters
        ----------
        bag
            What is looked up.
        k
            How many; the model's own by default.
        """
        similarity = self._similarity([bag])
        (nearest,) = self._nearest(similarity, self.k if k is None else k)
        return [(self.ids_[i], float(similarity[0, i])) for i in nearest]

    def _similarity(self, bags: Iterable[Bag]) -> np.ndarray:
        """Return the cosine of each bag to each train slide, shape ``(n_bags, n_train)``."""
        return to_unit(self.pool_bags(bags) - self.mean_) @ self.bank_.T

    @staticmethod
    def _nearest(similarity: np.ndarray, k: int) -> np.ndarray:
        return np.argsort(-similarity, axis=1, kind="stable")[:, :k]
