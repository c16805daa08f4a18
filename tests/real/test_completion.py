"""The study of completion on her2st comes out again: what has no random part, within 3 %.

Expected values: the independent study that the project started from (36 sections, 8 donors, 128 genes, 30 and 50 % of
the measured entries hidden, the depth shown counting what is hidden).
"""

import pytest

from hescribe.bench.completion.cells import run_completion
from hescribe.bench.completion.protocol import read_completion_protocol
from hescribe.bench.completion.task import CompletionTask
from hescribe.bench.results import Results
from hescribe.data.importing import import_cohort

pytestmark = [pytest.mark.real, pytest.mark.slow]
EXPECTED = {
    ("mean", 30): 1.499, ("mean", 50): 1.500, ("section_mean", 30): 0.806, ("section_mean", 50): 0.807,
    ("knn", 30): 0.674, ("knn", 50): 0.712, ("adaptive_median", 30): 4.859, ("adaptive_median", 50): 5.026,
}  # fmt: skip


@pytest.fixture(scope="module")
def scores(shared_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("completion")
    cohort = import_cohort(shared_data / "her2st", "st", out / "cohort").cohort
    task = CompletionTask(cohort, read_completion_protocol("spared-mask-2024"))
    run_completion(task, ("mean", "section_mean", "knn", "adaptive_median"), out / "results")
    return {(s.model, int(s.task.split()[-2].rstrip("%")), s.metric): s for s in Results(out / "results").scores}


@pytest.mark.parametrize(("model", "percent"), EXPECTED)
def test_error_comes_out_again(scores, model, percent):
    score = scores[model, percent, "mse"]
    assert score.value == pytest.approx(EXPECTED[model, percent], rel=0.03)
    assert score.n_donors == 8
    assert score.low < score.value < score.high


def test_the_noise_floor_comes_out_again(scores):
    assert scores["knn", 30, "mse"].ceiling == pytest.approx(0.40, abs=0.03)


def test_correlation_comes_out_again_and_is_undefined_for_a_constant(scores):
    assert scores["knn", 30, "pearson_hidden"].value == pytest.approx(0.350, abs=0.01)
    assert scores["section_mean", 30, "pearson_hidden"].value is None


def test_a_constant_a_section_and_gene_already_takes_83_percent_off_the_adaptive_median(scores):
    """What SpaCKLE's published reduction is to be held against."""
    gain = 1 - scores["section_mean", 30, "mse"].value / scores["adaptive_median", 30, "mse"].value
    assert gain == pytest.approx(0.834, abs=0.01)
