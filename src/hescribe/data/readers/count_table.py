"""Parse a tab-separated table of counts: genes in the head line, one spot a line.

Legacy ST tables are mostly zeros written out: one pass over the bytes keeps the other values only.
"""

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

from hescribe.errors import DataAccessError, FormatError, SchemaError

TAB, ZERO = 9, 48
MAX_DIGITS = 9  # what fits an int32 for sure


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
    head, *lines = _read_text(path).splitlines()
    genes = tuple(head.decode("utf-8", "replace").rstrip("\t").split("\t"))
    genes = genes[1:] if head[:1] in b"\t" or _n_values(lines) == len(genes) - 1 else genes
    spots, values = [], []
    for number, line in enumerate(lines, start=2):
        name, _, rest = line.partition(b"\t")
        if rest.count(b"\t") + 1 != len(genes):
            raise FormatError(
                f"{path}, line {number} has {rest.count(9) + 1 if rest else 0} values, and the head names "
                f"{len(genes)} genes; the file may be truncated"
            )
        spots.append(name.decode("utf-8", "replace"))
        values.append(rest)
    if not lines or not genes:
        raise FormatError(f"{path} holds no {'spot' if not lines else 'gene'}")
    return _parse(values, tuple(spots), genes, path), tuple(spots), genes


def _n_values(lines: list[bytes]) -> int:
    return lines[0].count(b"\t") if lines else -1


def _read_text(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{path} is damaged or truncated: {error}") from error
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: {error.strerror or error}") from error
    if not text.strip():
        raise FormatError(f"{path} is empty")
    return text


def _parse(lines: list[bytes], spots: tuple[str, ...], genes: tuple[str, ...], path: Path) -> sparse.csr_matrix:
    """Return the numbers of lines that hold nothing but values and tabs."""
    text = np.frombuffer(b"\t".join([*lines, b""]), dtype=np.uint8)  # every value ends with a tab
    values, columns = np.empty((2, len(spots) * len(genes)), dtype=np.int32)  # pages are taken as they are filled
    indptr = np.zeros(len(spots) + 1, dtype=np.int32)
    n_values = _digits_to_csr()(text, len(genes), values, columns, indptr)
    if n_values < 0:
        return _parse_slowly(lines, spots, genes, path)
    parts = (values[:n_values].copy(), columns[:n_values].copy(), indptr)
    return sparse.csr_matrix(parts, shape=(len(spots), len(genes)))


@cache
def _digits_to_csr() -> Callable[..., int]:
    """Return the compiled loop over the bytes of a table."""
    import numba  # noqa: PLC0415 - 0.5 s, and half a second to compile

    @numba.njit(nogil=True)
    def fill(text, n_genes, values, columns, indptr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        n_values = row = column = value = n_digits = 0
        for char in text:
            digit = char - ZERO
            if char == TAB and n_digits > 0:
                if value > 0:
                    values[n_values], columns[n_values] = value, column
                    n_values += 1
                value = n_digits = 0
                column += 1
                if column == n_genes:
                    column = 0
                    row += 1
                    indptr[row] = n_values
            elif 0 <= digit <= 9 and n_digits < MAX_DIGITS:
                value = value * 10 + digit
                n_digits += 1
            else:  # a sign, a point, a letter, an empty value
                return -1
        return n_values

    return fill


def _parse_slowly(lines: list[bytes], spots: tuple[str, ...], genes: tuple[str, ...], path: Path) -> sparse.csr_matrix:
    """Return the numbers of lines that hold more than digits: integers in another dress, or an error."""
    rows = []
    for spot, line in zip(spots, lines, strict=True):
        row = np.zeros(len(genes))
        for i, text in enumerate(line.split(b"\t")):
            try:
                row[i] = float(text)
            except ValueError:
                row[i] = np.nan
            if not (row[i] >= 0 and row[i] == np.floor(row[i]) and row[i] < 10**MAX_DIGITS):
                shown = text.decode("utf-8", "replace")
                raise SchemaError(
                    str(path),
                    [f"spot {spot}, gene {genes[i]}: {shown!r} is not a count (an integer, 0 or more)"],
                )
        rows.append(sparse.csr_matrix(row.astype(np.int32)))
    return sparse.vstack(rows, format="csr")
