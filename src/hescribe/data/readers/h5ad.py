"""AnnData files with raw counts: one section a file, or several told apart by a column of ``obs``."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.data.readers.base import RawSection
from hescribe.errors import DataAccessError, FormatError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

SECTION_COLUMNS = ("section_id", "library_id", "sample_id")
DONOR_COLUMNS = ("donor", "donor_id", "patient_id", "patient", "individual")
ID_COLUMNS = ("gene_id", "gene_ids")
IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".svs")


@dataclass(kw_only=True)
class H5adReader(Params):
    """Reads one h5ad file, or every one in a folder.

    Counts are taken from ``layers["counts"]``, else ``X``, else ``raw.X``: the first that holds integers.
    An image beside the file with the same stem belongs to it.
    """

    name: ClassVar[str] = "h5ad"
    summary: ClassVar[str] = "AnnData files (.h5ad) with integer counts and obsm['spatial'] in pixels"

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a file or folder, in the order of their names."""
        files = sorted(source.glob("*.h5ad")) if source.is_dir() else [source]
        if not files:
            raise DataAccessError(f"{source} holds no .h5ad file")
        return [section for file in track(files, "reading sections") for section in _read_file(file)]


def _read_file(path: Path) -> list[RawSection]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique")  # the import says which
            table = anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise what they like for a damaged file
        raise FormatError(f"{path} is damaged or no h5ad file: {str(error).splitlines()[0]}") from error
    counts, var = _find_counts(table, path)
    column = next((c for c in SECTION_COLUMNS if c in table.obs), None)
    names = table.obs[column].astype(str).to_numpy() if column else np.full(table.n_obs, path.stem)
    sections = []
    for name in sorted(set(names)):
        rows = np.flatnonzero(names == name)
        sections.append(_to_raw(name, path, table[rows], counts[rows], var))
    if not sections:
        raise SchemaError(str(path), ["it has no spots"])
    return sections


def _find_counts(table: AnnData, path: Path) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Return the first matrix of whole numbers, and the genes it is over."""
    places = [(f"layers[{keys.COUNTS!r}]", table.layers.get(keys.COUNTS), table.var), ("X", table.X, table.var)]
    if table.raw is not None:
        places.append(("raw.X", table.raw.X, table.raw.var))
    seen = []
    for place, values, var in places:
        if values is None:
            continue
        counts = sparse.csr_matrix(values)
        if len(wrong := counts.data[~(counts.data % 1 == 0)]):
            seen.append(f"{place} holds {wrong[0]:.4g}, which is no count")
        else:
            return counts, var
    problem = f"it has no raw counts: {'; '.join(seen) or 'it has no matrix'}; export the counts before normalisation"
    raise SchemaError(str(path), [problem])


def _to_raw(name: str, path: Path, table: AnnData, counts: sparse.csr_matrix, var: pd.DataFrame) -> RawSection:
    """Return one section of a file as it is; ``table`` and ``counts`` hold its spots only."""
    donor_column = next((c for c in DONOR_COLUMNS if c in table.obs), None)
    donors = sorted(table.obs[donor_column].astype(str).unique()) if donor_column else []
    if len(donors) > 1:
        raise SchemaError(
            str(path), [f"section {name} has spots of {len(donors)} donors ({donors[0]}, {donors[1]}, ...)"]
        )
    has_array = {keys.ARRAY_ROW, keys.ARRAY_COL} <= set(table.obs)
    ids = next((c for c in ID_COLUMNS if c in var), None)
    notes = []
    images = [p for s in IMAGE_SUFFIXES if (p := path.with_suffix(s)).is_file()]
    if keys.SPATIAL in table.uns and not images:
        notes.append("a reduced image inside the file is not used; name the image in an import manifest")
    return RawSection(
        id=name,
        where=path,
        counts=counts,
        genes=tuple(var.index.astype(str)),
        gene_ids=tuple(var[ids].astype(str)) if ids else None,
        spots=tuple(table.obs_names.astype(str)),
        xy_px=np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64) if keys.SPATIAL in table.obsm else None,
        array_xy=table.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy(dtype=np.int64) if has_array else None,
        technology="visium" if has_array and keys.SPATIAL in table.uns else "other",
        donor=donors[0] if donors else None,
        image=images[0] if images else None,
        regions=table.obs[keys.REGION].astype(str).to_numpy() if keys.REGION in table.obs else None,
        notes=tuple(notes),
    )
