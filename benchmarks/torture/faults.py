"""Faults that are no kill: a full disk, a place that cannot be written, too little memory, wrong clocks, damage, hosts.

Under each the command either ends as undisturbed, or says in a sentence what is wrong and leaves nothing; with the
fault gone, the same command ends as undisturbed. A fault says which commands it cannot meet, and why; of all others it
must have met each.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.torture.forked import Done, run
from benchmarks.torture.hosts import FILES, fetch, serve
from benchmarks.torture.kills import Subject
from tests.fetch.conftest import Host, Reply

from hescribe.data.web import Patience

SHARES = (0.2, 0.6, 0.95)  # of what a command writes that the small disk holds
FILE_BYTES = (4_096, 60_000)  # that no file may exceed
MEMORY_BYTES = (150 << 20, 400 << 20)  # beyond what the process has
YEARS_S = 3 * 365 * 24 * 3600


@dataclass(frozen=True)
class Fault:
    """One way in which a machine fails.

    Parameters
    ----------
    name
        For the log.
    strike
        Let it happen to a command; returns what is wrong with each run, empty where all is well.
    not_for
        Commands that it cannot meet, each with the reason.
    mounts
        Whether it needs a mount of our own.
    """

    name: str
    strike: Callable[[Subject], list[str]]
    not_for: Mapping[str, str] = field(default_factory=dict)
    mounts: bool = False


class Breaker:
    """Runs every fault on one command after the other, and remembers what was wrong."""

    def __init__(self) -> None:
        self._tried = [fault for fault in FAULTS if can_mount() or not fault.mounts]
        self._met: dict[str, list[str]] = {fault.name: [] for fault in FAULTS}  # problem of each run, empty if none
        self._commands: dict[str, int] = {fault.name: 0 for fault in FAULTS}

    def strike(self, subject: Subject) -> bool:
        """Run the faults that a command can meet, print what is wrong at once, and return whether nothing is."""
        good = True
        for fault in self._tried:
            if subject.command.name not in fault.not_for:
                problems = fault.strike(subject) or ["it was not tried"]
                self._met[fault.name] += problems
                self._commands[fault.name] += 1
                for problem in filter(None, problems):
                    print(f"  {fault.name}: {problem}", flush=True)
                    good = False
        return good

    def print_summary(self) -> None:
        """Print a line for each fault."""
        for fault in FAULTS:
            problems = self._met[fault.name]
            line = (
                f"{self._commands[fault.name]:2d} commands  {len(problems):3d} runs  {sum(map(bool, problems))} wrong"
            )
            print(f"{fault.name:28s} {line if fault in self._tried else 'not tried: nobody may mount here'}")


def can_mount() -> bool:
    """Return whether mounts are our own, and vanish with us."""
    return "HESCRIBE_TORTURE_MOUNTS" in os.environ


@contextlib.contextmanager
def _mounted(where: Path, *words: str) -> Iterator[None]:
    _mount(*words, str(where))
    try:
        yield
    finally:
        _mount(str(where), by="umount")


def _mount(*words: str, by: str = "mount") -> None:
    subprocess.run([shutil.which(by) or by, *words], check=True)


def _judge(done: Done, subject: Subject) -> str:
    """Return what is wrong with a run under a fault: it must end as undisturbed, or refuse in words."""
    if done.code == 0:
        return subject.difference()
    if done.code != 1 or "error:" not in done.said:
        return f"ended with {done.code}: {done.said.strip()[-400:]}"
    return ""


def _judge_left(done: Done, subject: Subject) -> str:
    """Return what is wrong with a run that could not write all: beside ``_judge``, it must leave nothing begun."""
    left = [p for p in subject.leftovers() if p.exists()]
    return _judge(done, subject) or (f"left {left[0]}" if left else "")


def _then_whole(subject: Subject, problem: str) -> str:
    """Return the problem, or how the same command differs once the fault is gone."""
    return problem or (f"afterwards, {later}" if (later := subject.end()) else "")


def full_disk(subject: Subject) -> list[str]:
    """Write to a disk that holds a part of what is written."""
    found, disk = [], subject.out.parent
    written = sum(p.stat().st_size for p in subject.out.rglob("*") if p.is_file())
    with _mounted(disk, "-t", "tmpfs", "none"):
        for share in SHARES:
            subject.reset()
            _mount("-o", f"remount,size={max(int(share * written), 4096)}", str(disk))
            problem = _judge_left(subject.run(), subject)
            _mount("-o", "remount,size=1g", str(disk))
            found.append(_then_whole(subject, problem))
    return found


def small_files(subject: Subject) -> list[str]:
    """Let no file grow beyond some size, wherever it is: what a full disk does to a write, in the cache too."""
    found = []
    for n_bytes in FILE_BYTES:
        subject.reset()
        problem = _judge_left(subject.run(limits={resource.RLIMIT_FSIZE: n_bytes}), subject)
        found.append(_then_whole(subject, problem))
    return found


def read_only(subject: Subject) -> list[str]:
    """Write to a disk that is mounted read-only: where nothing is, and where all is there already."""
    found, disk = [], subject.out.parent
    subject.reset()
    with _mounted(disk, "--bind", str(disk)):
        for is_there in (False, True):
            if is_there:
                subject.run()
            _mount("-o", "remount,bind,ro", str(disk))
            done = subject.run()
            _mount("-o", "remount,bind,rw", str(disk))
            problem = _judge(done, subject)
            if done.code == 1 and str(subject.out) not in done.said:
                problem = f"the error does not name the place: {done.said.strip()[-300:]}"
            found.append(_then_whole(subject, problem))
    return found


def no_place(subject: Subject) -> list[str]:
    """Put a file where the target goes, so that nobody can write it."""
    subject.reset()
    subject.out.write_text("a file")
    done = subject.run()
    said = "" if done.code == 1 and str(subject.out) in done.said else f"ended with {done.code}: {done.said[-300:]}"
    kept = subject.out.is_file() and subject.out.read_text() == "a file"
    subject.out.unlink(missing_ok=True)
    return [_then_whole(subject, said if kept else "wrote over a file that is not its own")]


def little_memory(subject: Subject) -> list[str]:
    """Allow the process little memory beyond what it has."""
    found = []
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for n_bytes in MEMORY_BYTES:
        subject.reset()
        done = subject.run(limits={resource.RLIMIT_AS: has + n_bytes})
        died = done.code < 0  # a library that ends the process for want of memory: as a kill, it must cost nothing
        found.append(_then_whole(subject, "" if died else _judge(done, subject)))
    return found


def wrong_clock(subject: Subject) -> list[str]:
    """Kill a run whose clock is years off, and go on with one that is off the other way; then look at all it wrote."""
    found = []
    for shift_s in (YEARS_S, -YEARS_S):
        subject.reset()
        subject.run(kill_after_s=subject.seconds / 2, clock_s=shift_s)
        _date(subject, shift_s)
        found.append(subject.end(clock_s=-shift_s))
        _date(subject, -shift_s)
        found.append(subject.end())
    return found


def _date(subject: Subject, shift_s: float) -> None:
    """Say of all that is there that it was written in years to come, or years ago."""
    for path in [p for place in (subject.out, subject.cache) if place.exists() for p in place.rglob("*")]:
        os.utime(path, (time.time() + shift_s,) * 2)


def damaged_cache(subject: Subject) -> list[str]:
    """Flip a bit of each remembered file, or cut it off."""
    found = []
    for damage in (_flip, _cut):
        subject.reset()
        subject.run()
        files = [p for p in subject.cache.rglob("*") if p.is_file()] if subject.cache.exists() else []
        for path in files:
            damage(path)
        shutil.rmtree(subject.out, ignore_errors=True)
        if files:
            found.append(_judge(subject.run(), subject) or subject.difference())
    return found


def damaged_output(subject: Subject) -> list[str]:
    """Cut off a file of each kind in a finished run, and flip a bit in results: it is written again, or named."""
    found = []
    subject.reset()
    subject.run()
    kinds = {(p.parent.name, p.suffix): p for p in sorted(subject.out.rglob("*")) if p.is_file()}
    for (folder, _), path in kinds.items():
        for damage in (_cut, _flip) if folder in {"cells", "predictions"} else (_cut,):
            damage(path)
            done = subject.run()
            problem = _judge(done, subject) if done.code else ""
            if done.code == 1 and path.name not in done.said:
                problem = f"{path.name} is damaged, and the error does not name it: {done.said.strip()[-200:]}"
            if done.code == 0 and subject.difference():
                problem = _read_damage(subject, path)
            if done.code or subject.difference():
                path.unlink(missing_ok=True)  # as the error says
            found.append(_then_whole(subject, problem))
    return found


def _read_damage(subject: Subject, path: Path) -> str:
    """Return what is wrong if reading the output does not tell which file is damaged."""
    if subject.command.read is None:
        return f"{path.name} is damaged, and nothing is said"
    done = run(subject.command.read(subject.out), subject.log)
    told = done.code == 1 and path.name in done.said
    return "" if told else f"{path.name} is damaged, and reading it ends with {done.code}: {done.said.strip()[-200:]}"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 16
        path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def busy_host(subject: Subject) -> list[str]:
    """Answer 429 and 503 and how long to wait, or 500, or close in the middle of a file."""
    waits: list[float] = []
    patience = Patience(attempts=4, first_s=0.5, longest_s=8.0, timeout_s=5.0, sleep=waits.append)
    faults = {
        "429": Reply(status=429, headers={"Retry-After": "3"}),
        "503": Reply(status=503, headers={"Retry-After": "2"}),
        "cut": Reply(content=next(iter(FILES.values())), cut_at=1000),
        "500": Reply(status=500),
    }
    found = []
    for name, reply in faults.items():
        host = Host()
        serve(host, (reply, reply))
        waits.clear()
        subject.reset()
        try:
            fetch(host, subject.out, patience)
        finally:
            host.close()
        least = {"429": 3.0, "503": 2.0}.get(name, 0.0)
        whole = all((subject.out / p).read_bytes() == content for p, content in FILES.items())
        found.append("" if whole and min(waits) >= least else f"{name}: waits of {waits[:3]} s; files whole: {whole}")
    return found


FEATURELESS = dict.fromkeys(
    ("bench completion", "bench spade", "complete", "data import", "data convert", "data prepare", "data check",
     "view --export", "model card", "data fetch"),
    "embeds no image, and so remembers nothing",
) | {"analyse": "embeds images only where there are regions to compare, which these sections have not"}  # fmt: skip
WHOLE_ONLY = dict.fromkeys(
    ("fit", "complete", "data import", "data convert", "data prepare"), "refuses a target that is there"
)
ALL_BUT_FETCH = dict.fromkeys(
    ("fit", "predict", "embed", "bench prediction", "bench completion", "bench spared", "bench hescape", "bench spade",
     *FEATURELESS.keys() - {"data fetch"}),
    "asks no host",
)  # fmt: skip
FAULTS = (
    Fault("a full disk", full_disk, mounts=True),
    Fault("files that cannot grow", small_files),
    Fault("a disk that is read-only", read_only, mounts=True),
    Fault("a target that is a file", no_place),
    Fault("little memory", little_memory),
    Fault("clocks years off", wrong_clock),
    Fault("a damaged cache", damaged_cache, FEATURELESS),
    Fault("a damaged file in a run", damaged_output, WHOLE_ONLY),
    Fault("a host that is too busy", busy_host, ALL_BUT_FETCH),
)
