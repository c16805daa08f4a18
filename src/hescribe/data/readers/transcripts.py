"""Transcripts of an imaging platform summed in squares, chunk by chunk.

The squares lie on the platform's own um axes from its origin, so that their side is what it says on
every section. HEST's library lays them on the H&E image instead, with an estimated pixel size and
16-bit counts, and keeps control probes and uncertain calls (Jaume et al., NeurIPS 2024, library 1.1.0).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet
from scipy import sparse

from hescribe.errors import FormatError, SchemaError
from hescribe.progress import track

FEATURE, X_UM, Y_UM, QUALITY = NEEDED = ("feature_name", "x_location", "y_location", "qv")
IS_GENE, CATEGORY = "is_gene", "codeword_category"  # since Xenium Onboard Analysis 3.0
GENE_CATEGORIES = ("predesigned_gene", "custom_gene")
CONTROL_PREFIXES = (
    "NegControl",
    "BLANK",
    "antisense_",
    "Unassigned",
    "Deprecated",
    "Intergenic_Region",
    "GenomicControl",
)
CHUNK = 2**20  # transcripts held at once
SLIDE_UM = (24_000.0, 12_000.0)  # a Xenium slide shows 22.45 x 10.45 mm of tissue: beyond it, these are no um
GENE_BITS, PLACE_BITS = 20, 16  # of a 64-bit key: row, column, gene


@dataclass(frozen=True)
class Squares:
    """Counts of the squares that hold at least one transcript.

    Parameters
    ----------
    counts
        Shape ``(n_squares, n_genes)`` int64, squares in the order of row and column.
    genes
        In alphabetical order.
    array_xy
        Column and row of each square from the origin, shape ``(n_squares, 2)``.
    far_um
        Largest x and y of all transcripts.
    n_uncertain, n_controls
        Transcripts left out for a low quality value, and for being no gene.
    """

    counts: sparse.csr_matrix
    genes: tuple[str, ...]
    array_xy: np.ndarray
    far_um: tuple[float, float]
    n_uncertain: int
    n_controls: int


def is_control(name: str) -> bool:
    """Return whether a feature is a control probe or codeword by its name.

    Examples
    --------
    >>> is_control("NegControlProbe_00042"), is_control("BLANK_0006"), is_control("ERBB2")
    (True, True, False)
    """
    return name.startswith(CONTROL_PREFIXES)


def sum_transcripts(path: Path, side_um: float, min_qv: float) -> Squares:
    """Sum the transcripts of genes in squares.

    Memory is bounded by one chunk and the non-zero counts; the time is linear in transcripts.

    Parameters
    ----------
    path
        ``transcripts.parquet`` or ``transcripts.csv.gz`` of Xenium Onboard Analysis 1.0 or later.
    side_um
        Side of a square.
    min_qv
        Lowest quality value of a call (Phred-scaled) that counts.

    Raises
    ------
    FormatError
        If the file is damaged.
    SchemaError
        If a column is missing, a coordinate is negative or missing, or coordinates cannot be um.
    """
    sums = _Sums(path)
    n_seen = n_uncertain = n_controls = 0
    far_um = np.zeros(2)
    for chunk in track(_read_chunks(path), "summing transcripts"):
        xy_um = np.column_stack([np.asarray(chunk[c].fill_null(np.nan)) for c in (X_UM, Y_UM)])
        _check_places(xy_um, n_seen, path)
        far_um = np.maximum(far_um, xy_um.max(axis=0, initial=0.0))
        _check_extent(far_um, path)
        n_seen += len(xy_um)
        codes, is_gene = sums.encode(chunk)
        if sums.n_features > 1 << GENE_BITS:
            raise SchemaError(str(path), [f"column {FEATURE!r} has over {1 << GENE_BITS} names: they are no genes"])
        certain = np.asarray(chunk[QUALITY].fill_null(-1.0)) >= min_qv
        n_uncertain += int((~certain).sum())
        n_controls += int((certain & ~is_gene).sum())
        keep = certain & is_gene
        column, row = np.floor(xy_um[keep] / side_um).astype(np.int64).T
        sums.add(((row << PLACE_BITS | column) << GENE_BITS) | codes[keep])
    counts, genes, array_xy = sums.to_squares()
    return Squares(counts, genes, array_xy, (float(far_um[0]), float(far_um[1])), n_uncertain, n_controls)


class _Sums:
    """Counts by key, merged whenever the chunks' own sums have outgrown them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._codes: dict[str, int] = {}
        self._keys, self._counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def n_features(self) -> int:
        """Number of names that were seen."""
        return len(self._codes)

    def encode(self, chunk: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return the code of each transcript's feature and whether it is a gene, both ``(n,)``."""
        names = chunk[FEATURE]
        if not pa.types.is_dictionary(names.type):
            names = names.dictionary_encode()
        here = [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names.dictionary.to_pylist()]
        code_of = np.array([self._codes.setdefault(n, len(self._codes)) for n in here] or [0], dtype=np.int64)
        index = np.asarray(names.indices.cast(pa.int64()).fill_null(-1))  # without a name: no gene
        if index.max(initial=-1) >= max(len(here), 1):
            raise FormatError(f"{self._path} is damaged: column {FEATURE!r} refers to names that it does not hold")
        if IS_GENE in chunk.schema.names:
            is_gene = np.asarray(chunk[IS_GENE].fill_null(False), dtype=bool)  # noqa: FBT003 - arrow's own
        elif CATEGORY in chunk.schema.names:
            is_gene = np.asarray(pc.is_in(chunk[CATEGORY], pa.array(GENE_CATEGORIES)), dtype=bool)
        else:
            is_gene = ~np.array([is_control(n) for n in here] or [True])[index]
        return code_of[index], is_gene & (index >= 0)

    def add(self, keys: np.ndarray) -> None:
        """Count each key once more."""
        self._waiting.append(np.unique(keys, return_counts=True))
        if sum(len(k) for k, _ in self._waiting) > max(CHUNK, len(self._keys)):
            self._merge()

    def to_squares(self) -> tuple[sparse.csr_matrix, tuple[str, ...], np.ndarray]:
        """Return counts, genes and (column, row) of the squares."""
        self._merge()
        codes = self._keys & ((1 << GENE_BITS) - 1)
        places, square = np.unique(self._keys >> GENE_BITS, return_inverse=True)
        named = {code: name for name, code in self._codes.items()}
        used = sorted(np.unique(codes).tolist(), key=named.__getitem__)
        column_of = np.zeros(len(self._codes) + 1, dtype=np.int64)
        column_of[used] = np.arange(len(used))
        counts = sparse.csr_matrix((self._counts, (square.ravel(), column_of[codes])), shape=(len(places), len(used)))
        array_xy = np.column_stack([places & ((1 << PLACE_BITS) - 1), places >> PLACE_BITS])
        return counts, tuple(named[c] for c in used), array_xy

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *(k for k, _ in self._waiting)])
        counts = np.concatenate([self._counts, *(c for _, c in self._waiting)])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        self._keys = keys[first]
        self._counts = np.add.reduceat(counts, first) if len(first) else counts
        self._waiting = []


