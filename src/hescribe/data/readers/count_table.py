"""Parse a tab-separated table of counts: genes in the head line, one spot a line.

Legacy ST tables are mostly zeros written out: one pass over the bytes keeps the other values only.
"""

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

from hescribe.data.untrusted import read_packed
from hescribe.errors import DataAccessError, FormatError, SchemaError

TAB, NEWLINE, ZERO = 9, 10, 48
MAX_DIGITS = 9  # what fits an int32 for sure

_compiling = threading.Lock()


def read_count_table(path: Path) -> tuple[sparse.csr_matrix, tuple[str, ...], tuple[str, ...]]:
    """Read a table of counts, gzipped or not.

    Returns
    -------
    Counts of shape ``(n_spots, n_genes)`` int32, names of the spots, names of the genes.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is truncated, or a line has more or fewer values than the head has genes.
    SchemaError
        If a value is not a non-negative integer: the first is named with its spot and gene.
    """
    text = _read_text(path)
    head, *lines, _ = text.split(b"\n")
    genes = tuple(head.decode("utf-8", "replace").split("\t"))
    if lines and lines[0].count(b"\t") == len(genes) - 1:
        genes = genes[1:]  # the corner above the spot names; R leaves it out
    if not lines or not genes:
        raise FormatError(f"{path} holds no {'gene' if lines else 'spot'}")
    spots = tuple(line[: max(line.find(b"\t"), 0)].decode("utf-8", "replace") for line in lines)
    shape = (len(spots), len(genes))
    values, columns = np.empty((2, shape[0] * shape[1]), dtype=np.int32)  # memory is taken as it is filled
    indptr = np.zeros(shape[0] + 1, dtype=np.int32)
    n_values = _get_parser()(np.frombuffer(text, dtype=np.uint8)[len(head) + 1 :], shape[1], values, columns, indptr)
    if n_values < 0:
        return _parse_slowly(lines, genes, path), spots, genes
    parts = (values[:n_values].copy(), columns[:n_values].copy(), indptr)
    return sparse.csr_matrix(parts, shape=shape), spots, genes


def _read_text(path: Path) -> bytes:
    """Return the unpacked file with plain line ends, the last line included."""
    if not path.is_file():
        raise DataAccessError(f"{path} cannot be read: there is no such file")
    text = read_packed(path)
    if not text[:1024].strip():
        raise FormatError(f"{path} is empty")
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") and not text.endswith(b"\n\n") else text.rstrip(b"\n") + b"\n"


def _get_parser() -> Callable[..., int]:
    with _compiling:  # two threads that need it first compile it once
        return _compile_parser()


@cache
def _compile_parser() -> Callable[..., int]:
    """Return the loop over the bytes of a table's body; it returns -1 for anything but plain integers."""
    import numba  # noqa: PLC0415 - 0.5 s

    @numba.njit("int64(Array(uint8, 1, 'C', readonly=True), int64, int32[::1], int32[::1], int32[::1])", nogil=True)
    def parse(text, n_genes, values, columns, indptr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        n_values = row = column = value = n_digits = 0
        in_name = True
        for char in text:
            digit = char - ZERO
            if in_name:
                in_name = char != TAB
                if char == NEWLINE:
                    return -1  # a line without values
            elif 0 <= digit <= 9 and n_digits < MAX_DIGITS:
                value = value * 10 + digit
                n_digits += 1
            elif (char == TAB or char == NEWLINE) and n_digits > 0 and column < n_genes:  # noqa: PLR1714, SIM109 - a set is slow here
                if value > 0:
                    values[n_values], columns[n_values] = value, column
                    n_values += 1
                value = n_digits = 0
                column += 1
                if char == NEWLINE:
                    if column != n_genes:
                        return -1  # too few values
                    row += 1
                    indptr[row] = n_values
                    column, in_name = 0, True
            else:
                return -1  # a sign, a point, a letter, an empty value, too many values
        return n_values

    return parse


def _parse_slowly(lines: list[bytes], genes: tuple[str, ...], path: Path) -> sparse.csr_matrix:
    """Return counts that are written as ``3.0`` or ``1e3``, or say what is wrong and where."""
    rows = []
    for number, line in enumerate(lines, start=2):
        spot, *texts = line.decode("utf-8", "replace").split("\t")
        if len(texts) != len(genes):
            raise FormatError(
                f"{path}, line {number} has {len(texts)} values, and the head names {len(genes)} genes; "
                "the file may be truncated"
            )
        for gene, text in zip(genes, texts, strict=True):
            if not _is_count(text):
                problem = f"spot {spot}, gene {gene}: {text!r} is not a count (an integer, 0 or more)"
                raise SchemaError(str(path), [problem])
        rows.append(sparse.csr_matrix(np.array(texts, dtype=np.float64).astype(np.int32)))
    return sparse.vstack(rows, format="csr")


def _is_count(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return 0 <= value < 10**MAX_DIGITS and value.is_integer()
