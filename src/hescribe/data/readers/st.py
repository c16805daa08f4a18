"""Legacy Spatial Transcriptomics: a count table and a spot file for each section.

Two layouts are known: her2st's (``data/ST-cnts``, ``data/ST-spotfiles``, ``data/ST-imgs``,
``data/ST-pat/lbl``) and STUtility's (``inst/extdata/counts`` with ``alignment_table_*``); a folder
that holds the tables and spot files side by side is read as the latter.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pandas as pd

from hescribe.data.readers.base import MIN_OVERLAP, RawSection, match_spots
from hescribe.data.readers.count_table import read_count_table
from hescribe.errors import DataAccessError, FormatError, SchemaError
from hescribe.params import Params
from hescribe.progress import track
from hescribe.settings import n_workers

# Folders of the count tables, spot files, images (one folder a section below a folder a donor) and labels.
LAYOUTS = (
    ("data/ST-cnts", "data/ST-spotfiles", "data/ST-imgs", "data/ST-pat/lbl"),
    ("ST-cnts", "ST-spotfiles", "ST-imgs", "ST-pat/lbl"),
    ("inst/extdata/counts", "inst/extdata/counts", "inst/extdata/counts", ""),
    (".", ".", ".", ""),
)
SPOT_FILES = ("{id}_selection.tsv", "alignment_table_{id}.tsv", "{id}_selection.tsv.gz", "alignment_table_{id}.tsv.gz")
LABEL_FILE = "{id}_labeled_coordinates.tsv"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
LAST_PLACE_1K = 35  # the 1k array has 33 x 35 places, the 2k array 64 x 66
UNLABELLED = "undetermined"  # her2st's own word for a spot the pathologist left open
SAME_PLACE = 0.25  # array steps between a label and its spot


@dataclass(kw_only=True)
class StReader(Params):
    """Reads count tables with spots named ``XxY`` and their spot files."""

    name: ClassVar[str] = "st"
    summary: ClassVar[str] = "legacy Spatial Transcriptomics: count tables and spot files (her2st, STUtility)"

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder, in the order of their names."""
        for layout in LAYOUTS:
            if tables := _find_tables(source / layout[0]):
                break
        else:
            looked = ", ".join(folder for folder, *_ in LAYOUTS)
            raise DataAccessError(f"{source} has no count tables (*.tsv, *.tsv.gz) in any of {looked}")
        donors = _read_donors(source / layout[0])

        def read_one(item: tuple[str, Path]) -> RawSection:
            return _read_section(item[0], item[1], source, layout, donors.get(item[0]))

        with ThreadPoolExecutor(n_workers()) as pool:
            return list(track(pool.map(read_one, tables.items()), "reading sections", total=len(tables)))


def _find_tables(folder: Path) -> dict[str, Path]:
    """Return the count tables of a folder by section name."""
    found = sorted(p for p in folder.glob("*.tsv*") if p.name.endswith((".tsv", ".tsv.gz")))
    named = {p.name.removesuffix(".gz").removesuffix(".tsv"): p for p in found}
    return {
        name: path
        for name, path in named.items()
        if not re.match(r"alignment_table_|.*_selection$|.*_coordinates$", name)
    }


def _read_section(name: str, table: Path, source: Path, layout: tuple[str, ...], donor: str | None) -> RawSection:
    _, spot_folder, image_folder, label_folder = layout
    spots = _read_spot_file(_find_spot_file(source / spot_folder, name))
    counts, rows, genes = read_count_table(table)
    _check_rows(rows, genes, table)
    in_both = match_spots(rows, spots.index, table)
    kept = spots.loc[[r for r in rows if r in in_both]]
    kept = kept[kept["selected"] == 1]
    order = pd.Index(rows).get_indexer(kept.index)
    dropped = [r for r in rows if r not in in_both]
    dropped += [s for s in spots.index[spots["selected"] == 1] if s not in in_both]
    regions, notes = (
        _read_regions(source / label_folder / LABEL_FILE.format(id=name), kept) if label_folder else (None, ())
    )
    return RawSection(
        id=name,
        where=table,
        counts=counts[order],
        genes=genes,
        spots=tuple(kept.index),
        xy_px=kept[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64),
        array_xy=kept[["x", "y"]].to_numpy(dtype=np.int64),
        technology="legacy_st" if spots[["x", "y"]].to_numpy().max() <= LAST_PLACE_1K else "legacy_st_2k",
        donor=donor,
        image=_find_image(source / image_folder, name),
        regions=regions,
        dropped_spots=tuple(dropped),
        notes=notes,
    )


