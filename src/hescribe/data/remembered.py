"""Arrays in the cache, each with a note beside it: what it was made from, and its checksum."""

import json
import zlib
from pathlib import Path

import numpy as np

from hescribe._support import write_whole
from hescribe.data.untrusted import parse_json, read_npy


def write_note(where: Path, crc32: int, facts: dict[str, object]) -> None:
    """Write the note of an array, once the array is in its place.

    Parameters
    ----------
    where
        Of the array.
    crc32
        Of its values in their order.
    facts
        That it depends on, ready for JSON.
    """
    with write_whole(where.with_suffix(".json")) as tmp:
        tmp.write_text(json.dumps({"crc32": crc32, **facts}))


def read_remembered(
    where: Path, shape: tuple[int, ...], dtype: type[np.generic], *, in_memory: bool = True
) -> np.ndarray | None:
    """Return an array, or a map of its file; None if it is not there, or not as it was written.

    Parameters
    ----------
    where
        An npy file.
    shape, dtype
        As it was written.
    in_memory
        False for an array that need not fit: it is read once all the same, for its checksum.
    """
    try:
        note = parse_json(where.with_suffix(".json").read_bytes(), where)
        found = read_npy(where, in_memory=in_memory)
        crc32 = zlib.crc32(np.ascontiguousarray(found).data)
        is_whole = found.shape == shape and found.dtype == dtype and crc32 == note["crc32"]
    except (OSError, KeyError, TypeError):  # FormatError is an OSError
        return None
    return found if is_whole else None
