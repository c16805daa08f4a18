"""HEST-1k: tables, slides, patches and metadata as the dataset lies on its hub.

Jaume, Doucet et al., HEST-1k, NeurIPS 2024 (datasets and benchmarks), arXiv:2406.16192. What its
users found and we act on: pixel sizes of metadata, file and spots differ (mahmoodlab/HEST#106,
#122); ``in_tissue`` means nothing (#47); patches are fewer than spots and must be joined by barcode
(#60); control probes are among the genes of Xenium.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from hescribe.data.readers.base import MIN_OVERLAP, RawSection
from hescribe.data.readers.h5ad import find_array_xy, find_tables
from hescribe.data.readers.h5ad_parts import TableParts, read_parts
from hescribe.data.readers.transcripts import is_control
from hescribe.data.untrusted import open_h5, parse_json
from hescribe.errors import DataAccessError, FormatError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

TECHNOLOGY = {"Spatial Transcriptomics": "legacy_st", "Visium": "visium", "Visium HD": "visium_hd", "Xenium": "xenium"}
PIXEL_SIZES = {"estimated": "pixel_size_um_estimated", "embedded": "pixel_size_um_embedded"}
SCANNED = (0.05, 5.0)  # um per pixel of a scan; 2540 and the like are units that were mistaken
SAME_PLACE = 0.1  # sides of a patch between its middle and its spot


@dataclass(kw_only=True)
class HestReader(Params):
    """Reads every sample below a folder that holds ``st/`` and ``metadata/``.

    Parameters
    ----------
    pixel_size
        Which of the metadata's statements count. All must agree with each other, the slide and the
        spacing of the spots within 5 %; name the right one where they do not.
    """

    name: ClassVar[str] = "hest"
    summary: ClassVar[str] = "HEST-1k: st/, metadata/, wsis/ and patches/ as on its hub"

    pixel_size: Literal["all", "estimated", "embedded"] = "all"

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder, in the order of their names."""
        if not (source / "st").is_dir():
            raise DataAccessError(f"{source} has no folder st: it is not laid out as HEST-1k")
        files = find_tables(source / "st")
        metadata = [_read_metadata(source / "metadata" / f"{f.stem}.json") for f in files]
        several = len({str(m.get("dataset_title")) for m in metadata}) > 1
        both = track(zip(files, metadata, strict=True), "reading sections", total=len(files))
        return [self._read_sample(file, facts, source, several_studies=several) for file, facts in both]

    def _read_sample(self, file: Path, facts: dict[str, Any], source: Path, *, several_studies: bool) -> RawSection:
        parts, name = read_parts(file), file.stem
        if parts.xy_px is None:
            raise SchemaError(str(file), ["it has no obsm['spatial']: its spots have no places"])
        technology = TECHNOLOGY.get(str(facts.get("st_technology")), "other")
        genes = np.array(parts.var.index.astype(str))
        keep = ~np.array([is_control(g) for g in genes], dtype=bool)
        mpp, notes = self._find_mpp(facts)
        if not keep.all():
            notes.append(f"left out {(~keep).sum()} control probes of {len(keep)} features")
        if technology == "visium_hd":
            notes.append(
                "the library that pooled its bins lost counts up to version 1.1.0; prefer Space Ranger's output"
            )
        names = tuple(genes[keep])
        by_id = all(g.startswith("ENS") for g in names)
        if by_id:
            notes.append("its genes are named by Ensembl identifier; most samples have symbols, and do not go with it")
        slide, patches = source / "wsis" / f"{name}.tif", source / "patches" / f"{name}.h5"
        notes += _check_patches(patches, parts, has_slide=slide.is_file()) if patches.is_file() else []
        return RawSection(
            id=name,
            where=file,
            counts=parts.counts[:, np.flatnonzero(keep)],
            genes=names,
            gene_ids=names if by_id else None,
            spots=tuple(parts.obs.index.astype(str)),
            xy_px=np.asarray(parts.xy_px, dtype=np.float64),
            # The array places of pooled Visium HD bins were numbered after the empty ones had gone.
            array_xy=None if technology == "visium_hd" else find_array_xy(parts.obs, file),
            technology=technology,
            donor=_name_donor(facts, several_studies=several_studies),
            organ=_text(facts, "organ"),
            organism=_text(facts, "species"),
            pitch_um=_number(facts, "inter_spot_dist"),
            mpp=mpp,
            image=slide if slide.is_file() else None,
            notes=tuple(notes),
        )

    def _find_mpp(self, facts: dict[str, Any]) -> tuple[dict[str, float], list[str]]:
        """Return the pixel sizes that count, by the place that states them, and what was passed over."""
        chosen = PIXEL_SIZES if self.pixel_size == "all" else {self.pixel_size: PIXEL_SIZES[self.pixel_size]}
        stated = {key: value for key in chosen.values() if (value := _number(facts, key)) is not None}
        # 1 um is what an image without a unit gives.
        useless = {k: v for k, v in stated.items() if v == 1.0 or not SCANNED[0] <= v <= SCANNED[1]}
        notes = [f"{key} of {value:g} is no pixel size of a scan and is passed over" for key, value in useless.items()]
        return {k: v for k, v in stated.items() if k not in useless}, notes


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataAccessError(
            f"{path} cannot be read: it states technology, scale and patient of the sample"
        ) from error
    facts = parse_json(content, path)
    if not isinstance(facts, dict):
        raise FormatError(f"{path} holds no metadata: it must be one JSON object")
    return facts


