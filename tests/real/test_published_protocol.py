"""What was measured under the published setting of mclSTExp on her2st comes out again.

Expected values: an independent study of the 32 sections that the paper used, with the paper's list of 785 genes.
That list was a file; ours comes from a rule, and has 785 other genes, so that values agree to about .02.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import run_cell
from hescribe.bench.task import Fold, PredictionTask
from hescribe.data.folder import read_cohort
from hescribe.metrics.gene import MSE, PEARSON, PEARSON_TOP50
from hescribe.predict.ridge import RidgePredictor
from hescribe.prep.counts import log_normalise, with_lognorm
from hescribe.prep.dispersion import top_dispersion
from hescribe.prep.genes import to_panel
from hescribe.prep.targets import gene_axis

pytestmark = [pytest.mark.real, pytest.mark.slow]
PUBLISHED = read_protocol("mclstexp-2024")
TOLERANCE = 0.025


def spot_axis(counts, _):
    """Return log10(1 + 1e4 * count / the spot's counts on the panel): what the published code trains on."""
    return log_normalise(counts, counts.sum(axis=1)) / np.log(10)


@dataclass
class Facts:
    """Of one target: depth against all genes and the top 50, the error of the others' mean, own variance."""

    all_genes: float
    top: float
    mse_of_mean: float
    variance: float


@pytest.fixture(scope="module")
def sections(her2st):
    """Return the 32 sections of the paper on our panel: all but A1 and those of patient H."""
    cohort = read_cohort(her2st).where(lambda s: s.id != "A1" and s.donor != "H").map(with_lognorm)
    panel = top_dispersion(cohort, PUBLISHED.n_genes)
    return cohort.map(lambda s: to_panel(s, panel))


@pytest.fixture(scope="module")
def facts(sections):
    return {target: measure(sections, target) for target in (gene_axis, spot_axis)}


def measure(sections, target):
    values = [target(s.layer(keys.COUNTS).astype(float), s.depth) for s in sections]
    total, n = sum(v.sum(axis=0) for v in values), sum(len(v) for v in values)
    found = []
    for section, y in zip(sections, values, strict=True):
        depth = np.repeat(np.log(np.maximum(section.depth, 1.0))[:, None], y.shape[1], axis=1)
        others = np.broadcast_to((total - y.sum(axis=0)) / (n - len(y)), y.shape)
        found.append([m.summary(y, p).value for m, p in ((PEARSON, depth), (PEARSON_TOP50, depth), (MSE, others))])
        found[-1].append(y.var(axis=0).mean())
    return Facts(*np.mean(found, axis=0))


def test_the_panel_has_the_published_size_on_the_published_spots(sections):
    assert (len(sections), sum(s.n_spots for s in sections), len(sections.genes)) == (32, 11_548, 785)


def test_depth_alone_beats_the_published_model_where_genes_are_scaled(facts):
    assert facts[gene_axis].all_genes == pytest.approx(0.304, abs=TOLERANCE)
    assert facts[gene_axis].top == pytest.approx(0.581, abs=TOLERANCE)
    assert facts[gene_axis].all_genes > 0.230  # published for mclSTExp: .230 on all genes, .387 on the top 50
    assert facts[gene_axis].top > 0.387


def test_depth_alone_means_less_where_spots_are_scaled(facts):
    assert facts[spot_axis].all_genes == pytest.approx(0.203, abs=TOLERANCE)
    assert facts[spot_axis].top == pytest.approx(0.278, abs=TOLERANCE)


def test_error_of_a_constant_and_own_variance_come_out_again(facts):
    assert facts[gene_axis].mse_of_mean == pytest.approx(0.7115, abs=0.01)
    assert facts[spot_axis].mse_of_mean == pytest.approx(0.3203, abs=0.01)
    assert facts[gene_axis].variance == pytest.approx(0.6394, abs=0.01)
    assert facts[spot_axis].variance == pytest.approx(0.2615, abs=0.01)


@pytest.fixture(scope="module")
def ridge_scores(her2st, sections):
    """Return all-gene and top-50 Pearson of the colour ridge: C's sections each held out, and C to B4."""
    with_image = read_cohort(her2st, with_image=True)
    protocol = replace(PUBLISHED, n_genes=len(sections.genes))
    task = PredictionTask(with_image.where(lambda s: s.donor == "C" or s.id == "B4"), protocol)
    prepared = task.on_panel(task.prepared, sections.genes)
    of_c = prepared.where(lambda s: s.donor == "C")
    folds = [Fold(s.id, of_c.where(lambda o, s=s: o.id != s.id), of_c.where(lambda o, s=s: o.id == s.id), protocol)
             for s in of_c]  # fmt: skip
    across = Fold("B4", of_c, prepared.where(lambda s: s.id == "B4"), protocol)
    model = RidgePredictor(encoder="color")
    return np.mean([scores_of(task, f, model) for f in folds], axis=0), scores_of(task, across, model)


def scores_of(task, fold, model):
    rows = {r.metric: r.value for r in run_cell(task, fold, model, 0).rows if not r.gene}
    return rows["pearson"], rows["pearson_top50"]


def test_a_ridge_on_colour_reaches_what_was_published_for_networks(ridge_scores):
    """The study has .291 and .532 within donor C, .407 and .581 from C to B4."""
    within, across = ridge_scores
    assert within == pytest.approx([0.291, 0.532], abs=0.04)
    assert across == pytest.approx([0.407, 0.581], abs=0.04)
