"""The leak meter: what each shortcut of published evaluations adds to a score, on one cohort and with one model.

Each shortcut is switched on alone over the same protocol, the model fitted and scored anew, and so are the
controls: total counts alone, and shuffled pairs. The gain says nothing about the method whose publication took
the shortcut, only about the number it printed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hescribe.bench.ladder import create_model, is_control
from hescribe.bench.protocols import JOIN, Protocol, read_shortcuts, take_shortcut
from hescribe.bench.results import Results
from hescribe.bench.runner import run_study
from hescribe.bench.scores import Score
from hescribe.bench.study import Study
from hescribe.bench.task import PredictionTask
from hescribe.errors import InputError

DEPTH, NULL = "depth_oracle", "shuffled_pairs"


@dataclass(frozen=True, kw_only=True)
class LeakLine:
    """A model under one protocol, beside its controls.

    Parameters
    ----------
    protocol
        Name, with the shortcut behind a ``+``.
    shortcut, title, seen_in
        What is switched on, in words, and whose evaluation does it; empty for the honest protocol.
    pearson, pearson_depth_partial, r2
        Of the model, mean over donors; None where undefined. R2 tells of level and scale too.
    gain
        Pearson less that of the honest protocol.
    noise
        What a gain must exceed: twice the larger spread of shuffled pairs under the two protocols.
    depth_oracle
        Pearson of log total counts alone.
    null, null_sd
        Pearson of shuffled pairs, mean and spread over shuffles.
    ceiling
        Highest Pearson that the noise in the counts allows, for the target of this protocol.
    n_donors
        Donors behind the means.
    by_donor
        Pearson of each.
    """

    protocol: str
    shortcut: str
    title: str
    seen_in: str
    pearson: float | None
    pearson_depth_partial: float | None
    r2: float | None
    gain: float | None
    noise: float | None
    depth_oracle: float | None
    null: float | None
    null_sd: float | None
    ceiling: float | None
    n_donors: int
    by_donor: dict[str, float]

    def as_json(self) -> dict[str, object]:
        """Return the line as ``bench leak --json`` prints it."""
        return asdict(self)


def measure_leaks(
    task: PredictionTask, model: str, out: Path, *, cohort: Path, shortcuts: Sequence[str] | None = None
) -> list[LeakLine]:
    """Score a model under the task's protocol, and with each shortcut switched on alone.

    Every protocol gets a folder of its own below ``out``, a run like any other: it resumes, and
    ``hescribe bench report`` reads it.

    Parameters
    ----------
    task
        Cohort and an honest protocol.
    model
        Rung or predictor.
    out
        Folder of the runs.
    cohort
        Folder the task was read from, for the record of each run.
    shortcuts
        Names; all by default.

    Raises
    ------
    InputError
        If the protocol takes a shortcut already, or the model is a control.
    UnknownNameError
        If there is no such model or shortcut.
    """
    if task.protocol.takes_shortcut:
        raise InputError(f"protocol {task.protocol.name} takes a shortcut itself; measure from an honest one")
    if is_control(create_model(model)):
        raise InputError(f"{model} is a control and always stands beside the model; give a rung or a predictor")
    names = list(read_shortcuts() if shortcuts is None else shortcuts)
    protocols = [task.protocol, *(take_shortcut(task.protocol, name) for name in names)]
    lines: list[LeakLine] = []
    for protocol in protocols:
        scores = _run(replace(task, protocol=protocol), model, out / protocol.name, cohort)
        lines.append(_line(protocol, model, scores, lines[0] if lines else None))
    return lines


def _run(task: PredictionTask, model: str, out: Path, cohort: Path) -> dict[tuple[str, str], Score]:
    """Return the scores by model and metric."""
    models = (model, DEPTH, NULL)
    study = Study(cohort=str(cohort), out=str(out), protocol=task.protocol.name, models=models)
    run_study(task, models, out, study=study)
    return {(s.model, s.metric): s for s in Results(out).scores}


def _line(protocol: Protocol, model: str, scores: dict[tuple[str, str], Score], honest: LeakLine | None) -> LeakLine:
    name = protocol.name.partition(JOIN)[2]
    shortcut = read_shortcuts().get(name)
    main = scores[model, "pearson"]
    gain = noise = None
    if honest and honest.pearson is not None and main.value is not None:
        gain = main.value - honest.pearson
    if honest and honest.null_sd is not None and main.chance_sd is not None:
        noise = 2 * max(honest.null_sd, main.chance_sd)
    return LeakLine(
        protocol=protocol.name,
        shortcut=name,
        title=shortcut.title if shortcut else "Nothing seen of the test donor",
        seen_in=shortcut.seen_in if shortcut else "",
        pearson=main.value,
        pearson_depth_partial=scores[model, "pearson_depth_partial"].value,
        r2=scores[model, "r2"].value,
        gain=gain,
        noise=noise,
        depth_oracle=scores[DEPTH, "pearson"].value,
        null=main.chance,
        null_sd=main.chance_sd,
        ceiling=main.ceiling,
        n_donors=main.n_donors,
        by_donor=main.by_donor,
    )
