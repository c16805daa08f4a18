"""Visium HD: the ``binned_outputs`` of Space Ranger 3 and 4, at any multiple of its bins.

A larger bin is the exact sum of the bins in it. HEST's library adds with a fancy index, which keeps
one bin of each: its pooled counts are too low (Jaume et al., NeurIPS 2024, library 1.1.0).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pyarrow import parquet
from scipy import sparse

from hescribe.data.readers.base import MIN_OVERLAP, RawSection, find_samples, name_sample
from hescribe.data.readers.tenx_matrix import Matrix, has_matrix, name_genes, read_matrix
from hescribe.data.readers.visium import BARCODE, COL, IN_TISSUE, POSITIONS, ROW, X_PX, Y_PX, find_reduced_image
from hescribe.data.untrusted import named_damage, parse_json
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError
from hescribe.params import Params
from hescribe.progress import track

BINNED = "binned_outputs"
FULL_IMAGE = re.compile(r".*tissue_image\.(tiff?|btf|svs|ndpi|jpe?g|png)", re.IGNORECASE)  # as 10x names its downloads


@dataclass(kw_only=True)
class VisiumHdReader(Params):
    """Reads one ``outs`` folder, or every one in a folder of samples.

    Parameters
    ----------
    bin_um
        Side of a bin in um, a multiple of one that the folder has. 16 is the largest that Space
        Ranger writes, so that nothing is pooled unasked; 56 comes close to a Visium spot.
    """

    name: ClassVar[str] = "visium_hd"
    summary: ClassVar[str] = "Visium HD: binned_outputs of Space Ranger, at bins of bin_um (16)"

    bin_um: int = 16

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder, in the order of their names."""
        self.check_between("bin_um", 2, 1000)
        found = find_samples(source, lambda folder: (folder / BINNED).is_dir())
        if not found:
            raise DataAccessError(f"{source} has no folder {BINNED}: it is no outs folder of Visium HD")
        return [_read_outs(folder, self.bin_um) for folder in track(found, "reading sections")]


