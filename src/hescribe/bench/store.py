"""Result store: one atomic parquet file for each cell, and what a cell predicted."""

import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hescribe._support import write_whole
from hescribe.errors import DataAccessError, FormatError

SCHEMA_VERSION = 1
MEASUREMENTS = ("seconds", "peak_mb", "device")  # may differ between two runs of the same cell
DECIDES = (
    "units.py",
    "params.py",
    "keys.py",
    "cards.py",
    "ahead.py",
    "compiled.py",
    "nearest",
    "data",
    "metrics",
    "prep",
    "complete",
    "train",
    "encode",
    "align",
    "experts",
    "predict",
    "slide",
    "bench",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number, with all that is needed to know where it comes from.

    Parameters
    ----------
    task, protocol, revision, fold, section, donor
        What was scored.
    model, method, params
        Name on the ladder, registry name, parameters as JSON.
    control
        Empty for a predictor; ``"control"``, or ``"uses_truth"`` if it saw the test expression.
    seed
        Of the model.
    metric
        Name of the metric.
    gene
        Gene of a per-gene row; empty for the mean over genes (or spots).
    value
        NaN where nothing is defined.
    n_defined, n_undefined
        Genes (or spots) behind the value.
    chance
        Expected value without knowledge, NaN if it depends on the data.
    ceiling
        Highest reachable value, NaN where it is not known.
    pool_size
        Candidates of a retrieval; 0 where there are none.
    version, data_hash, schema_version
        Of the package, of the data, of this table.
    device, seconds, peak_mb
        Measurements: where the cell ran, how long fit and predict took, peak memory of the process.
    """

    task: str
    protocol: str
    revision: str
    fold: str
    section: str
    donor: str
    model: str
    method: str
    params: str
    control: str
    seed: int
    metric: str
    gene: str
    value: float
    n_defined: int
    n_undefined: int
    chance: float
    ceiling: float
    pool_size: int
    version: str
    data_hash: str
    schema_version: int
    device: str
    seconds: float
    peak_mb: float


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}
SCHEMA = pa.schema([(f.name, _ARROW[f.type]) for f in fields(Row)])  # type: ignore[index]
CELL = "cell"  # column of joined files
COMPRESSED: Any = {"compression": "zstd", "write_page_checksum": True}  # else most flipped bits pass for numbers
JOINED = SCHEMA.append(pa.field(CELL, pa.string()))
CELLS_AT_ONCE = 1000  # in memory while they are joined


@dataclass(frozen=True)
class Store:
    """A folder of finished cells.

    A cell is a file of its own when it is written; ``join`` makes one of many, for 10^5 small files take minutes to
    read. Both are parquet with the columns of ``Row``, in joined ones with one more that names the cell.

    Parameters
    ----------
    path
        Made when the first cell is written.
    """

    path: Path

    def has(self, key: str) -> bool:
        """Return whether the rows of a cell are there."""
        return self._cell(key).exists() or key in self.joined()

    def has_predictions(self, key: str) -> bool:
        """Return whether the predictions of a cell are there and not cut off; looks at the end of the file only."""
        return zipfile.is_zipfile(self._predictions(key))

    def finished(self) -> set[str]:
        """Return the cells whose rows are there."""
        return {*self.joined(), *(path.stem for path in self._alone())}

    def joined(self) -> dict[str, Path]:
        """Return the cells that are in a joined file, each with its path."""
        parts = sorted((self.path / "joined").glob("[!.]*.parquet"))
        return {key: part for part in parts for key in _read(part, JOINED, [CELL])[CELL].unique().to_pylist()}

    def write(self, key: str, rows: Iterable[Row], predictions: dict[str, np.ndarray]) -> None:
        """Write a cell: predictions first, then the rows whose presence says that it is done."""
        if predictions:
            with write_whole(self._predictions(key)) as tmp, tmp.open("wb") as file:
                np.savez(file, **predictions)  # type: ignore[arg-type] # its flag cannot clash with a section id
        columns = zip(*map(attrgetter(*SCHEMA.names), rows), strict=True)
        table = pa.table([pa.array(c, type=f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
        with write_whole(self._cell(key)) as tmp:
            pq.write_table(table, tmp, **COMPRESSED)

    def join(self, *, at_least: int = 1000) -> int:
        """Join the cells that are files of their own, where there are many, and return how many were.

        Safe beside other runs and after a kill: a cell is removed once it is in a joined file, and one that is in both
        is read once.
        """
        alone = sorted(self._alone())
        if len(alone) < at_least:
            return 0
        joined = self.joined()
        added = [path for path in alone if path.stem not in joined]
        if added:
            name = hashlib.sha256("".join(path.stem for path in added).encode()).hexdigest()[:24]
            try:
                _write_joined(self.path / "joined" / f"{name}.parquet", added)
            except _OvertakenError:
                return 0
        for path in alone:
            path.unlink(missing_ok=True)
        return len(alone)

    def read(self, keys: Iterable[str]) -> pd.DataFrame:
        """Return the rows of finished cells, in the order of the keys.

        Raises
        ------
        FormatError
            If a file is damaged; the message says which to delete.
        """
        wanted = list(keys)
        joined, tables = self.joined(), []
        for key in wanted:
            if key not in joined:
                table = _try_cell(self._cell(key))
                if table is None:  # another run has joined it since
                    joined = self.joined()
                    if key not in joined:
                        raise FormatError(f"{self._cell(key)} is gone; run again")
                else:
                    tables.append(table)
        for part in sorted({joined[k] for k in wanted if k in joined}):
            own = pa.array([k for k in wanted if joined.get(k) == part], pa.string())  # one may be in two parts
            tables.append(_read(part, JOINED).filter(pc.field(CELL).isin(own)))
        table = pa.concat_tables([JOINED.empty_table(), *tables])
        place = pc.index_in(table[CELL], value_set=pa.array(wanted, pa.string()))
        table = table.append_column("place", place)
        return table.take(pc.sort_indices(table["place"])).select(SCHEMA.names).to_pandas()

    def read_predictions(self, key: str) -> dict[str, np.ndarray]:
        """Return predicted expression by section id, shape ``(n_spots, n_genes)``; empty if none was kept.

        Raises
        ------
        FormatError
            If a bit of the file differs from what was written; without the file, the next run makes it again.
        """
        if not self._predictions(key).exists():
            return {}
        try:
            with self._predictions(key).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise FormatError(f"{self._predictions(key)} is damaged; delete it and run again") from error

    def _cell(self, key: str) -> Path:
        return self.path / "cells" / f"{key}.parquet"

    def _alone(self) -> Iterator[Path]:
        return (self.path / "cells").glob("[!.]*.parquet")

    def _predictions(self, key: str) -> Path:
        return self.path / "predictions" / f"{key}.npz"


def _read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of a file, or some of its columns.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    FormatError
        If it is damaged, or of another version.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns=columns) if file.schema_arrow.equals(schema) else None
    except (FileNotFoundError, MemoryError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is damaged; delete it and run again") from error
    if table is None:
        raise FormatError(f"{path} is damaged or of another version; delete it and run again")
    return table


class _OvertakenError(Exception):
    """Another run joins the same cells."""


def _write_joined(path: Path, cells: list[Path]) -> None:
    """Write cells as one file; raise ``_OvertakenError`` if one is gone, for the file would replace a whole one."""
    with write_whole(path) as tmp, pq.ParquetWriter(tmp, JOINED, **COMPRESSED) as writer:
        for i in range(0, len(cells), CELLS_AT_ONCE):
            tables = [_try_cell(cell) for cell in cells[i : i + CELLS_AT_ONCE]]
            there = [table for table in tables if table is not None]
            if len(there) < len(tables):
                raise _OvertakenError
            writer.write_table(pa.concat_tables(there))


def _try_cell(path: Path) -> pa.Table | None:
    """Return the rows of a cell, with its key; None if its file is gone."""
    try:
        table = _read(path, SCHEMA)
    except FileNotFoundError:
        return None
    return table.append_column(CELL, pa.array([path.stem] * len(table), pa.string()))


def cell_key(**content: object) -> str:
    """Return the name of a cell: a hash of everything that decides its rows."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def model_code_hash(model: object) -> str:
    """Return the hash of the code behind a model's numbers: ours, and the model's own file."""
    own = inspect.getsourcefile(type(model))
    mine = Path(own).read_bytes() if own and Path(own).exists() else b""
    return hashlib.sha256(_package_hash().encode() + mine).hexdigest()[:16]


@cache
def _package_hash() -> str:
    digest = hashlib.sha256()
    for part in DECIDES:
        root = Path(str(files("hescribe") / part))
        for path in sorted([root] if root.is_file() else [*root.rglob("*.py"), *root.rglob("*.toml")]):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Ledger:
    """How many method variants were scored on the test folds of each task.

    The file only grows: looks stay counted when cells are deleted or overtaken by new code.

    Parameters
    ----------
    path
        The store's folder.
    """

    path: Path

    def add(self, task: str, protocol: str, model: str, params: str) -> None:
        """Count a look. A look already counted adds nothing."""
        line = json.dumps([task, protocol, model, params])
        if line not in self._lines():
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:  # one write, so that a kill leaves whole lines; a full disk may tear one, which is then skipped
                    os.write(handle, f"\n{line}\n".encode())
                finally:
                    os.close(handle)
            except OSError as error:
                raise DataAccessError(f"{self._file} cannot be written: {error.strerror or error}") from error

    def looks(self, task: str, protocol: str) -> int:
        """Return the number of variants scored on a task."""
        begin = json.dumps([task, protocol])[:-1] + ","
        return sum(line.startswith(begin) for line in self._lines())

    @property
    def _file(self) -> Path:
        return self.path / "ledger.jsonl"

    def _lines(self) -> set[str]:
        lines = self._file.read_text("utf-8", "replace").splitlines() if self._file.exists() else []
        return {line for line in lines if line.startswith("[") and line.endswith("]")}
