"""Every suite as a list of runs: what a study means, on whichever machine it is read."""

from collections.abc import Callable
from pathlib import Path

from hescribe.bench.completion.cells import plan_completion_run
from hescribe.bench.completion.protocol import read_completion_protocol
from hescribe.bench.completion.task import CompletionTask
from hescribe.bench.hescape.suite import plan_hescape
from hescribe.bench.protocols import read_protocol
from hescribe.bench.runner import plan_run
from hescribe.bench.runs import Run
from hescribe.bench.slides.cells import plan_slide_runs
from hescribe.bench.spared_suite import plan_spared
from hescribe.bench.spared_task import read_task
from hescribe.bench.study import Study
from hescribe.data.folder import read_cohort


def plan_study(study: Study) -> list[Run]:
    """Return the runs of a study, every cell of them planned.

    Raises
    ------
    HescribeError
        If the study names what there is not, or its data is not fit for it.
    """
    return _PLANS[study.suite](study)


def _plan_prediction(study: Study) -> list[Run]:
    task = read_task(Path(study.cohort), read_protocol(study.protocol))
    return [plan_run(task, study.models, Path(study.out), study.seeds)]


def _plan_completion(study: Study) -> list[Run]:
    task = CompletionTask(read_cohort(Path(study.cohort)), read_completion_protocol(study.protocol))
    return [plan_completion_run(task, study.models, Path(study.out), study.seeds)]


_PLANS: dict[str, Callable[[Study], list[Run]]] = {
    "prediction": _plan_prediction,
    "completion": _plan_completion,
    "spared": plan_spared,
    "hescape": plan_hescape,
    "spade": plan_slide_runs,
}
