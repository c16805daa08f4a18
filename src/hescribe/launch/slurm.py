"""A Slurm queue, through submitit: an array of jobs, each with a share of the units.

A job that is preempted or out of time is put back in the queue and goes on after its last finished unit. What submitit
keeps of a job in ``OUT/slurm`` (its own hand-over file, with folder and names of units, and logs) is read by it alone.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from hescribe._support import import_extra
from hescribe.errors import DataAccessError
from hescribe.launch.base import Work, check_written, lost
from hescribe.launch.worker import finish_there, to_error
from hescribe.params import Params

POLL_S = 1.0


class Share:
    """What one job does: finishes units one after the other, those that are finished in no time."""

    def __call__(self, folder: str, out: str, names: Sequence[str]) -> tuple[str, str]:
        """Return kind and text of the first error, both empty if there is none."""
        for name in names:
            kind, message = finish_there(folder, out, name)
            if kind:
                return kind, message
        return "", ""

    def checkpoint(self, *args: object) -> Any:
        """Return what is put back in the queue when the job is taken away: the same."""
        submitit = import_extra("submitit", "slurm", "--launch slurm")
        return submitit.helpers.DelayedSubmission(self, *args)


@dataclass(kw_only=True)
class SlurmLauncher(Params):
    """Jobs of a Slurm queue.

    Parameters
    ----------
    cluster
        ``"slurm"``; ``"local"`` runs the jobs as processes here and ``"debug"`` in this one, to try a study out.
    n_jobs
        Jobs of the array, at most one a unit.
    n_tries
        Times a unit is tried whose job is lost.
    timeout_min, mem_gb, cpus_per_task, gpus_per_node
        Of each job.
    partition, account
        Of the queue, where it asks for one.
    """

    name: ClassVar[str] = "slurm"
    summary: ClassVar[str] = "an array of Slurm jobs, through submitit"
    cluster: Literal["slurm", "local", "debug"] = "slurm"
    n_jobs: int = 64
    n_tries: int = 3
    timeout_min: int = 240
    mem_gb: int = 16
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    partition: str = ""
    account: str = ""

    def finish(self, units: Sequence[Work], out: Path) -> Iterator[None]:
        """Finish every unit; see ``Launcher.finish``."""
        for name in ("n_jobs", "n_tries", "timeout_min", "mem_gb", "cpus_per_task"):
            self.check_between(name, 1)
        submitit = import_extra("submitit", "slurm", "--launch slurm")
        try:
            executor = submitit.AutoExecutor(folder=out / "slurm", cluster=self.cluster)
        except RuntimeError as error:
            raise DataAccessError(f"no Slurm answers on this machine ({error}); log in where sbatch runs") from error
        executor.update_parameters(**self._asked())
        left, last = list(units), ""
        for _ in range(self.n_tries):
            for share, how in self._submit(executor, left, out):
                last = how or last
                yield from (None for unit in share if unit.is_finished)
            left = [unit for unit in left if not unit.is_finished]
            if not left:
                return
        if not last:
            check_written(left[0], out)
        raise lost(left[0], self.n_tries, last)

    def _asked(self) -> dict[str, Any]:
        found = {
            "name": "hescribe", "timeout_min": self.timeout_min, "mem_gb": self.mem_gb,
            "cpus_per_task": self.cpus_per_task, "gpus_per_node": self.gpus_per_node,
        }  # fmt: skip
        return found | {f"slurm_{k}": v for k in ("partition", "account") if (v := getattr(self, k))}

    def _submit(self, executor: Any, units: Sequence[Work], out: Path) -> Iterator[tuple[list[Work], str]]:
        """Submit units in one array and yield the share of each job as it ends, and how it was lost, if it was."""
        shares = [list(units[i :: self.n_jobs]) for i in range(min(self.n_jobs, len(units)))]
        with executor.batch():
            jobs = {
                executor.submit(Share(), str(Path.cwd()), str(out), [u.name_in(out) for u in share]): share
                for share in shares
            }
        try:
            while jobs:
                for job in [j for j in jobs if j.done()]:
                    yield jobs.pop(job), _end(job)
                if jobs:
                    time.sleep(POLL_S)
        finally:
            for job in jobs:
                job.cancel()


def _end(job: Any) -> str:
    """Return how a job was lost, empty if it was not; raise the error of a unit."""
    try:
        kind, message = job.result()
    except Exception as error:  # noqa: BLE001 - submitit raises its own, and what the job raised
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if kind:
        raise to_error(kind, message)
    return ""
