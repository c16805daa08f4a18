"""Hazards and concordance are those of lifelines, on the real tables that it ships."""

import numpy as np
import pytest

lifelines = pytest.importorskip("lifelines")

from lifelines.datasets import load_lung, load_rossi  # noqa: E402
from lifelines.utils import concordance_index  # noqa: E402

from hescribe.metrics.slides import concordance  # noqa: E402
from hescribe.slide.linear import fit_risk  # noqa: E402
from hescribe.slide.targets import Survival  # noqa: E402


def read(load, time, event):
    """Return centred covariates and follow-up of the rows without gaps."""
    table = load().dropna()
    x = table.drop(columns=[time, event]).to_numpy(dtype=float)
    known = Survival(time=table[time].to_numpy(dtype=float), event=table[event].to_numpy().astype(bool))
    return table, (x - x.mean(axis=0)) / x.std(axis=0), known


TABLES = [(load_rossi, "week", "arrest"), (load_lung, "time", "status")]


@pytest.mark.parametrize(("load", "time", "event"), TABLES, ids=["rossi", "lung"])
class TestRealTables:
    def test_hazards_are_those_of_lifelines(self, load, time, event):
        """Many are tied; its penalty is a mean over rows, ours a sum."""
        table, x, known = read(load, time, event)
        scaled = table.copy().astype(float)
        names = [c for c in table if c not in {time, event}]
        scaled[names] = x
        theirs = lifelines.CoxPHFitter(penalizer=20 / len(x)).fit(scaled, time, event).params_[names]
        np.testing.assert_allclose(fit_risk(x, known, penalty=20.0), theirs, atol=2e-3)

    def test_concordance_is_that_of_lifelines(self, load, time, event):
        _, x, known = read(load, time, event)
        risk = (x @ fit_risk(x, known, penalty=20.0)).round(1)  # so that some are tied
        expected = concordance_index(known.time, -risk, known.event)
        assert concordance(known.time, known.event, risk)[0] == pytest.approx(expected, abs=1e-12)
