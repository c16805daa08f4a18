"""Parse a Matrix Market file of counts: a head, and a line for each value that is not 0.

scipy's own parser was seen to end the process on a damaged line; arrow's refuses it.
"""

import re
from pathlib import Path

import numpy as np
from pyarrow import BufferReader, DataType, csv, float64, int32
from scipy import sparse

from hescribe.data.untrusted import named_damage, read_packed
from hescribe.errors import FormatError

HEAD = re.compile(rb"%%MatrixMarket\s+matrix\s+coordinate\s+(integer|real)\s+general\s*", re.IGNORECASE)
BLANKS = re.compile(rb"[ \t\r]+")
COLUMNS = ("row", "column", "value")


def read_matrix_market(path: Path, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Read counts, gzipped or not.

    Parameters
    ----------
    path
        File of coordinates.
    shape
        Rows and columns that it must have: memory is taken for no others.

    Returns
    -------
    Shape ``shape``, int32, or float64 if the head says that its values are real.

    Raises
    ------
    FormatError
        If it is no such file, is cut off, is of another shape, or holds what is no number.
    """
    with named_damage(path, "is damaged or truncated"):
        head, _, rest = read_packed(path).partition(b"\n")
        said = HEAD.fullmatch(head)
        if not said:
            raise FormatError(f"{path} is no Matrix Market file of general coordinates: it begins with {head[:60]!r}")
        while rest.startswith(b"%"):
            rest = rest.partition(b"\n")[2]
        sizes, _, body = rest.partition(b"\n")
        n_rows, n_columns, n_values = (int(n) for n in sizes.split())
        row, column, value = _read_body(body, float64() if said[1].lower() == b"real" else int32())
    if (n_rows, n_columns) != shape:
        raise FormatError(
            f"{path} holds {n_rows} x {n_columns}, and its lists name {shape[0]} x {shape[1]}: the files do not belong "
            "together or one is truncated"
        )
    if len(value) != n_values:
        raise FormatError(f"{path} is damaged or truncated: it holds {len(value)} values, its head says {n_values}")
    if n_values and not (1 <= row.min() <= row.max() <= n_rows and 1 <= column.min() <= column.max() <= n_columns):
        raise FormatError(f"{path} is damaged: a value lies outside of its {n_rows} rows and {n_columns} columns")
    return sparse.csr_matrix((value, (row - 1, column - 1)), shape=shape)


def _read_body(body: bytes, kind: DataType) -> list[np.ndarray]:
    """Return row, column and value of each line; lines apart from one blank between numbers are made so first."""
    if not body.strip():
        return [np.empty(0, dtype=np.int32)] * 3
    if b"\t" in body or b"\r" in body or b"  " in body or b" \n" in body or b"\n " in body or body.startswith(b" "):
        body = b"\n".join(BLANKS.sub(b" ", line).strip() for line in body.split(b"\n"))
    table = csv.read_csv(
        BufferReader(body),
        read_options=csv.ReadOptions(column_names=COLUMNS, block_size=1 << 24),
        parse_options=csv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, int32()) | {"value": kind}, null_values=[]
        ),
    )
    return [table[name].to_numpy() for name in COLUMNS]
