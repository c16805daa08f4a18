"""Files that others wrote: a damaged one is an error with its name, and none takes more memory than it holds."""

import gzip
import json
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pyarrow import parquet
from scipy import sparse

from hescribe.errors import FormatError, HescribeError

FREE_BYTES = 256 << 20  # may be claimed whatever the file holds
RATIO = 3000.0  # bytes in memory for a byte on disk; deflate reaches 1032, LZW 2700
GZIP_RATIO = 300.0  # of text
HEAP = b"GCOL\1\0\0\0"  # begins a heap of texts in HDF5
MAX_DIGITS = 19  # of an integer in 64 bits


@contextmanager
def named_damage(path: Path | str, what: str = "is damaged") -> Iterator[None]:
    """Turn whatever a library raises for a damaged file into one error with its name.

    For calls of a format's library alone: a mistake of our own must not be told as damage.

    Raises
    ------
    FormatError
        If the block raises anything but a ``HescribeError``.

    Examples
    --------
    >>> with named_damage("a.npy"):
    ...     raise KeyError("head")
    Traceback (most recent call last):
    hescribe.errors.FormatError: a.npy is damaged: 'head'
    """
    try:
        yield
    except HescribeError:
        raise
    except Exception as error:  # each format has its own error for each way to be damaged
        raise FormatError(f"{path} {what}: {_first_line(error)}") from error


def check_claim(n_bytes: int, stored: int, path: Path | str) -> None:
    """Refuse a file whose head claims more than its bytes can hold, before memory is taken for it.

    Parameters
    ----------
    n_bytes
        That reading it takes.
    stored
        Bytes on disk that they are made of.
    path
        For the message.

    Raises
    ------
    FormatError
        If that is over 256 MB and over 3000 bytes for each byte on disk.

    Examples
    --------
    >>> check_claim(10**9, 20, "a")
    Traceback (most recent call last):
    hescribe.errors.FormatError: a claims 1,000,000,000 bytes and holds 20: it is damaged or made to fill memory
    """
    if n_bytes > FREE_BYTES and n_bytes > RATIO * stored:
        raise FormatError(f"{path} claims {n_bytes:,} bytes and holds {stored:,}: it is damaged or made to fill memory")


@contextmanager
def open_h5(path: Path, what: str = "is damaged or no HDF5 file") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    FormatError
        If the block raises what is no ``HescribeError``, or a dataset claims what the file does not hold, or lies
        in another file.
    """
    with named_damage(path, what), h5py.File(path) as file:
        _check_heaps(path)
        file.visititems(lambda name, node: _check_node(name, node, path))
        yield file


def _check_heaps(path: Path) -> None:
    """Refuse a heap of texts with an object that does not end inside it: libhdf5 would read it for ever."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        heap = content.find(HEAP)
        while heap >= 0:
            end = min(heap + int.from_bytes(content[heap + 8 : heap + 16], "little"), len(content))
            at = heap + 16
            while at + 16 <= end:
                number, n_bytes = struct.unpack_from("<H6xQ", content, at)
                step = 16 + (n_bytes + 7) // 8 * 8 if number else n_bytes  # number 0 is what is free
                if not 0 < step <= end - at:
                    raise FormatError(f"{path} is damaged: an object of its heap has no end; get the file again")
                at += step
            heap = content.find(HEAP, heap + 8)


def _check_node(name: str, node: h5py.Dataset | h5py.Group, path: Path) -> None:
    if isinstance(node, h5py.Dataset):
        if node.external or node.is_virtual:
            raise FormatError(f"{path} keeps {name} in another file; write it as one file")
        check_claim(node.size * node.dtype.itemsize if node.shape else 0, node.id.get_storage_size(), path)


def check_sparse(matrix: sparse.csr_matrix | sparse.csc_matrix) -> None:
    """Raise ``ValueError`` if the parts of a matrix contradict each other: scipy reads beyond memory by them.

    Its own check passes over the starts of rows where the last of them says that the matrix is empty.

    Examples
    --------
    >>> parts = np.ones(2), np.array([0, 0]), np.array([0, 2, 0])
    >>> check_sparse(sparse.csr_matrix(parts, shape=(2, 3)))
    Traceback (most recent call last):
    ...
    ValueError: a row ends before it starts
    """
    matrix.check_format(full_check=True)
    if (np.diff(matrix.indptr) < 0).any():
        raise ValueError(f"a {'row' if matrix.format == 'csr' else 'column'} ends before it starts")


def read_npy(path: Path, *, in_memory: bool = True) -> np.ndarray:
    """Return an array of numbers, or a map of the file.

    Raises
    ------
    FormatError
        If it is damaged, cut off, no npy file, or holds objects.
    """
    with named_damage(path, "is damaged or no npy file"):
        # A map before anything else: it refuses a head that claims more than the file holds.
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(found) if in_memory else found


def read_packed(path: Path) -> bytes:
    """Return the content of a text file, unpacked if it is gzipped.

    Raises
    ------
    FormatError
        If it is damaged or cut off, or unpacks to over 256 MB and 300 times its size: count tables reach 100.
    """
    with named_damage(path, "is damaged or truncated"), path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.read_bytes()
        limit = max(FREE_BYTES, int(GZIP_RATIO * path.stat().st_size))
        with gzip.open(path) as packed:
            content = packed.read(limit + 1)
    if len(content) > limit:
        raise FormatError(f"{path} unpacks to over {limit:,} bytes: it is damaged or made to fill memory")
    return content


def check_parquet(
    path: Path, columns: list[str] | None = None, what: str = "is damaged or no parquet file"
) -> list[str]:
    """Return the columns of a parquet file, and refuse one whose head claims what it does not hold.

    Parameters
    ----------
    path
        The file.
    columns
        Those that will be read; all by default.
    what
        Said of one that cannot be read.

    Raises
    ------
    FormatError
        If it is damaged, or claims too much.
    """
    with named_damage(path, what), parquet.ParquetFile(path) as file:
        names: list[str] = file.schema_arrow.names
        n_read = len(names) if columns is None else len(set(columns) & set(names))
        check_claim(8 * file.metadata.num_rows * n_read, path.stat().st_size, path)
    return names


def parse_json(text: str | bytes, where: Path | str) -> Any:
    """Return what JSON holds; integers beyond 64 bits are refused, for no number of ours is that large.

    Raises
    ------
    FormatError
        If it is no JSON.

    Examples
    --------
    >>> parse_json("[1, 2", "a.json")
    Traceback (most recent call last):
    hescribe.errors.FormatError: a.json is damaged or no JSON: Expecting ',' delimiter: line 1 column 6 (char 5)
    """
    try:
        return json.loads(text, parse_int=_to_int)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is damaged or no JSON: {error}") from error


def _to_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS + digits.startswith("-"):
        raise ValueError(f"the number {digits[:10]}... has {len(digits)} digits")
    return int(digits)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
