import numpy as np
import pytest

from hescribe import keys
from hescribe.train.inner import choose, inner_scores


def test_giving_up_on_genes_does_not_pay(cohort):
    """One candidate predicts one gene well and the rest constant; the other all genes fairly well."""

    def fit_path(_):
        def predict(section):
            y_true = section.table.layers[keys.TARGET]
            noise = np.random.default_rng(0).normal(size=y_true.shape)
            narrow = np.tile(y_true.mean(axis=0), (len(y_true), 1))
            narrow[:, 0] = y_true[:, 0]
            yield narrow
            yield y_true + y_true.std(axis=0) * noise

        return predict

    scores = inner_scores(cohort, fit_path)
    assert scores[0] == pytest.approx(1 / 12)
    assert scores[1] > 0.5
    assert choose(cohort, ("narrow", "broad"), fit_path) == "broad"
