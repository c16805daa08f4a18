"""Progress of long work: the libraries' loops report here, whoever shows it listens.

Nothing is shown unless someone listens, as the command line does with a bar on standard error.
"""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Listener(Protocol):
    """Whoever shows progress."""

    def start(self, label: str, total: int | None) -> int:
        """Begin a piece of work and return its handle."""
        ...

    def advance(self, handle: int, n: int) -> None:
        """Report ``n`` more units done."""
        ...

    def stop(self, handle: int) -> None:
        """End a piece of work."""
        ...


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Send the progress of everything inside the block to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and report each one as done.

    Examples
    --------
    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    handle = listener.start(label, total if total is not None or not isinstance(items, Sized) else len(items))
    try:
        for item in items:
            yield item
            listener.advance(handle, 1)
    finally:
        listener.stop(handle)
