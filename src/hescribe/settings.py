"""Facts of the machine: where the cache is, whether the network may be used. Never a number in a result."""

import os
from pathlib import Path

from hescribe.errors import InputError


def cache_dir() -> Path:
    """Return the folder of cached features and downloads.

    ``HESCRIBE_CACHE`` if set, else ``hescribe`` below ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if given := os.environ.get("HESCRIBE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hescribe"


def is_offline() -> bool:
    """Return whether the network must not be used: ``HESCRIBE_OFFLINE`` or ``HF_HUB_OFFLINE`` is set."""
    return any(os.environ.get(k, "").lower() in {"1", "true", "yes"} for k in ("HESCRIBE_OFFLINE", "HF_HUB_OFFLINE"))


def n_workers() -> int:
    """Return the number of processor cores this process may use; ``HESCRIBE_WORKERS`` overrides it.

    Raises
    ------
    InputError
        If ``HESCRIBE_WORKERS`` is no number.
    """
    if given := os.environ.get("HESCRIBE_WORKERS"):
        if not given.isdecimal():
            raise InputError(f"HESCRIBE_WORKERS must be a number of cores, got {given!r}")
        return max(1, int(given))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