def _read_chunks(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the needed columns in pieces of bounded size."""
    wanted = (*NEEDED, IS_GENE, CATEGORY)
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path, read_dictionary=[FEATURE], memory_map=True) as file:
                _check_columns(file.schema_arrow.names, path)
                columns = [c for c in wanted if c in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=CHUNK, columns=columns):
                    yield _to_types(batch, path)
        else:
            types = dict.fromkeys((X_UM, Y_UM, QUALITY), pa.float64()) | {FEATURE: pa.string()}
            options = csv.ConvertOptions(column_types=types)
            with csv.open_csv(path, csv.ReadOptions(block_size=2**25), convert_options=options) as lines:
                _check_columns(lines.schema.names, path)
                for batch in lines:
                    yield _to_types(batch.select([c for c in wanted if c in lines.schema.names]), path)
    except (
        OSError,
        KeyError,
        UnicodeDecodeError,
        pa.ArrowException,
    ) as error:  # KeyError: a column of lists has no name
        raise FormatError(f"{path} is damaged or no table of transcripts: {error}") from error


def _to_types(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    """Return the columns in the types that are summed."""
    types = dict.fromkeys((X_UM, Y_UM, QUALITY), pa.float64()) | {IS_GENE: pa.bool_(), CATEGORY: pa.string()}
    for place, name in enumerate(batch.schema.names):
        try:
            column = batch[name].cast(types.get(name, batch[name].type))
        except pa.ArrowException as error:
            what = "true or false" if name == IS_GENE else "words" if name == CATEGORY else "numbers"
            raise SchemaError(str(path), [f"column {name!r} must hold {what}: {error}"]) from error
        batch = batch.set_column(place, name, column)
    return batch


def _check_columns(names: list[str], path: Path) -> None:
    if missing := [c for c in NEEDED if c not in names]:
        raise SchemaError(str(path), [f"column {c!r} is missing; it has {', '.join(names)}" for c in missing])


def _check_places(xy_um: np.ndarray, n_before: int, path: Path) -> None:
    wrong = ~(np.isfinite(xy_um) & (xy_um >= 0)).all(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        x, y = xy_um[first]
        problem = f"transcript {n_before + first + 1} lies at ({x:g}, {y:g}): a place in um must be 0 or more"
        raise SchemaError(str(path), [problem])


def _check_extent(far_um: np.ndarray, path: Path) -> None:
    long_um, short_um = sorted(far_um, reverse=True)
    if long_um > SLIDE_UM[0] or short_um > SLIDE_UM[1]:
        problem = (
            f"its transcripts reach ({far_um[0]:.0f}, {far_um[1]:.0f}), beyond the {SLIDE_UM[0]:.0f} x "
            f"{SLIDE_UM[1]:.0f} um of a slide: they are probably in pixels; {X_UM} and {Y_UM} must be um"
        )
        raise SchemaError(str(path), [problem])
