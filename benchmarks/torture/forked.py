"""Run a command in a process of its own, imports done: to be killed, starved of memory or of disk."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Parameters
    ----------
    code
        Exit status; negative for a signal.
    said
        All it printed.
    seconds
        It took.
    """

    code: int
    said: str
    seconds: float

    @property
    def was_killed(self) -> bool:
        """Whether it was still running when it was killed."""
        return self.code == -signal.SIGKILL


def run(
    job: "tuple[object, ...] | Callable[[], object]",
    log: Path,
    *,
    kill_after_s: float | None = None,
    limits: dict[int, int] | None = None,
    clock_s: float = 0.0,
) -> Done:
    """Run words of the command line, or a function, in a fork of this process.

    Parameters
    ----------
    job
        What is run.
    log
        File for what it prints.
    kill_after_s
        When SIGKILL comes; never by default.
    limits
        Of the process, by their number in ``resource``.
    clock_s
        How much later its clock is than ours.
    """
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _be_child(job, log, limits or {}, clock_s)
    code = _wait(pid, None if kill_after_s is None else begin + kill_after_s)
    return Done(code, log.read_text(errors="replace"), time.perf_counter() - begin)


def _be_child(
    job: "tuple[object, ...] | Callable[[], object]", log: Path, limits: dict[int, int], clock_s: float
) -> None:
    code, now = 1, time.time
    try:
        os.setsid()
        time.time = lambda: now() + clock_s
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, as on a full disk
        for what, value in limits.items():
            resource.setrlimit(what, (value, value))
        code = _call(job)
    finally:
        with contextlib.suppress(Exception):
            import sys

            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _call(job: "tuple[object, ...] | Callable[[], object]") -> int:
    from hescribe.cli.app import app

    try:
        if callable(job):
            job()
        else:
            app([str(word) for word in job], standalone_mode=True)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException as error:  # noqa: BLE001 - its kind is what is looked at
        import traceback

        from hescribe.errors import HescribeError

        if isinstance(error, HescribeError):
            print(f"error: {error}", flush=True)
            return 1
        traceback.print_exc()
        return 70
    return 0


def _wait(pid: int, until: float | None) -> int:
    while True:
        found, status = os.waitpid(pid, 0 if until is None else os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.perf_counter() > until:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            until = None
        else:
            time.sleep(0.002)
