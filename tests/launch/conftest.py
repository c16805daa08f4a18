from pathlib import Path

import pytest

from hescribe.bench.results import Results
from hescribe.bench.runs import finish_runs
from hescribe.bench.store import MEASUREMENTS
from hescribe.bench.study import Study
from hescribe.bench.suite import plan_study
from hescribe.data.folder import write_cohort
from hescribe.testing.cohorts import raw_colour_cohort

MODELS = ("mean", "color_ridge", "shuffled_pairs")


def run(study, launcher=None):
    """Run a study, and return what it did with its rows less what is measured."""
    summary = finish_runs(plan_study(study), Path(study.out), study=study, launcher=launcher)
    return summary, Results(Path(study.out)).rows.drop(columns=list(MEASUREMENTS))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    path = tmp_path_factory.mktemp("launch") / "cohort"
    write_cohort(raw_colour_cohort(3, 1), path)
    return path


@pytest.fixture(scope="session")
def in_threads(cohort, tmp_path_factory):
    """Rows of the study as the threads of one process give them."""
    return run(Study(cohort=str(cohort), out=str(tmp_path_factory.mktemp("threads")), models=MODELS))[1]


@pytest.fixture
def study(cohort, tmp_path):
    return Study(cohort=str(cohort), out=str(tmp_path / "run"), models=MODELS)
