"""Faults that are no kill: a full disk, a place that cannot be written, too little memory, wrong clocks, a bad cache.

After each the command either ended as undisturbed, or said in a sentence what is wrong and left nothing; with the fault
gone, the same command ends as undisturbed.
"""

import os
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.torture.commands import Command
from benchmarks.torture.forked import Done, run
from benchmarks.torture.hosts import FILES, fetch, serve
from benchmarks.torture.kills import Subject
from tests.fetch.conftest import Host, Reply

from hescribe.data.web import Patience

DISK_BYTES = (4_096, 20_000, 60_000)  # that one file may hold on the "full" disk
MEMORY_BYTES = (150 << 20, 400 << 20)  # beyond what the process has
YEARS_S = 3 * 365 * 24 * 3600


def break_everything(chosen: list[Command], root: Path) -> bool:
    """Run every fault on every command that it concerns, print a line for each fault, and return whether all ended."""
    good = True
    for name, fault in FAULTS.items():
        n, problems = 0, []
        for command in chosen:
            place = root / "faults" / f"{name}_{command.name}".replace(" ", "_").replace("/", "_")
            place.mkdir(parents=True)
            subject = Subject(command, place)
            for problem in fault(subject):
                n += 1
                problems += [f"{command.name}: {problem}"] if problem else []
        print(f"{name:28s} {n:3d} runs  {len(problems)} wrong", flush=True)
        for problem in problems:
            print(f"  {problem}")
        good = good and not problems
    busy = _busy_host(root)
    print(f"{'a host that is too busy':28s}   4 runs  {len(busy)} wrong", *busy, sep="\n  ", flush=True)
    return good and not busy


def _judge(done: Done, subject: Subject) -> str:
    """Return what is wrong with a run under a fault: it must end as undisturbed, or refuse in words."""
    if done.code == 0:
        return subject.difference()
    if done.code != 1 or "error:" not in done.said:
        return f"ended with {done.code}: {done.said.strip()[-400:]}"
    return ""


def _then_whole(subject: Subject, problem: str) -> str:
    """Return the problem, or how the same command differs once the fault is gone."""
    return problem or (f"afterwards, {later}" if (later := subject.end()) else "")


def full_disk(subject: Subject) -> list[str]:
    """Let no file grow beyond some size: what a full disk does to a write, at any of them."""
    found = []
    for n_bytes in DISK_BYTES:
        subject.reset()
        problem = _judge(subject.run(limits={resource.RLIMIT_FSIZE: n_bytes}), subject)
        left = [p for p in subject.leftovers() if p.exists()]
        found.append(_then_whole(subject, problem or (f"left {left[0]}" if left else "")))
    return found


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
    """Say of all that is there that it was written in years to come, or years ago."""
    found = []
    for shift_s in (YEARS_S, -YEARS_S):
        for path in [p for place in (subject.out, subject.cache) if place.exists() for p in place.rglob("*")]:
            os.utime(path, (time.time() + shift_s,) * 2)
        found.append(subject.end())
    return found


def damaged_cache(subject: Subject) -> list[str]:
    """Flip a bit of each remembered file, or cut it off."""
    found = []
    for damage in (_flip, _cut):
        files = [p for p in subject.cache.rglob("*") if p.is_file()] if subject.cache.exists() else []
        if not files:
            continue
        for path in files:
            damage(path)
        shutil.rmtree(subject.out, ignore_errors=True)
        found.append(_judge(subject.run(), subject) or subject.difference())
    return found


def damaged_output(subject: Subject) -> list[str]:
    """Cut off a file of a run that goes on: the run says which to delete, or writes it again."""
    if not subject.command.resumes:
        return []
    found, rng = [], random.Random(0)  # noqa: S311 - a choice of files
    for _ in range(3):
        subject.reset()
        subject.end()
        files = sorted(p for p in subject.out.rglob("*") if p.is_file())
        path = rng.choice(files)
        _cut(path)
        done = subject.run()
        problem = _judge(done, subject) if done.code else ""
        if done.code == 1 and str(path) not in done.said and path.name not in done.said:
            problem = f"{path.name} is cut off, and the error does not name it: {done.said.strip()[-200:]}"
        if done.code == 0 and subject.difference():
            problem = _read_damage(subject, path)
        path.unlink(missing_ok=True)
        if path.parent.name == "predictions":  # as the error says: with its cell
            (path.parents[1] / "cells" / f"{path.stem}.parquet").unlink(missing_ok=True)
        found.append(_then_whole(subject, problem))
    return found


def _read_damage(subject: Subject, path: Path) -> str:
    """Return what is wrong if the command that reads the output does not tell which file is cut off."""
    if subject.command.read is None:
        return f"{path.name} is cut off, and nothing is said"
    done = run(subject.command.read(subject.out), subject.log)
    told = done.code == 1 and path.name in done.said
    return "" if told else f"{path.name} is cut off, and reading it ends with {done.code}: {done.said.strip()[-200:]}"


def no_place(subject: Subject) -> list[str]:
    """Put a file where the target goes, so that nobody can write it."""
    subject.reset()
    subject.out.write_text("a file")
    done = subject.run()
    said = "" if done.code == 1 and str(subject.out) in done.said else f"ended with {done.code}: {done.said[-300:]}"
    kept = subject.out.is_file() and subject.out.read_text() == "a file"
    subject.reset()
    subject.out.unlink(missing_ok=True)
    return [_then_whole(subject, said if kept else "wrote over a file that is not its own")]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 16
        path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _busy_host(root: Path) -> list[str]:
    """Answer 429 and 503 and how long to wait, or close in the middle of a file."""
    waits: list[float] = []
    patience = Patience(attempts=4, first_s=0.5, longest_s=8.0, timeout_s=5.0, sleep=waits.append)
    faults = {
        "429": Reply(status=429, headers={"Retry-After": "3"}),
        "503": Reply(status=503, headers={"Retry-After": "2"}),
        "cut": Reply(content=next(iter(FILES.values())), cut_at=1000),
        "500": Reply(status=500),
    }
    problems = []
    for name, reply in faults.items():
        host = Host()
        serve(host, (reply, reply))
        waits.clear()
        try:
            fetch(host, root / f"fetched_{name}", patience)
        finally:
            host.close()
        there = {p: (root / f"fetched_{name}" / p).read_bytes() for p in FILES}
        wanted = {"429": 3.0, "503": 2.0}.get(name)
        if there != FILES or (wanted is not None and min(waits) < wanted):
            problems.append(f"{name}: {len(waits)} waits of {waits[:3]}; files whole: {there == FILES}")
    return problems


FAULTS: dict[str, Callable[[Subject], list[str]]] = {
    "a full disk": full_disk,
    "a target that is a file": no_place,
    "little memory": little_memory,
    "clocks years off": wrong_clock,
    "a damaged cache": damaged_cache,
    "a file cut off in a run": damaged_output,
}
