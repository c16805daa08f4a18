"""Processes of this machine: one that dies of a cell, for want of memory say, takes no other with it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import ClassVar

from hescribe import settings
from hescribe.errors import HescribeError
from hescribe.launch.base import Work, check_written, lost
from hescribe.launch.worker import ONE_CORE, to_error
from hescribe.params import Params

WORKER = ("-m", "hescribe.launch.worker")


class WorkerLostError(Exception):
    """A worker ended without an answer."""


class WorkerProcess:
    """A process that finishes units when asked, begun with the first.

    Parameters
    ----------
    out
        Folder of the study.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._is_closed, self._lock = out, False, Lock()
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def ask(self, name: str) -> None:
        """Have a unit finished.

        Raises
        ------
        HescribeError
            As the worker tells it, or if the run was stopped.
        WorkerLostError
            If the worker ended first.
        """
        with self._lock:
            if self._is_closed:
                raise HescribeError("the run was stopped")
            process = self._process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:
            if self._is_closed:
                raise HescribeError("the run was stopped") from error
            self._process = None
            raise WorkerLostError(self._last_words(self._drop(process))) from error
        if answer["kind"]:
            raise to_error(answer["kind"], answer["message"])

    def close(self) -> None:
        """End the process, whatever it is at."""
        with self._lock:
            self._is_closed = True
        if self._process is not None:
            self._process.kill()
            self._drop(self._process)
        self._log.close()

    @staticmethod
    def _drop(process: "subprocess.Popen[str]") -> int:
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not sent
                stream.close()  # type: ignore[union-attr]
        return process.wait()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, *WORKER, str(self._out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **ONE_CORE},
            start_new_session=True,  # an interrupt is for the process that was asked
        )

    def _last_words(self, status: int) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"signal {-status}" if status < 0 else lines[-1] if lines else f"exit status {status}"


@dataclass(kw_only=True)
class LocalLauncher(Params):
    """Processes of this machine, each at one unit at a time.

    Parameters
    ----------
    n_workers
        Processes; None takes one a core.
    n_tries
        Times a unit is tried whose process dies. One that fails is not tried again: it would fail again.
    """

    name: ClassVar[str] = "local"
    summary: ClassVar[str] = "processes of this machine"
    n_workers: int | None = None
    n_tries: int = 3

    def finish(self, units: Sequence[Work], out: Path) -> Iterator[None]:
        """Finish every unit; see ``Launcher.finish``."""
        self.check_between("n_workers", 1)
        self.check_between("n_tries", 1)
        n = min(self.n_workers or settings.n_workers(), len(units))
        workers = [WorkerProcess(out) for _ in range(n)]
        idle: SimpleQueue[WorkerProcess] = SimpleQueue()
        for worker in workers:
            idle.put(worker)
        with ThreadPoolExecutor(max(n, 1)) as pool:
            running = [pool.submit(self._finish, unit, out, idle) for unit in units]
            try:
                for done in as_completed(running):
                    yield done.result()
            finally:
                for future in running:
                    future.cancel()
                for worker in workers:
                    worker.close()

    def _finish(self, unit: Work, out: Path, idle: "SimpleQueue[WorkerProcess]") -> None:
        worker = idle.get()
        try:
            for i in range(self.n_tries):
                try:
                    worker.ask(unit.name_in(out))
                    break
                except WorkerLostError as error:
                    if i + 1 == self.n_tries:
                        raise lost(unit, self.n_tries, str(error)) from error
        finally:
            idle.put(worker)
        check_written(unit, out)
