"""Linear probe: a penalised linear model on the pooled tiles of a slide, the baseline every network must beat."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.prep.scale import Scale
from hescribe.slide._pooled import PooledModel
from hescribe.slide.bags import Bag
from hescribe.slide.linear import fit_classes, fit_grades, fit_risk, grade_shares
from hescribe.slide.targets import Classes, Target


@dataclass(kw_only=True)
class LinearProbe(PooledModel):
    """Logistic regression of classes, proportional odds of grades, proportional hazards of survival.

    Parameters
    ----------
    pool
        What stands for a slide.
    penalty
        Times half of the squared weights and the number of dims, which have unit variance; the loss is a sum over
        slides. Strong by default: there are more dims than slides.
    """

    name: ClassVar[str] = "linear_probe"
    card: ClassVar[MethodCard] = MethodCard(summary="penalised linear model on the mean (or maximum) of the tiles")
    penalty: float = 0.14

    def fit(self, bags: Sequence[Bag], target: Target) -> Self:
        """Pool the train slides, bring the vectors to one scale and fit.

        Raises
        ------
        InputError
            If the penalty is negative, bags and target do not match, a class has no train slide, or bags differ in
            their number of dims.
        """
        self.check_between("penalty", 0)
        pooled = self.pool_train(bags, target)
        scale = Scale.of(pooled)
        x, penalty = scale.apply(pooled), self.penalty * pooled.shape[1]
        self.cuts_ = self.offsets_ = np.zeros(0)
        if not isinstance(target, Classes):
            self.kind_, self.slope_ = "risk", fit_risk(x, target, penalty=penalty)
        elif target.ordered:
            self.kind_, (self.slope_, self.cuts_) = "grades", fit_grades(x, target, penalty=penalty)
        else:
            self.kind_, (self.slope_, self.offsets_) = "classes", fit_classes(x, target, penalty=penalty)
        self.mean_, self.sd_ = scale.mean, scale.sd
        return self

    def predict(self, bags: Iterable[Bag]) -> np.ndarray:
        """Return probabilities of the classes, or log risk, shape ``(n_bags, n_classes)`` or ``(n_bags, 1)``."""
        pooled = self.pool_bags(bags)
        line = Scale(self.mean_, self.sd_).apply(pooled) @ self.slope_
        if self.kind_ == "risk":
            return line[:, None]
        if self.kind_ == "grades":
            return grade_shares(line, self.cuts_)
        odds = np.exp(line + self.offsets_ - (line + self.offsets_).max(axis=1, keepdims=True))
        shares: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return shares
