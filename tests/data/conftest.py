"""Small datasets on disk, in every format the readers know."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import io, sparse
from tests.data.xenium_files import write_xenium  # noqa: F401 - a fixture of several files

PITCH_PX = 40  # of the small legacy ST sections: 5 um per pixel at a pitch of 200 um


def st_counts(seed: int, n_genes: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    spots = [f"{x}x{y}" for x in range(2, 8) for y in range(3, 8)]
    return pd.DataFrame(rng.poisson(1.5, (30, n_genes)), index=spots, columns=[f"G{i}" for i in range(n_genes)])


def st_spots(counts: pd.DataFrame) -> pd.DataFrame:
    place = np.array([[int(v) for v in name.split("x")] for name in counts.index])
    columns = {"x": place[:, 0], "y": place[:, 1], "new_x": place[:, 0] + 0.01, "new_y": place[:, 1] - 0.02}
    return pd.DataFrame(columns | {"pixel_x": place[:, 0] * PITCH_PX, "pixel_y": place[:, 1] * PITCH_PX, "selected": 1})


@pytest.fixture
def write_st(tmp_path: Path):
    """Return a writer of one her2st-like section: ``write_st(name, counts, spots, image=True)``."""

    def write(name: str, counts: pd.DataFrame, spots: pd.DataFrame | None = None, *, image: bool = True) -> Path:
        folder = tmp_path / "dataset"
        for sub in ("ST-cnts", "ST-spotfiles", f"ST-imgs/{name[0]}/{name}"):
            (folder / "data" / sub).mkdir(parents=True, exist_ok=True)
        counts.to_csv(folder / f"data/ST-cnts/{name}.tsv.gz", sep="\t")
        spots = st_spots(counts) if spots is None else spots
        spots.to_csv(folder / f"data/ST-spotfiles/{name}_selection.tsv", sep="\t", index=False)
        if image:
            pixels = np.random.default_rng(0).integers(0, 255, (360, 400, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"data/ST-imgs/{name[0]}/{name}/he.png")
        return folder

    return write


@pytest.fixture
def counts() -> pd.DataFrame:
    """Return a count table of 30 spots and 12 genes."""
    return st_counts(0)


@pytest.fixture
def spots(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the spot file of ``counts``: a square grid, 40 pixels apart."""
    return st_spots(counts)


@pytest.fixture
def st_folder(write_st) -> Path:
    """Return a her2st-like dataset: A1 and B1, with image, 12 genes; 5 um per pixel."""
    write_st("A1", st_counts(0))
    return write_st("B1", st_counts(1))


HEX = [(row, col) for row in range(6) for col in range(row % 2, 8, 2)]
BARCODES = [f"CELL{i:02d}-1" for i in range(len(HEX))]
FEATURES = [
    ("ENS1", "AAA", "Gene Expression"),
    ("ENS2", "TWIN", "Gene Expression"),
    ("ENS3", "TWIN", "Gene Expression"),
    ("AB1", "CD3", "Antibody Capture"),
    ("ENS4", "DDD", "Gene Expression"),
]


def visium_counts() -> np.ndarray:
    """Return counts of shape (n_spots, n_features)."""
    return np.random.default_rng(3).poisson(2, (len(HEX), len(FEATURES)))


@pytest.fixture
def write_visium(tmp_path: Path):
    """Return a writer of outs folders; in tissue are all spots but the last, which the matrix leaves out."""

    def write(*, matrix: str = "h5", positions: str = "new", name: str = "sample") -> Path:
        outs = tmp_path / name / "outs"
        (outs / "spatial").mkdir(parents=True)
        counts, barcodes = visium_counts()[:-1], BARCODES[:-1]
        if matrix == "h5":
            write_h5_matrix(outs / "filtered_feature_bc_matrix.h5", counts, barcodes)
        else:
            write_mtx(outs / "filtered_feature_bc_matrix", counts, barcodes, version=matrix)
        rows = [
            (b, int(i < len(HEX) - 1), r, c, round(100 + r * 173.2), 100 + c * 100)
            for i, (b, (r, c)) in enumerate(zip(BARCODES, HEX, strict=True))
        ]
        head = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
        file = "tissue_positions.csv" if positions == "new" else "tissue_positions_list.csv"
        pd.DataFrame(rows, columns=head).to_csv(outs / "spatial" / file, index=False, header=positions == "new")
        Image.new("RGB", (100, 110), "white").save(outs / "spatial/tissue_hires_image.png")
        (outs / "spatial/scalefactors_json.json").write_text(json.dumps({"tissue_hires_scalef": 0.1}))
        return outs

    return write


def write_h5_matrix(path: Path, counts: np.ndarray, barcodes: list[str]) -> None:
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"] = np.array(counts.shape[::-1])
        group["barcodes"] = np.array(barcodes, dtype="S")
        features = group.create_group("features")
        for key, column in (("id", 0), ("name", 1), ("feature_type", 2)):
            features[key] = np.array([f[column] for f in FEATURES], dtype="S")


def write_mtx(folder: Path, counts: np.ndarray, barcodes: list[str], *, version: str) -> None:
    """Write the mtx folder: ``v3`` gzipped with feature types, ``v2`` plain with genes only."""
    folder.mkdir()
    genes_only = [i for i, f in enumerate(FEATURES) if f[2] == "Gene Expression"]
    chosen = range(len(FEATURES)) if version == "v3" else genes_only
    io.mmwrite(folder / "matrix.mtx", sparse.coo_matrix(counts[:, list(chosen)].T))
    lines = ["\t".join(FEATURES[i][: 3 if version == "v3" else 2]) for i in chosen]
    (folder / ("features.tsv" if version == "v3" else "genes.tsv")).write_text("\n".join(lines) + "\n")
    (folder / "barcodes.tsv").write_text("\n".join(barcodes) + "\n")
    if version == "v3":
        for file in sorted(folder.iterdir()):
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
