"""The only file that prints: results to stdout, talk and progress bars to stderr."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hescribe import progress
from hescribe.errors import HescribeError

AFTER_S = 0.5  # a bar appears only for work that takes longer than this


@dataclass
class Output:
    """How this run talks: set once by the options every command has."""

    as_json: bool = False
    quiet: bool = False
    debug: bool = False

    def say(self, text: str) -> None:
        """Tell the user something, on stderr."""
        if not self.quiet:
            Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)

    def result(self, data: dict[str, Any], text: str | None = None) -> None:
        """Print the result on stdout: one JSON object, or the text."""
        if self.as_json:
            print(json.dumps(data, allow_nan=False))
        elif text is not None:
            print(text)

    def table(self, rows: list[dict[str, Any]], title: str = "") -> None:
        """Print rows as a table on stdout (nothing under ``--json``)."""
        if self.as_json or not rows:
            return
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in rows[0]:
            has_numbers = any(isinstance(row[column], float | int) for row in rows)
            table.add_column(column, justify="right" if has_numbers else "left")
        for row in rows:
            table.add_row(*("-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        width = None if sys.stdout.isatty() else 160
        Console(highlight=False, width=width).print(table, markup=False)


OUTPUT = Output()


def plural(n: int, word: str) -> str:
    """Return a number with its word: ``1 section``, ``2 sections``."""
    return f"{n} {word}{'' if n == 1 else 's'}"


class Bars:
    """Progress bars with the time left, on stderr."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._since = bars, {}  # type: ignore[var-annotated]

    def start(self, label: str, total: int | None) -> int:
        """Begin a bar, hidden until the work turns out to be long."""
        handle = self._bars.add_task(label, total=total, visible=False)
        self._since[handle] = time.monotonic()
        return handle

    def advance(self, handle: int, n: int) -> None:
        """Move the bar."""
        late = time.monotonic() - self._since[handle] > AFTER_S
        self._bars.update(handle, advance=n, visible=late)  # type: ignore[arg-type]

    def stop(self, handle: int) -> None:
        """Take the bar away."""
        self._bars.remove_task(handle)  # type: ignore[arg-type]


@contextmanager
def show_progress() -> Iterator[None]:
    """Show the progress of the block as bars, unless the user wants quiet or stderr is no terminal."""
    console = Console(stderr=True)
    if OUTPUT.quiet or not console.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars, progress.listen(Bars(bars)):
        yield


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--json``, ``--quiet``, ``--debug``, progress bars and plain errors.

    A ``HescribeError`` ends with its message on stderr and exit code 1; so does an interrupt.
    """
    import inspect  # noqa: PLC0415 - only this function needs it

    @wraps(function)
    def run(*args: Any, json: bool = False, quiet: bool = False, debug: bool = False, **kwargs: Any) -> None:
        OUTPUT.as_json, OUTPUT.quiet, OUTPUT.debug = json, quiet, debug
        try:
            with show_progress():
                function(*args, **kwargs)
        except (HescribeError, MemoryError, KeyboardInterrupt, OSError) as error:
            if debug:
                raise
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {reason}", markup=False)
            raise typer.Exit(1) from error

    signature = inspect.signature(function)
    flags = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=a)
        for n, a in (("json", Json), ("quiet", Quiet), ("debug", Debug))
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *flags])  # type: ignore[attr-defined]
    run.__annotations__ = {**function.__annotations__, "json": Json, "quiet": Quiet, "debug": Debug}
    return run


def tell_spread(low: float | None, high: float | None, by_donor: dict[str, float]) -> str | None:
    """Return an interval in words, or the values of the donors where they are too few for one."""
    if low is not None and high is not None:
        return f"[{low:.3f}, {high:.3f}]"
    return "  ".join(f"{d} {v:.3f}" for d, v in by_donor.items()) or None
