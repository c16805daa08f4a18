"""Give a target damaged input, and say in which way it broke its promise.

The promise: a ``HescribeError`` or success; within 5 s of work; no file but the target's; no temporary file; no memory
that the input does not hold. What is broken is an ``Escape``, with the changes that are enough to see it again.
"""

import os
import random
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import clear, mutate_tree

from hescribe.errors import HescribeError

LIMIT_S = 5.0
LIMIT_BYTES = 2 << 30  # of address space beyond what the process has
MAX_CHANGES = 3


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Parameters
    ----------
    name
        For the log and for ``--target``.
    build
        Writes a valid input into an empty folder.
    use
        Reads the folder; may write to the second path, and nowhere else.
    mutate
        Changes one thing in the folder, and says what.
    share
        How often it is drawn, against 1.
    """

    name: str
    build: Callable[[Path], None]
    use: Callable[[Path, Path], object]
    mutate: Callable[[Path, random.Random], str] = mutate_tree
    share: float = 1.0


@dataclass(frozen=True)
class Escape:
    """A broken promise."""

    target: str
    seed: int
    what: str
    changes: tuple[str, ...]
    trace: str = ""

    def __str__(self) -> str:
        steps = "\n".join(f"  {c}" for c in self.changes)
        again = f"python -m benchmarks.fuzz --target {self.target} --seed {self.seed}"
        return f"{self.target} {self.seed}: {self.what}\n{steps}\n{self.trace}  again: {again}"


class Box:
    """A folder of its own for each input: source, target and temporary files, and nothing else may appear in it."""

    def __init__(self, target: Target, root: Path) -> None:
        self.target, self.root = target, root / target.name
        self.pristine = self.root / "pristine"
        clear(self.root)
        self.pristine.mkdir(parents=True)
        target.build(self.pristine)
        self.check_valid()

    def check_valid(self) -> None:
        """Raise what the target raises for its valid input: a target that refuses it tests nothing."""
        source, out = self._lay_out()
        with _temporary(self.root / "run" / "tmp"):
            self.target.use(source, out)

    def run(self, seed: int, steps: tuple[int, ...] | None = None) -> Escape | None:
        """Return how an input of a seed escapes, None if it does not.

        Parameters
        ----------
        seed
            Of the changes.
        steps
            Which of the changes are made; all by default.
        """
        source, out = self._lay_out()
        rng = random.Random(f"{self.target.name} {seed}")  # noqa: S311 - changes, no secret
        seeds = [rng.random() for _ in range(rng.randint(1, MAX_CHANGES))]
        chosen = range(len(seeds)) if steps is None else steps
        changes = tuple(self._change(source, seeds[i]) for i in chosen)
        return self._try(source, out, seed, changes)

    def try_file(self, name: str, content: bytes) -> Escape | None:
        """Return how a file of the input escapes that holds something else."""
        source, out = self._lay_out()
        (source / name).write_bytes(content)
        return self._try(source, out, -1, (f"{name}: {content[:80]!r}",))

    def _try(self, source: Path, out: Path, seed: int, changes: tuple[str, ...]) -> Escape | None:
        before = set(_walk(self.root / "run"))
        refused, what, trace = False, "", ""
        begin = time.process_time()  # the machine may have other work
        try:
            with _temporary(self.root / "run" / "tmp"), _limited_memory(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.target.use(source, out)
        except HescribeError as error:
            refused = True
            if _is_memory(error):
                what, trace = "asked for more memory than the input holds", _last_lines(error)
        except Exception as error:  # noqa: BLE001 - any other error is an escape
            what = f"{type(error).__name__}: {str(error)[:200]}"
            trace = _last_lines(error)
        took = time.process_time() - begin
        what = what or self._find_traces(before, out, refused=refused)
        if not what and took > LIMIT_S:
            what = f"took {took:.1f} s"
        return Escape(self.target.name, seed, what, changes, trace) if what else None

    def _change(self, source: Path, seed: float) -> str:
        try:
            return self.target.mutate(source, random.Random(seed))  # noqa: S311 - as above
        except Exception as error:  # noqa: BLE001 - what one change left may be no place for the next
            return f"none: {error}"

    def reduce(self, escape: Escape) -> Escape:
        """Return the same escape from as few changes as show it."""
        steps = tuple(range(len(escape.changes)))
        for step in list(steps):
            fewer = tuple(s for s in steps if s != step)
            found = self.run(escape.seed, fewer) if fewer else None
            if found is not None and found.what.split(":")[0] == escape.what.split(":")[0]:
                steps, escape = fewer, found
        return escape

    def _lay_out(self) -> tuple[Path, Path]:
        run = self.root / "run"
        clear(run)
        source = run / "a/b/source"
        (run / "tmp").mkdir(parents=True)
        _copy(self.pristine, source)
        return source, run / "a/b/out"

    def _find_traces(self, before: set[Path], out: Path, *, refused: bool) -> str:
        """Return which file should not be there; empty if there is none."""
        new = [p for p in set(_walk(self.root / "run")) - before if p != out and out not in p.parents]
        if new:
            return f"left {min(new).relative_to(self.root / 'run')}"
        if refused and out.exists():
            return "wrote its target although it refused the input"
        return ""


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.rglob("*"):
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir(parents=True, exist_ok=True)
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))


@contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Let temporary files go where they are seen."""
    old, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = old


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Refuse what no small input needs; on Linux, which says how much a process has."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    has = int(statm.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _is_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _last_lines(error: BaseException) -> str:
    own = [f for f in traceback.extract_tb(error.__traceback__) if "hescribe" in f.filename or "fuzz" in f.filename]
    return "".join(f"  {Path(f.filename).name}:{f.lineno} {f.line}\n" for f in own[-4:])