def _find_spot_file(folder: Path, name: str) -> Path:
    tried = [folder / pattern.format(id=name) for pattern in SPOT_FILES]
    for path in tried:
        if path.is_file():
            return path
    raise DataAccessError(f"section {name} has no spot file: neither {tried[0]} nor {tried[1].name} exists")


def _read_tsv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return the named columns of a small table."""
    try:
        table = pd.read_csv(path, sep="\t")
    except (ValueError, EOFError, OSError) as error:
        raise FormatError(f"{path} is no tab-separated table: {error}") from error
    if missing := [c for c in columns if c not in table]:
        raise SchemaError(str(path), [f"column {c!r} is missing" for c in missing])
    return table[columns]


def _read_spot_file(path: Path) -> pd.DataFrame:
    """Return the spots by name (``XxY``)."""
    spots = _read_tsv(path, ["x", "y", "new_x", "new_y", "pixel_x", "pixel_y", "selected"])
    spots = spots.apply(pd.to_numeric, errors="coerce")
    wrong = np.argwhere(~np.isfinite(spots.to_numpy(dtype=np.float64)))
    if len(wrong):
        line, column = wrong[0][0] + 2, spots.columns[wrong[0][1]]
        raise SchemaError(str(path), [f"line {line}, column {column!r} holds no number"])
    if (spots[["x", "y"]] % 1 != 0).any(axis=None):
        raise SchemaError(str(path), ["x and y must be whole places on the array; the fine ones are new_x and new_y"])
    spots.index = pd.Index([f"{x}x{y}" for x, y in spots[["x", "y"]].astype(int).to_numpy()])
    if twice := spots.index[spots.index.duplicated()].tolist():
        raise SchemaError(str(path), [f"spot {twice[0]} is listed twice"])
    return spots


def _check_rows(rows: tuple[str, ...], genes: tuple[str, ...], path: Path) -> None:
    is_spot = re.compile(r"\d+x\d+").fullmatch
    if not any(map(is_spot, rows)):
        turned = any(map(is_spot, genes))
        hint = "the table seems to be transposed: spots must be its rows" if turned else "they must be named like 10x13"
        raise SchemaError(str(path), [f"the rows are no spots (the first is {rows[0]!r}); {hint}"])
    if len(set(rows)) < len(rows):
        twice = next(r for i, r in enumerate(rows) if r in rows[:i])
        raise SchemaError(str(path), [f"spot {twice} is listed twice"])


def _read_regions(path: Path, spots: pd.DataFrame) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the pathologist's label of each spot, found by its place on the array, and notes."""
    if not path.is_file():
        return None, ()
    labels = _read_tsv(path, ["x", "y", "label"]).dropna()
    from scipy.spatial import cKDTree  # noqa: PLC0415 - only for labelled sections

    distance, nearest = cKDTree(labels[["x", "y"]]).query(spots[["new_x", "new_y"]])
    found = distance <= SAME_PLACE
    if found.mean() < MIN_OVERLAP:
        return None, (f"labels left out: {path.name} fits {found.sum()} of {len(spots)} spots",)
    regions = labels["label"].to_numpy(dtype=str)[nearest]
    return np.where(found, regions, UNLABELLED), ()


def _find_image(folder: Path, name: str) -> Path | None:
    """Return the one image of a section, None if there is none."""
    candidates = [*folder.glob(f"{name}.*"), *folder.glob(f"*/{name}/*")]
    images = sorted(p for p in candidates if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(images) > 1:
        raise DataAccessError(
            f"section {name} has {len(images)} images ({images[0].name}, {images[1].name}, ...); "
            "name the right one in an import manifest"
        )
    return images[0] if images else None


def _read_donors(folder: Path) -> dict[str, str]:
    """Return donors by section name from STUtility's ``metaData.csv``, empty without one."""
    path = folder.parent / "metaData.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, sep=";", dtype=str)
    if not {"samples", "individual"} <= set(table.columns):
        return {}
    return {PurePosixPath(s).stem: d for s, d in table[["samples", "individual"]].dropna().to_numpy()}
