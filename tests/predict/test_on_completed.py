"""What a predictor on completed labels learns from."""

import numpy as np

from hescribe import keys
from hescribe.complete.base import complete
from hescribe.complete.soft_impute import SoftImputeCompleter
from hescribe.predict.on_completed import OnCompletedPredictor
from hescribe.predict.ridge import RidgePredictor


def test_its_seed_is_that_of_the_completer(cohort, monkeypatch):
    seeds, plain = [], SoftImputeCompleter.fit

    def spy(self, train, *, val=None):
        seeds.append(self.seed)
        return plain(self, train, val=val)

    monkeypatch.setattr(SoftImputeCompleter, "fit", spy)
    OnCompletedPredictor(completer="soft_impute", seed=3).fit(cohort)
    OnCompletedPredictor(completer="mean", seed=3).fit(cohort)  # which has none
    assert seeds == [3]


def test_it_learns_from_what_the_completer_filled_in(cohort, monkeypatch):
    learned, plain = [], RidgePredictor.fit

    def spy(self, train, *, val=None):
        learned.extend(s.table.layers[keys.TARGET] for s in train)
        return plain(self, train, val=val)

    monkeypatch.setattr(RidgePredictor, "fit", spy)
    before = [s.table.layers[keys.TARGET].copy() for s in cohort]
    OnCompletedPredictor(method="ridge", completer="soft_impute", seed=3).fit(cohort)
    completer = SoftImputeCompleter(seed=3).fit(cohort)
    for section, labels, raw in zip(cohort, learned, before, strict=True):
        np.testing.assert_array_equal(labels, complete(completer, section).table.layers[keys.COMPLETED])
        np.testing.assert_array_equal(section.table.layers[keys.TARGET], raw)
