"""HESCAPE's panels as they lie on their hub: arrow or parquet files, a pseudo-spot a row, its counts and its crop.

Gindra et al., HESCAPE, 2025, arXiv:2508.01490 (``Peng-AI/hescape-pyarrow``). The files hold neither gene names nor the
size of a pixel. Names come from the panel's reference table; the size from the pitch of the pseudo-spots, 55 um, and
from the catalogue. Whether crops were scaled is not said, so that crops of neighbours are compared where they overlap.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse
from scipy.spatial import cKDTree

from hescribe.data.catalogue import load_catalogue
from hescribe.data.dataset_card import ListedSection
from hescribe.data.image import LazyImage
from hescribe.data.plain import MAX_PX
from hescribe.data.readers._crops import Crops, paste
from hescribe.data.readers.base import RawSection
from hescribe.data.readers.h5ad_parts import read_parts
from hescribe.data.untrusted import check_parquet, named_damage, parse_json
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

PITCH_UM = 55.0  # side of a pseudo-spot: measured on all panels
NEEDED = ("name", "gexp", "cell_coords")
LABELS = ("name", "source", "tissue")


@dataclass(kw_only=True)
class HescapeReader(Params):
    """Reads every arrow and parquet file below a folder; sections are the values of ``name``.

    Parameters
    ----------
    genes
        File that names the panel's genes in the order of ``gexp``: the reference h5ad, or text with one a line. Without
        it, ``genes.txt`` or the only h5ad of the folder.
    source, tissue
        Keep the rows of this label alone, as the published loader does; empty: all.
    """

    name: ClassVar[str] = "hescape"
    summary: ClassVar[str] = "HESCAPE: arrow or parquet files as on its hub"

    genes: str = ""
    source: str = ""
    tissue: str = ""

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder, in the order of their names."""
        files = sorted(p for kind in ("arrow", "parquet") for p in source.rglob(f"*.{kind}"))
        if not files:
            raise DataAccessError(f"{source} holds no arrow or parquet file: it is not laid out as HESCAPE's panels")
        genes = _read_genes(Path(self.genes) if self.genes else _find_genes(source))
        parts = [self._read_file(f, genes) for f in track(files, "reading files")]
        names = np.concatenate([p.names for p in parts])
        if not len(names):
            there = "; ".join(f"{c} {', '.join(sorted(v))}" for c, v in _join_labels(parts).items())
            raise InputError(
                f"{source} has no row of source {self.source!r} and tissue {self.tissue!r}; it has {there}"
            )
        return [_to_raw(str(name), source, parts, genes) for name in np.unique(names)]

    def _read_file(self, path: Path, genes: tuple[str, ...]) -> "Rows":
        table = read_table(path, (*NEEDED, *LABELS[1:]))
        if missing := [c for c in NEEDED if c not in table.column_names]:
            raise SchemaError(str(path), [f"column {c!r} is missing: it is no file of HESCAPE" for c in missing])
        labels = {c: _read_labels(table, c, path) for c in LABELS if c in table.column_names}
        keep = np.ones(table.num_rows, dtype=bool)
        for column, wanted in (("source", self.source), ("tissue", self.tissue)):
            if wanted:
                keep &= labels.get(column, np.full(table.num_rows, "")) == wanted
        rows = np.flatnonzero(keep)
        counts = _read_arrays(table, "gexp", len(genes), path)[rows]
        xy_px = _read_arrays(table, "cell_coords", 2, path).astype(np.float64)[rows]
        organs = labels.get("tissue", np.full(table.num_rows, ""))[rows]
        return Rows(
            path, rows, labels["name"][rows], organs, sparse.csr_matrix(counts), xy_px,
            {c: set(v.tolist()) for c, v in labels.items() if c != "name"},
        )  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Rows of one file that are kept: places in it, section, organ, counts, centre in pixels; and all its labels."""

    path: Path
    rows: np.ndarray
    names: np.ndarray
    organs: np.ndarray
    counts: sparse.csr_matrix
    xy_px: np.ndarray
    labels: dict[str, set[str]]


def _join_labels(parts: list[Rows]) -> dict[str, set[str]]:
    """Return the labels of every column over all files."""
    return {c: set().union(*(p.labels.get(c, set()) for p in parts)) for c in ("source", "tissue")}


def read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Return those of some columns that an arrow file, stream or not, or a parquet file has.

    Raises
    ------
    FormatError
        If it is neither, or is cut off.
    """
    with named_damage(path, "is damaged or no arrow file; fetch it again"):
        if path.suffix == ".parquet":
            there = check_parquet(path, list(columns))
            return pq.read_table(path, columns=[c for c in columns if c in there])
        table = _map_arrow(path)
        table = table.select([c for c in columns if c in table.column_names])
        table.validate(full=True)  # arrow reads beyond memory where an offset is wrong
        return table


def _map_arrow(path: Path) -> pa.Table:
    """Return an arrow file of which no more is read than is used."""
    try:
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _read_labels(table: pa.Table, column: str, path: Path) -> np.ndarray:
    """Return a column of labels as text; numbers are looked up in the names that the file's own metadata give."""
    values = table[column].to_numpy()
    if not np.issubdtype(values.dtype, np.integer):
        return values.astype(str)
    facts = parse_json((table.schema.metadata or {}).get(b"huggingface", b"{}"), f"the head of {path}")
    with named_damage(path, "does not name its labels in its head"):
        names = [str(n) for n in facts.get("info", {}).get("features", {}).get(column, {}).get("names", [])]
    if not len(values) or not 0 <= values.min() <= values.max() < len(names):
        problem = f"column {column!r} holds numbers, and the file's metadata name {len(names)} labels for them"
        raise SchemaError(str(path), [problem])
    return np.array(names, dtype=str)[values]


