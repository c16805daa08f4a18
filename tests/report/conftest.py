"""One small finished run that every test of the report reads."""

import shutil
from pathlib import Path

import pytest

from hescribe.bench import runner
from hescribe.bench.protocols import read_protocol
from hescribe.bench.results import Results
from hescribe.bench.runner import run_study
from hescribe.bench.study import Study, write_study
from hescribe.bench.task import PredictionTask
from hescribe.data.cohort import Cohort
from hescribe.data.folder import read_cohort, write_cohort

MODELS = ("mean", "color_ridge", "position", "shuffled_pairs", "depth_oracle")
HOSTILE = "<script>alert('gene')</script>"


def finish_run(cohort: Cohort, models: tuple[str, ...], path: Path, protocol: str = "donor-v1") -> Path:
    """Run a study on a cohort folder at ``path`` and return the folder of its results."""
    write_cohort(cohort, path / "cohort")
    run_study(PredictionTask(read_cohort(path / "cohort"), read_protocol(protocol)), models, path / "run")
    write_study(Study(cohort=str(path / "cohort"), out=str(path / "run")), path / "run" / "study.toml")
    return path / "run"


@pytest.fixture(scope="session")
def finished(raw_cohort, tmp_path_factory) -> Path:
    """Return a run of three donors in which one gene has a hostile name."""

    def rename(section):
        table = section.table.copy()
        table.var_names = [HOSTILE if g == "GENE1" else "COST$A$" if g == "GENE2" else g for g in table.var_names]
        return section.with_table(table)

    path = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "N_SHUFFLES", 3)
        patch.setenv("HESCRIBE_CACHE", str(path / "cache"))
        return finish_run(raw_cohort.map(rename), MODELS, path)


@pytest.fixture
def results(finished, tmp_path) -> Results:
    """Return the results of that run, in a copy that a test may spoil."""
    written = shutil.ignore_patterns("report.html", "table.csv", "figures")
    return Results(Path(shutil.copytree(finished, tmp_path / "run", ignore=written)))


@pytest.fixture
def without_maps(results) -> Results:
    """Return the same without predictions: a page that is written in a moment."""
    shutil.rmtree(results.path / "predictions")
    return results