def _read_outs(outs: Path, bin_um: int) -> RawSection:
    folder, side_um = _choose_bins(outs / BINNED, bin_um)
    matrix = read_matrix(folder).genes_only()
    places = _read_positions(folder / "spatial" / "tissue_positions.parquet")
    matrix, places, off = _match(matrix, places)
    scales = _read_scales(folder / "spatial" / "scalefactors_json.json", side_um)
    image, coordinate_scale = find_reduced_image(folder / "spatial")
    notes = [] if image is None else [f"its image is the reduced {image.name}; name the full one in an import manifest"]
    if full := _find_full_image(outs):
        image, coordinate_scale, notes = full, 1.0, []
    if bin_um > side_um:
        notes.append(f"bins of {bin_um} um are the sums of those of {side_um} um")
    counts, places = pool(matrix.counts, places, bin_um // side_um)
    genes, said = name_genes(matrix.features)
    return RawSection(
        id=name_sample(outs),
        where=matrix.where,
        counts=counts,
        genes=genes,
        gene_ids=tuple(matrix.features["id"]),
        spots=tuple(matrix.barcodes) if bin_um == side_um else _name_bins(places, bin_um),
        xy_px=places[[X_PX, Y_PX]].to_numpy(),
        array_xy=places[[COL, ROW]].to_numpy(dtype=np.int64),
        technology="visium_hd",
        pitch_um=float(bin_um),
        mpp=scales,
        image=image,
        coordinate_scale=coordinate_scale,
        dropped_spots=off,
        notes=(*notes, *said),
    )


def _choose_bins(folder: Path, bin_um: int) -> tuple[Path, int]:
    """Return the folder of the largest bins that ``bin_um`` is a multiple of, and their side in um."""
    named = ((re.fullmatch(r"square_(\d+)um", p.name), p) for p in folder.iterdir())
    sides = {int(match[1]): path for match, path in named if match and has_matrix(path)}
    if not sides:
        raise DataAccessError(f"{folder} holds no square_*um folder with a filtered matrix")
    fitting = [side for side in sides if bin_um % side == 0]
    if not fitting:
        there = ", ".join(map(str, sorted(sides)))
        raise InputError(f"bin_um must be a multiple of a bin that {folder} has ({there} um), got {bin_um}")
    return sides[max(fitting)], max(fitting)


def _read_positions(path: Path) -> pd.DataFrame:
    """Return the bins under tissue by barcode; the others, most of 11 million at 2 um, are not kept."""
    if not path.is_file():
        raise DataAccessError(f"{path} is missing: the bins have no places")
    with named_damage(path, "is damaged or no table of bin positions"):
        if missing := [c for c in POSITIONS if c not in parquet.read_schema(path).names]:
            raise SchemaError(str(path), [f"column {c!r} is missing" for c in missing])
        wanted = [c for c in POSITIONS if c != IN_TISSUE]
        table = parquet.read_table(path, columns=wanted, filters=[(IN_TISSUE, "=", 1)])
        places = table.to_pandas().set_index(BARCODE).astype({ROW: np.int64, COL: np.int64})
    problems = []
    if places.index.hasnans:
        problems.append("a bin under tissue has no name")
    elif places.index.has_duplicates:
        problems.append(f"bin {places.index[places.index.duplicated()][0]} is listed twice")
    if (twice := places.duplicated([ROW, COL])).any():
        problems.append(f"two bins share the place of {places.index[twice][0]} on the array")
    if len(empty := places.index[~np.isfinite(places[[X_PX, Y_PX]]).all(axis=1)]):
        problems.append(f"bin {empty[0]} has no pixel coordinates")
    if problems:
        raise SchemaError(str(path), problems)
    return places


def _match(matrix: Matrix, places: pd.DataFrame) -> tuple[Matrix, pd.DataFrame, tuple[str, ...]]:
    """Return the counted bins that lie under tissue, their places, and the names of the others.

    Bins under tissue without any count are not in the matrix: few at 16 um, most at 2 um.
    """
    row = places.index.get_indexer(matrix.barcodes)
    there = row >= 0
    if not len(there):
        raise SchemaError(str(matrix.where), ["it has no bins"])
    if there.mean() < MIN_OVERLAP:
        problem = (
            f"only {there.sum()} of its {len(there)} bins lie under tissue by the table of positions; at least "
            f"{MIN_OVERLAP:.0%} must: do both files belong to this section?"
        )
        raise SchemaError(str(matrix.where), [problem])
    kept = Matrix(matrix.where, matrix.counts[there], list(np.array(matrix.barcodes)[there]), matrix.features)
    return kept, places.iloc[row[there]], tuple(np.array(matrix.barcodes)[~there].tolist())


def pool(counts: sparse.csr_matrix, places: pd.DataFrame, factor: int) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Return the sums over blocks of ``factor`` x ``factor`` places of the array, and the blocks' own places.

    A block's centre is where the array has it, however many of its bins hold counts: an affine map of
    all bins, moved by what the block's bins deviate from it.
    """
    if factor == 1:
        return counts, places
    array = places[[ROW, COL]].to_numpy()
    blocks, member = np.unique(array // factor, axis=0, return_inverse=True)
    member = member.ravel()
    one_per_bin = np.ones(len(member), dtype=np.int64)  # 64 bits: sums may outgrow the counts' own type
    gather = sparse.csr_matrix((one_per_bin, (member, np.arange(len(member)))), shape=(len(blocks), len(member)))
    xy_px = places[[X_PX, Y_PX]].to_numpy()
    affine = np.linalg.lstsq(_with_one(array), xy_px, rcond=None)[0]
    off_px = gather @ (xy_px - _with_one(array) @ affine) / np.bincount(member)[:, None]
    centre_px = _with_one(blocks * factor + (factor - 1) / 2) @ affine + off_px
    pooled = pd.DataFrame({ROW: blocks[:, 0], COL: blocks[:, 1], X_PX: centre_px[:, 0], Y_PX: centre_px[:, 1]})
    return sparse.csr_matrix(gather @ counts), pooled


def _with_one(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def _name_bins(places: pd.DataFrame, bin_um: int) -> tuple[str, ...]:
    return tuple(f"s_{bin_um:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(places[ROW], places[COL], strict=True))


def _read_scales(path: Path, side_um: int) -> dict[str, float]:
    """Return um per pixel of the full image as each entry of the file states it; empty without the file."""
    if not path.is_file():
        return {}
    try:
        factors = parse_json(path.read_bytes(), path)
        stated_um = float(factors.get("bin_size_um", side_um))
        scales = {f"scalefactors {k}": float(factors[k]) for k in ("microns_per_pixel",) if k in factors}
        if "spot_diameter_fullres" in factors:
            scales["scalefactors spot_diameter_fullres"] = stated_um / float(factors["spot_diameter_fullres"])
    except (OSError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise FormatError(f"{path} does not hold the scale of the bins as numbers: {error}") from error
    if stated_um != side_um:
        raise SchemaError(str(path), [f"bin_size_um is {stated_um:g}, and the folder holds bins of {side_um} um"])
    return scales


def _find_full_image(outs: Path) -> Path | None:
    """Return the full image beside or in the outs folder, None if there is none."""
    folders = {outs, outs.resolve().parent} if outs.name == "outs" else {outs}
    found = sorted(p for folder in folders for p in folder.iterdir() if FULL_IMAGE.fullmatch(p.name))
    if len(found) > 1:
        raise DataAccessError(f"{outs} has {len(found)} full images ({found[0].name}, {found[1].name}, ...); keep one")
    return found[0] if found else None