def _read_arrays(table: pa.Table, column: str, n: int, path: Path) -> np.ndarray:
    """Return a column of arrays of ``n`` numbers, nested or not, shape ``(n_rows, n)``."""
    values: Any = table[column].combine_chunks()
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    while isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        values = values.flatten()
    found = values.to_numpy(zero_copy_only=False)
    if len(found) != n * table.num_rows:
        mean = len(found) / max(table.num_rows, 1)
        what = f"the panel has {n} genes" if column == "gexp" else f"{n} are expected"
        raise SchemaError(
            str(path), [f"{column} has {mean:g} numbers a row, and {what}: is the gene list of this panel?"]
        )
    return np.asarray(found).reshape(table.num_rows, n)


def _find_genes(source: Path) -> Path:
    """Return the file of gene names that lies in the folder."""
    found = [p for p in (source / "genes.txt",) if p.is_file()] or sorted(source.rglob("*.h5ad"))
    if len(found) != 1:
        raise InputError(
            f"{source} does not name its genes; give --set genes= with the panel's reference h5ad, or a text file with "
            "one gene a line in the order of gexp"
        )
    return found[0]


def _read_genes(path: Path) -> tuple[str, ...]:
    """Return the gene names of a reference table or a text file."""
    try:
        if path.suffix == ".h5ad":
            return tuple(read_parts(path).var.index.astype(str))
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no list of genes: {error}") from error
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: {error.strerror or error}") from error


def _find_known(name: str, genes: tuple[str, ...], source: Path) -> ListedSection | None:
    """Return what the catalogue knows of a section; None of one that is in no published panel.

    Raises
    ------
    SchemaError
        If its panel has another number of genes.
    """
    known = {
        e.published.n_genes: s
        for e in load_catalogue().values()
        for s in e.section
        if e.collection == "hescape" and s.id == name
    }
    if known and len(genes) not in known:
        has = " or ".join(str(n) for n in sorted(known, key=str))
        raise SchemaError(str(source), [f"section {name} is of a panel of {has} genes, and {len(genes)} are named"])
    return known.get(len(genes))


def _to_raw(name: str, source: Path, parts: list[Rows], genes: tuple[str, ...]) -> RawSection:
    own = [(p, np.flatnonzero(p.names == name)) for p in parts]
    own = [(p, at) for p, at in own if len(at)]
    xy_px = np.concatenate([p.xy_px[at] for p, at in own])
    organs = sorted({str(o) for p, at in own for o in p.organs[at] if o})
    pitch_px, known = _measure_pitch(xy_px, name, source), _find_known(name, genes, source)
    notes = ["the file names no genes: theirs are those of the list given, in its order"]
    if list(genes) != sorted(genes):
        notes.append("the genes of the list are not in alphabetical order, as those of every published panel are")
    return RawSection(
        id=name,
        where=source,
        counts=sparse.vstack([p.counts[at] for p, at in own], format="csr"),
        genes=genes,
        spots=tuple(f"{p.path.stem}-{row}" for p, at in own for row in p.rows[at]),
        xy_px=xy_px,
        array_xy=np.rint((xy_px - xy_px.min(axis=0)) / pitch_px).astype(np.int64),
        technology="xenium",
        donor=known.donor if known else None,
        mpp={"catalogue": known.mpp} if known and known.mpp else {},
        organ=organs[0] if len(organs) == 1 else None,
        organism="Homo sapiens",
        pitch_um=PITCH_UM,
        image=_mosaic(name, own, pitch_px),
        notes=tuple(notes),
    )


def _measure_pitch(xy_px: np.ndarray, name: str, source: Path) -> float:
    """Return the distance of neighbouring centres: the median over spots."""
    if len(xy_px) < 2:
        raise SchemaError(str(source), [f"section {name} has {len(xy_px)} pseudo-spot, from which no scale follows"])
    distance, _ = cKDTree(xy_px).query(xy_px, k=2)
    return float(np.median(distance[:, 1]))


def _mosaic(name: str, own: list[tuple[Rows, np.ndarray]], pitch_px: float) -> partial[LazyImage] | None:
    """Return what makes the section's image of all crops once its scale is known; None of files without crops."""
    columns = [read_table(p.path, ("image",)) for p, _ in own]
    if not all(c.num_columns for c in columns):
        return None
    encoded = [c["image"][int(row)] for (p, at), c in zip(own, columns, strict=True) for row in p.rows[at]]
    crops = Crops(encoded, np.concatenate([p.xy_px[at] for p, at in own]))
    crops.check_neighbours(f"section {name} of {own[0][0].path.parent}", pitch_px)
    width, height = crops.size_px
    if width * height > MAX_PX:
        what = f"the crops of section {name} make an image of over {MAX_PX} pixels"
        raise DataAccessError(f"{what}; name the slide's own file in an import manifest")
    return partial(LazyImage, partial(paste, crops), (width, height), f"{own[0][0].path.resolve()} {name}")
