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
        return machine_code(loop)

    @wraps(loop)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return get()(*args, **kwargs)

    return run


def machine_code(loop: Callable[P, R], *, any_order: bool = False) -> Callable[P, R]:
    """Return ``loop`` as a function of numba's, which other such functions can call.

    Parameters
    ----------
    loop
        As of ``compiled``.
    any_order
        Whether sums may be taken in another order than written, which lets the processor add several numbers
        at once. The order is fixed when the loop is compiled: the same input gives the same sum.
    """
    import numba  # noqa: PLC0415 - 0.5 s

    freedom = {"reassoc", "contract", "nsz"} if any_order else False
    try:
        code: Callable[P, R] = numba.njit(cache=True, nogil=True, fastmath=freedom)(loop)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        code = numba.njit(nogil=True, fastmath=freedom)(loop)
    return code
