"""SIGKILL at random moments of every command: the same command must end as if nothing had happened."""

import os
import random
import shutil
import time
from pathlib import Path

from benchmarks.torture.commands import Command, contents
from benchmarks.torture.forked import run

LONG_AGO_S = 2 * 24 * 3600  # what a killed run left is removed after a day


class Subject:
    """A command, and what it writes when nobody disturbs it."""

    def __init__(self, command: Command, root: Path) -> None:
        self.command, self.out = command, root / "disk" / "out"
        self.out.parent.mkdir()
        self.log, self.cache = root / "log.txt", Path(os.environ["HESCRIBE_CACHE"])
        self.reset()
        first = self.run()
        if first.code:
            raise RuntimeError(f"{command.name} fails undisturbed: {first.said[-2000:]}")
        one = contents(self.out)
        self.reset()
        self.seconds = self.run().seconds
        self.whole = contents(self.out)
        self.unstable = {name for name in one.keys() | self.whole.keys() if one.get(name) != self.whole.get(name)}

    def reset(self) -> None:
        """Remove what was written, and what is remembered."""
        for folder in (self.out, self.cache):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, **more):
        """Run the command."""
        return run(self.command.job(self.out), self.log, **more)

    def end(self, **more) -> str:
        """Run the command again, and return how what it leaves differs from what it should; empty if it does not."""
        done = self.run(**more)
        refused = done.code == 1 and not self.command.resumes and str(self.out) in done.said
        if done.code and not refused:
            return f"it fails with {done.code}: {done.said.strip()[-300:]}"
        return self.difference()

    def difference(self) -> str:
        """Return a file that differs; empty if none does."""
        now = contents(self.out) if self.out.exists() else {}
        wrong = [n for n in now.keys() ^ self.whole.keys() if n not in self.unstable]
        wrong += [n for n in now.keys() & self.whole.keys() if now[n] != self.whole[n] and n not in self.unstable]
        return f"{len(wrong)} files differ, such as {min(wrong)}" if wrong else ""

    def leftovers(self) -> list[Path]:
        """Return what was begun and not finished."""
        places = (self.out.parent, self.cache)
        return [p for place in places if place.exists() for p in place.rglob(".*.tmp*")]


def torture(subject: Subject, n_kills: int, rng: random.Random) -> tuple[str, bool]:
    """Return a line for the log, and whether all went well."""
    command = subject.command
    n_killed = n_early = n_wrong = n_tries = 0
    problems, left = [], 0
    subject.reset()
    while n_killed < n_kills and n_tries < 6 * n_kills:
        n_tries += 1
        done = subject.run(kill_after_s=rng.uniform(0.02, 1.0) * subject.seconds)
        if not done.was_killed:
            n_early += 1
            subject.reset()
            continue
        n_killed += 1
        if command.resumes and rng.random() < 0.5:
            continue  # killed again at once: a run goes on from what several kills left
        left = max(left, len(subject.leftovers()))
        if problem := subject.end():
            n_wrong += 1
            problems.append(problem)
        if rng.random() < 0.7:
            subject.reset()
        elif not command.resumes:
            shutil.rmtree(subject.out, ignore_errors=True)
    last = subject.end()
    stale = _remove_later(subject)
    ok = not n_wrong and not last and not stale
    line = (
        f"{command.name:17s} {subject.seconds:5.1f} s  {n_killed:3d} kills  {n_wrong} differing  "
        f"half-written files {left}, a day later {stale}"
    )
    if subject.unstable:
        line += f"  (not compared: {', '.join(sorted(subject.unstable))})"
    for problem in dict.fromkeys([*problems, *([last] if last else [])]):
        line += f"\n  {problem}"
    return line, ok


def _remove_later(subject: Subject) -> int:
    """Return how many half-written files are still there when the command writes the whole ones again a day later."""
    left = subject.leftovers()
    for path in left:
        os.utime(path, (0, time.time() - LONG_AGO_S))
    if not subject.command.resumes:
        shutil.rmtree(subject.out, ignore_errors=True)
    for place in (subject.out, subject.cache):
        for path in place.rglob("*") if place.exists() else ():
            if path.is_file() and not any(path == old or old in path.parents for old in left):
                path.unlink()
    subject.run()
    return sum(path.exists() for path in left)
