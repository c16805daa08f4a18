"""AnnData files with raw counts: one section a file, or several told apart by a column of ``obs``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import sparse

from hescribe import keys
from hescribe.data.facts import FACTS, read_facts
from hescribe.data.readers.base import RawSection
from hescribe.data.readers.h5ad_parts import TableParts, read_parts
from hescribe.errors import DataAccessError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

SECTION_COLUMNS = ("section_id", "library_id", "sample_id")
DONOR_COLUMNS = ("donor", "donor_id", "patient_id", "patient", "individual")
ID_COLUMNS = ("gene_id", "gene_ids")
IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".svs")
MPP_FACTOR = "microns_per_pixel"  # the word of Space Ranger


@dataclass(kw_only=True)
class H5adReader(Params):
    """Reads one h5ad file, or every one in a folder.

    Counts are taken from ``layers["counts"]``, else ``X``, else ``raw.X``: the first that holds integers.
    An image beside the file with the same stem belongs to it. Other parts of a file are not read.
    """

    name: ClassVar[str] = "h5ad"
    summary: ClassVar[str] = "AnnData files (.h5ad) with integer counts and obsm['spatial'] in pixels"

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a file or folder, in the order of their names."""
        return [section for file in track(find_tables(source), "reading sections") for section in _read_file(file)]


def find_tables(source: Path) -> list[Path]:
    """Return the h5ad files of a folder, or the one that ``source`` is.

    Raises
    ------
    DataAccessError
        If there is none.
    """
    files = sorted(source.glob("*.h5ad")) if source.is_dir() else [source]
    if not files:
        raise DataAccessError(f"{source} holds no .h5ad file")
    return files


def find_array_xy(obs: pd.DataFrame, path: Path) -> np.ndarray | None:
    """Return column and row on the capture array, shape ``(n_spots, 2)``; None if the table has no array.

    Raises
    ------
    SchemaError
        If a place is no whole number.
    """
    if not {keys.ARRAY_ROW, keys.ARRAY_COL} <= set(obs):
        return None
    stated = obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].astype(object)
    places = stated.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(places) & (places == np.floor(places))).all(axis=1)
    if wrong.any():
        column, row = stated.to_numpy()[wrong][0]
        problem = (
            f"spot {obs.index[wrong][0]} has {keys.ARRAY_ROW} {row} and {keys.ARRAY_COL} {column}: places on the "
            "array are whole numbers; correct both columns, or leave them out"
        )
        raise SchemaError(str(path), [problem])
    return places.astype(np.int64)


def find_donor(obs: pd.DataFrame, section: str, path: Path) -> str | None:
    """Return the donor of a section's spots, None if no column names it or the cells of that column are empty.

    Raises
    ------
    SchemaError
        If the spots are of several donors.
    """
    column = next((c for c in DONOR_COLUMNS if c in obs), None)
    stated = obs[column] if column else pd.Series(dtype=object)
    donors = sorted(stated.dropna().astype(str).unique())
    if len(donors) > 1:
        problem = f"section {section} has spots of {len(donors)} donors ({donors[0]}, {donors[1]}, ...)"
        raise SchemaError(str(path), [problem])
    if donors and stated.isna().any():
        problem = f"section {section} has spots of donor {donors[0]} and {stated.isna().sum()} spots without a donor"
        raise SchemaError(str(path), [problem])
    return donors[0] if donors else None


def find_depth(obs: pd.DataFrame, counts: sparse.csr_matrix) -> np.ndarray | None:
    """Return the depth over all measured genes that a converted cohort keeps, shape ``(n_spots,)``.

    None if there is no such column, or it holds something else: no spot has less depth than counts.
    """
    depth = pd.to_numeric(obs[keys.DEPTH], errors="coerce").to_numpy() if keys.DEPTH in obs else None
    if depth is None or not (depth >= np.asarray(counts.sum(axis=1)).ravel()).all():
        return None
    return np.asarray(depth, dtype=np.float64)


def _read_file(path: Path) -> list[RawSection]:
    parts = read_parts(path)
    column = next((c for c in SECTION_COLUMNS if c in parts.obs), None)
    if column and (blank := parts.obs[column].isna()).any():
        problem = f"{blank.sum()} spots have no {column}: nothing says which section they are of"
        raise SchemaError(str(path), [problem])
    names = parts.obs[column].astype(str).to_numpy(dtype=object) if column else np.full(len(parts.obs), path.stem)
    return [_to_raw(name, path, parts, np.flatnonzero(names == name)) for name in sorted(set(names.tolist()))]


def _to_raw(name: str, path: Path, parts: TableParts, rows: np.ndarray) -> RawSection:
    """Return one section of a file: the spots in ``rows``."""
    obs = parts.obs.iloc[rows]
    array_xy = find_array_xy(obs, path)
    ids = next((c for c in ID_COLUMNS if c in parts.var), None)
    notes = []
    images = [p for s in IMAGE_SUFFIXES if (p := path.with_suffix(s)).is_file()]
    if parts.scalefactors and not images:
        notes.append("a reduced image inside the file is not used; name the image in an import manifest")
    factors = parts.scalefactors.get(name, {})
    facts = read_facts(parts.metadata.get(name, {}).get(FACTS), str(path))
    if not facts and array_xy is not None and parts.scalefactors:
        facts = {"technology": "visium"}
    return RawSection(
        id=name,
        where=path,
        counts=parts.counts[rows],
        genes=tuple(parts.var.index.astype(str)),
        gene_ids=tuple(parts.var[ids].astype(str)) if ids else None,
        spots=tuple(obs.index.astype(str)),
        xy_px=None if parts.xy_px is None else np.asarray(parts.xy_px[rows], dtype=np.float64),
        array_xy=array_xy,
        donor=find_donor(obs, name, path),
        mpp={MPP_FACTOR: factors[MPP_FACTOR]} if MPP_FACTOR in factors else {},
        image=images[0] if images else None,
        depth=find_depth(obs, parts.counts[rows]),
        regions=obs[keys.REGION].astype(str).to_numpy() if keys.REGION in obs else None,
        notes=tuple(notes),
        **facts,
    )
