"""SpaRED's processed tables: one h5ad with every slide of a dataset.

Mejia, Ruiz et al., MICCAI 2024, arXiv:2407.13027. Its ``patient`` is often the serial number of a Visium
chip, which is no donor: sections of one person then look independent.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from hescribe.data.readers.base import RawSection
from hescribe.data.readers.h5ad import find_array_xy, find_tables
from hescribe.data.readers.h5ad_parts import TableParts, read_parts
from hescribe.errors import SchemaError
from hescribe.params import Params
from hescribe.progress import track

SLIDE, PATIENT, SPLIT = "slide_id", "patient", "split"
PATCHES = "patches_scale_1.0"
CHIP = re.compile(r"V\d{2}[A-Z]\d{2}-\d{3}")  # serial of a Visium slide, such as V11L12-038
NO_PATIENT = {"", "nan", "none", "unique"}  # "unique" stands for all slides of 10x's own datasets


@dataclass(kw_only=True)
class SparedReader(Params):
    """Reads one processed h5ad, or every one in a folder; sections are its slides."""

    name: ClassVar[str] = "spared"
    summary: ClassVar[str] = "SpaRED: processed h5ad files, one section for each slide_id"

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a file or folder, in the order of their names."""
        return [section for file in track(find_tables(source), "reading sections") for section in _read_file(file)]


def _read_file(path: Path) -> list[RawSection]:
    parts = read_parts(path)
    if missing := [c for c in (SLIDE, PATIENT) if c not in parts.obs]:
        raise SchemaError(str(path), [f"column {c!r} of obs is missing: it is no table of SpaRED" for c in missing])
    slides = parts.obs[SLIDE].astype(str).to_numpy()
    return [_to_raw(slide, path, parts, np.flatnonzero(slides == slide)) for slide in sorted(set(slides))]


def _to_raw(slide: str, path: Path, parts: TableParts, rows: np.ndarray) -> RawSection:
    obs, genes = parts.obs.iloc[rows], tuple(parts.var.index.astype(str))
    donor, notes = _find_donor(obs[PATIENT].astype(str).unique().tolist(), slide, path)
    notes.append(f"its table holds the {len(genes)} genes that SpaRED kept: depth is over these alone")
    if PATCHES in parts.obsm:
        notes.append("the patches inside are not used; name the slide's image in an import manifest")
    if SPLIT in obs:
        notes.append(f"published split: {', '.join(sorted(obs[SPLIT].astype(str).unique()))}")
    return RawSection(
        id=slide,
        where=path,
        counts=parts.counts[rows],
        genes=genes,
        gene_ids=genes if all(g.startswith("ENS") for g in genes) else None,
        spots=tuple(obs.index.astype(str)),
        xy_px=None if parts.xy_px is None else np.asarray(parts.xy_px[rows], dtype=np.float64),
        array_xy=find_array_xy(obs, path),
        technology="visium",
        donor=donor,
        notes=tuple(notes),
    )


def _find_donor(patients: list[str], slide: str, path: Path) -> tuple[str | None, list[str]]:
    """Return the donor of a slide, None if its ``patient`` is no person, and what to say about it."""
    if len(patients) > 1:
        raise SchemaError(
            str(path), [f"slide {slide} has spots of {len(patients)} patients ({', '.join(patients[:2])})"]
        )
    (patient,) = patients
    if patient.strip().lower() in NO_PATIENT:
        return None, []
    if CHIP.fullmatch(patient):
        return None, [f"its patient {patient} is the serial number of a chip, not a person"]
    return patient, []
