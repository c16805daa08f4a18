"""A worker: reads names of cells, one a line, and answers each with a line of JSON.

``python -m hescribe.launch.worker OUT``. It plans the study in folder OUT once, and ends when its input does.
"""

import json
import os
import sys
from functools import cache
from pathlib import Path

from threadpoolctl import threadpool_limits

from hescribe import errors
from hescribe.bench.runs import STUDY, Unit
from hescribe.bench.study import read_study
from hescribe.bench.suite import plan_study
from hescribe.errors import DataAccessError, HescribeError
from hescribe.launch.embedding import PLAN, SlideUnit, plan_embedding, read_embedding

ONE_CORE = {"OMP_NUM_THREADS": "1", "HESCRIBE_WORKERS": "1"}  # of the environment of a worker that has one


@cache
def plan_units(out: str) -> dict[str, Unit | SlideUnit]:
    """Return the units of the study, or of the slides, in a folder by name, planned once in a process."""
    if (Path(out) / PLAN).exists():
        return {unit.name_in(Path(out)): unit for unit in plan_embedding(read_embedding(Path(out)))}
    study = read_study(Path(out) / STUDY)
    units = [Unit(run, cell) for run in plan_study(study) for cell in run.cells]
    return {unit.name_in(Path(study.out)): unit for unit in units}


def finish_unit(out: str, name: str) -> None:
    """Finish one unit of the study in a folder, unless another worker has.

    Raises
    ------
    DataAccessError
        If the study has no such unit here: data or version differ from those of the machine that planned it.
    """
    units = plan_units(out)
    if name not in units:
        raise DataAccessError(
            f"{out} plans no {name} on this machine; its data or its version of hescribe differ from those of the "
            "machine that began the run"
        )
    if not units[name].is_finished:
        with threadpool_limits(1, user_api="blas"):
            units[name].finish()


def finish_there(folder: str, out: str, name: str) -> tuple[str, str]:
    """Finish a unit from the folder its study was begun in; return kind and text of an error, both empty without."""
    os.chdir(folder)  # paths of a study are relative to it
    try:
        finish_unit(out, name)
    except HescribeError as error:
        return type(error).__name__, str(error)
    except Exception as error:  # noqa: BLE001 - told to whoever asked, who raises it
        return "HescribeError", f"{name} failed: {type(error).__name__}: {error}"
    return "", ""


def to_error(kind: str, message: str) -> HescribeError:
    """Return the error that a worker has told of; one that is not ours becomes a ``HescribeError``."""
    found = getattr(errors, kind, HescribeError)
    return found(message) if found is not errors.SchemaError else errors.InputError(message)


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    for line in sys.stdin:
        kind, message = finish_there(".", sys.argv[1], line.strip())
        answers.write(json.dumps({"kind": kind, "message": message}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
