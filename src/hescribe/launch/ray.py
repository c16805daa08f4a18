"""A Ray cluster: every unit is a task, which Ray gives to another machine if the one it is at is lost."""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hescribe import settings
from hescribe._support import import_extra
from hescribe.errors import DataAccessError
from hescribe.launch.base import Work, check_written, lost
from hescribe.launch.worker import ONE_CORE, finish_there, to_error
from hescribe.params import Params

WAIT_S = 10.0  # for an answer of the cluster
QUIET = {"logging_level": "WARNING"}


@dataclass(kw_only=True)
class RayLauncher(Params):
    """Tasks of a Ray cluster.

    Parameters
    ----------
    address
        Of a running cluster, ``"auto"`` to find it; None starts one on this machine alone.
    n_tries
        Times a unit is tried whose worker or machine is lost.
    n_cpus, n_gpus
        Of each unit.
    """

    name: ClassVar[str] = "ray"
    summary: ClassVar[str] = "a Ray cluster, or one that is started here"
    address: str | None = None
    n_tries: int = 3
    n_cpus: float = 1.0
    n_gpus: float = 0.0

    def finish(self, units: Sequence[Work], out: Path) -> Iterator[None]:
        """Finish every unit; see ``Launcher.finish``."""
        self.check_between("n_tries", 1)
        ray = import_extra("ray", "ray", "--launch ray")
        own = not ray.is_initialized()
        if own:
            self._connect(ray)
        task = ray.remote(
            num_cpus=self.n_cpus, num_gpus=self.n_gpus, max_retries=self.n_tries - 1, runtime_env={"env_vars": ONE_CORE}
        )(finish_there)
        asked = {task.remote(str(Path.cwd()), str(out), unit.name_in(out)): unit for unit in units}
        try:
            while asked:
                [done], _ = ray.wait(list(asked), num_returns=1)
                self._end(ray, done, asked.pop(done), out)
                yield
        finally:
            for waiting in asked:
                ray.cancel(waiting, force=True)
            if own:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        try:
            self._check_answers()
            if self.address is None:
                ray.init(num_cpus=settings.n_workers(), include_dashboard=False, log_to_driver=False, **QUIET)
            else:
                ray.init(address=self.address, log_to_driver=False, **QUIET)
        except (OSError, RuntimeError) as error:
            raise DataAccessError(
                f"no Ray cluster answers at {self.address}: {error}; start one with ray start --head"
            ) from error

    def _check_answers(self) -> None:
        """Raise ``OSError`` at once if nothing listens at an address, for which Ray would wait for minutes."""
        host, _, port = (self.address or "").removeprefix("ray://").rpartition(":")
        if host and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT_S).close()

    def _end(self, ray: Any, done: Any, unit: Work, out: Path) -> None:
        try:
            kind, message = ray.get(done)
        except ray.exceptions.RayError as error:
            raise lost(unit, self.n_tries, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
        if kind:
            raise to_error(kind, message)
        check_written(unit, out)
