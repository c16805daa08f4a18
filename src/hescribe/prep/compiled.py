"""Compile a loop over arrays to machine code the first time it is called."""

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def compiled(loop: Callable[P, R]) -> Callable[P, R]:
    """Return ``loop`` compiled by numba; importing the module that holds it compiles nothing.

    The machine code is kept on disk where that is possible, so that a second process starts at once.

    Parameters
    ----------
    loop
        A function of arrays and numbers that numba can compile.

    Examples
    --------
    >>> import numpy as np
    >>> @compiled
    ... def total(x: np.ndarray) -> float:
    ...     out = 0.0
    ...     for value in x:
    ...         out += value
    ...     return out
    >>> total(np.ones(3))
    3.0
    """

    @cache
    def get() -> Callable[P, R]:
        import numba  # noqa: PLC0415 - 0.5 s

        try:
            code: Callable[P, R] = numba.njit(cache=True, nogil=True)(loop)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            code = numba.njit(nogil=True)(loop)
        return code

    @wraps(loop)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return get()(*args, **kwargs)

    return run
