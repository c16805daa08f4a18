"""Analyses on section A1 of her2st, which has an image and a pathologist's labels."""

import pytest

from hescribe import keys
from hescribe.analysis.domains import score_domains
from hescribe.bench.protocols import read_protocol
from hescribe.bench.task import PredictionTask
from hescribe.data.folder import read_cohort

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def scores(her2st):
    cohort = read_cohort(her2st, with_image=True).where(lambda s: s.donor in {"A", "B"})
    task = PredictionTask(cohort, read_protocol("donor-v1"))
    panel = task.choose_genes(task.prepared.where(lambda s: s.donor == "B"))
    section = next(s for s in task.on_panel(task.prepared, panel) if s.id == "A1")
    measured = section.table.layers[keys.TARGET]
    found = score_domains(section, {"measured": measured, "place": section.xy_um})
    return {(s.source, s.smooth): s for s in found}


def test_the_pathologists_regions_are_read(scores):
    """The file has 343 spots in five regions and five open ones; 340 of the former were counted and are deep enough."""
    score = scores["measured", False]
    assert (score.n_spots, score.n_domains) == (340, 5)


@pytest.mark.slow
def test_measured_expression_tells_the_regions_better_than_place_and_noise(scores):
    measured, place, noise = (scores[source, False].ari for source in ("measured", "place", "noise"))
    assert measured > place + 0.05
    assert abs(noise) < 0.03