def _name_donor(facts: dict[str, Any], *, several_studies: bool) -> str | None:
    """Return the patient; with its study where several are read, for each has a ``Patient 1``."""
    patient, study = _text(facts, "patient"), _text(facts, "dataset_title")
    return f"{patient} of {study}" if patient and study and several_studies else patient


def _check_patches(path: Path, parts: TableParts, *, has_slide: bool) -> list[str]:
    """Return what to say about the patches; refuse those that show another place than the spot of their barcode."""
    with open_h5(path, "is damaged or no patches of HEST") as file:
        barcodes = [b.decode() if isinstance(b, bytes) else str(b) for b in file["barcode"][:].ravel()]
        corner_px, side_px = file["coords"][:].astype(np.float64), file["img"].attrs.get("patch_size_src")
        side_px = None if side_px is None else float(side_px)
    if side_px is None:
        return ["its patches do not say how large they are on the slide, and were not compared with the spots"]
    if corner_px.shape != (len(barcodes), 2):
        raise FormatError(f"{path} is damaged: it has {len(barcodes)} barcodes and coords of shape {corner_px.shape}")
    spots = parts.obs.index.astype(str)
    if spots.has_duplicates:
        problem = f"spot {spots[spots.duplicated()][0]} is in the table twice: patches are joined by the name"
        raise SchemaError(str(path), [problem])
    row = spots.get_indexer(barcodes)
    if len(row) and (row >= 0).mean() < MIN_OVERLAP:
        raise SchemaError(str(path), [f"only {(row >= 0).sum()} of its {len(row)} patches have a barcode of the table"])
    middle_px = corner_px[row >= 0] + side_px / 2  # coords are upper left corners
    off = np.abs(middle_px - np.asarray(parts.xy_px)[row[row >= 0]]).max(axis=1)
    if (off > SAME_PLACE * side_px).any():
        first = np.array(barcodes)[row >= 0][int(np.argmax(off))]
        problem = (
            f"the patch of {first} lies {off.max():.0f} px from the spot of that barcode: table and patches differ"
        )
        raise SchemaError(str(path), [problem])
    said = f"{len(row)} of {len(parts.obs)} spots have a patch"
    if has_slide:
        return [f"{said}; patches are cut from the slide anew"]
    return [f"{said}, but wsis/{path.stem}.tif is absent: without the slide the section has no image"]


def _text(facts: dict[str, Any], key: str) -> str | None:
    value = facts.get(key)
    return value.strip() or None if isinstance(value, str) and value.strip().lower() != "nan" else None


def _number(facts: dict[str, Any], key: str) -> float | None:
    """Return a positive number of the metadata; None where it is blank."""
    value = facts.get(key)
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        value = float(value)
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else None
