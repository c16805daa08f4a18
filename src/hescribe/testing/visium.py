"""Synthetic Visium samples in Space Ranger's own files, so that the tutorials have something to read."""

import json
from pathlib import Path

import h5py
import numpy as np
import tifffile
from PIL import Image
from scipy import sparse
from scipy.spatial import cKDTree

from hescribe import keys
from hescribe.data.readers.tenx_matrix import EXPRESSION, FILTERED
from hescribe.data.section import Section
from hescribe.data.toy import toy_cohort

PITCH_UM, SPOT_UM, FINE_UM = 100.0, 55.0, 25.0  # of Visium's array and spots; of the tissue that spots are summed from
HIRES_PX = 600  # longest side of the reduced image
SEED = 22


def write_samples(folder: Path, *, n_donors: int = 4, seed: int = SEED) -> None:
    """Write ``P1/outs`` ... of Space Ranger, the full images in ``images``, and ``manifest.toml``.

    Parameters
    ----------
    folder
        Made if it is not there.
    n_donors
        Each has one section of about 100 spots; the last one's is called ``new`` if you leave it out of the cohort.
    seed
        Of the tissue, see ``toy_cohort``.
    """
    cohort = toy_cohort(seed, n_donors=n_donors, n_spots=1600, n_genes=200, pitch_um=FINE_UM)
    lines = ['organ = "breast"\n']
    for i, section in enumerate(cohort, 1):
        _write_sample(folder / f"P{i}" / "outs", folder / "images" / f"P{i}.tif", section, i)
        lines.append(f'\n[[section]]\nid = "P{i}"\nimage = "images/P{i}.tif"\ndonor = "patient{i}"\n')
    (folder / "manifest.toml").write_text("".join(lines), encoding="utf-8")


def _write_sample(outs: Path, image: Path, section: Section, number: int) -> None:
    assert section.image is not None
    pixels = section.image.read(0.0, 0.0, section.image.size_um, section.image.mpp)
    row, col, counts = _lay_array(section)
    barcodes = np.array([f"SYNTH{number}{r:03d}{c:03d}-1" for r, c in zip(row, col, strict=True)], dtype="S")
    (outs / "spatial").mkdir(parents=True, exist_ok=True)
    image.parent.mkdir(parents=True, exist_ok=True)
    _write_matrix(outs / f"{FILTERED}.h5", counts, barcodes, list(section.genes))
    x_px, y_px = (v / section.image.mpp for v in _place(row, col))
    table = [
        f"{b.decode()},1,{r},{c},{y:.0f},{x:.0f}" for b, r, c, y, x in zip(barcodes, row, col, y_px, x_px, strict=True)
    ]
    head = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres"
    (outs / "spatial" / "tissue_positions.csv").write_text("\n".join([head, *table]) + "\n")
    scale = HIRES_PX / max(pixels.shape[:2])
    small = Image.fromarray(pixels).resize((round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)))
    small.save(outs / "spatial" / "tissue_hires_image.png")
    (outs / "spatial" / "scalefactors_json.json").write_text(json.dumps({"tissue_hires_scalef": scale}))
    per_cm = 1e4 / section.image.mpp
    tifffile.imwrite(image, pixels, photometric="rgb", resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")


def _place(row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of places on a hexagonal array, in um: columns of a row are two apart."""
    return (col + 1) * PITCH_UM / 2, (row + 1) * PITCH_UM * np.sqrt(3) / 2


def _lay_array(section: Section) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """Return row and column of the array's places on tissue, and the counts of the fine spots that each covers."""
    w_um, h_um = section.xy_um.max(axis=0)
    row, col = (a.ravel() for a in np.mgrid[: int(h_um / (PITCH_UM * 0.866)), : int(2 * w_um / PITCH_UM)])
    on_array = (row + col) % 2 == 0
    row, col = row[on_array], col[on_array]
    covered = cKDTree(section.xy_um).query_ball_point(np.column_stack(_place(row, col)), SPOT_UM / 2)
    on_tissue = np.array([len(c) > 0 for c in covered])
    place, fine = np.concatenate([[(k, f) for f in c] for k, c in enumerate(covered[on_tissue])]).T
    member = sparse.csr_matrix((np.ones(len(place)), (place, fine)), (on_tissue.sum(), section.n_spots))
    return row[on_tissue], col[on_tissue], sparse.csr_matrix(member @ section.table.layers[keys.COUNTS])


def _write_matrix(path: Path, counts: sparse.csr_matrix, barcodes: np.ndarray, genes: list[str]) -> None:
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(counts, name).astype(np.int64)
        matrix["shape"], matrix["barcodes"] = np.array(counts.shape[::-1]), barcodes
        features = matrix.create_group("features")
        features["id"], features["name"] = (np.array(v, dtype="S") for v in ([f"ENS{g}" for g in genes], genes))
        features["feature_type"] = np.array([EXPRESSION] * len(genes), dtype="S")
