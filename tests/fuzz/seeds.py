"""Small valid inputs of every kind that the program reads: what the changes start from."""

import gzip
import json
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from anndata import AnnData
from PIL import Image
from tests.data import conftest as small
from tests.data import test_hescape_reader as hescape
from tests.data import test_hest_reader as hest
from tests.data import test_spared_reader as spared
from tests.data import test_visium_hd_reader as hd
from tests.data import xenium_files as xenium

from hescribe import keys
from hescribe.data.h5ad import write_h5ad


def st(root: Path) -> None:
    """Two sections as her2st has them."""
    for sub in ("ST-cnts", "ST-spotfiles", "ST-imgs/A/A1"):
        (root / "data" / sub).mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("A1", "B1")):
        counts = small.st_counts(seed)
        counts.to_csv(root / f"data/ST-cnts/{name}.tsv.gz", sep="\t")
        small.st_spots(counts).to_csv(root / f"data/ST-spotfiles/{name}_selection.tsv", sep="\t", index=False)
    Image.new("RGB", (400, 360), "white").save(root / "data/ST-imgs/A/A1/he.png")


def st_flat(root: Path) -> None:
    """One section whose files lie side by side, unpacked."""
    counts = small.st_counts(0)
    counts.to_csv(root / "M1.tsv", sep="\t")
    small.st_spots(counts).to_csv(root / "M1_selection.tsv", sep="\t", index=False)
    Image.new("RGB", (400, 360), "white").save(root / "M1.png")


def visium(root: Path, matrix: str = "h5") -> None:
    """An outs folder."""
    outs = root / "sample/outs"
    (outs / "spatial").mkdir(parents=True)
    counts, barcodes = small.visium_counts(), small.BARCODES
    if matrix == "h5":
        small.write_h5_matrix(outs / "filtered_feature_bc_matrix.h5", counts, barcodes)
    else:
        small.write_mtx(outs / "filtered_feature_bc_matrix", counts, barcodes, version=matrix)
    places = zip(barcodes, small.HEX, strict=True)
    rows = [(b, 1, r, c, round(100 + r * 173.2), 100 + c * 100) for b, (r, c) in places]
    head = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
    pd.DataFrame(rows, columns=head).to_csv(outs / "spatial/tissue_positions.csv", index=False)
    Image.new("RGB", (110, 120), "white").save(outs / "spatial/tissue_hires_image.png")
    (outs / "spatial/scalefactors_json.json").write_text(json.dumps({"tissue_hires_scalef": 0.1}))


def visium_hd(root: Path) -> None:
    """An outs folder with bins of 16 um."""
    hd.write_bins(root / "colon/outs/binned_outputs/square_016um", 16)


def xenium_folder(root: Path) -> None:
    """An output with alignment, image and panel."""
    xenium.write_table(xenium.transcripts(600), root / "transcripts.parquet")
    (root / "experiment.xenium").write_text(json.dumps({"major_version": 5, "pixel_size": xenium.PIXEL_UM}))
    Image.new("RGB", (600, 940), "white").save(root / "sample_he_image.png")
    np.savetxt(root / "sample_he_imagealignment.csv", xenium.MATRIX, delimiter=",")
    xenium.write_panel(root / "cell_feature_matrix.h5", [("ENS1", "ZEB2"), ("ENS2", "SILENT"), ("ENS3", "ERBB2")])
    xenium.write_cells(root)


def xenium_csv(root: Path) -> None:
    """An output of old, without an image."""
    xenium.transcripts(300).to_csv(root / "transcripts.csv.gz", index=False)


def hest_folder(root: Path) -> None:
    """One sample with slide and patches."""
    table = hest.sample_table()
    for folder in ("st", "metadata", "wsis", "patches"):
        (root / folder).mkdir()
    write_h5ad(table, root / "st/TENX99.h5ad")
    (root / "metadata/TENX99.json").write_text(json.dumps(hest.XENIUM))
    side = 4 * hest.STEP_PX
    Image.new("RGB", (side, side), "white").save(root / "wsis/TENX99.tif", compression="tiff_deflate")
    hest.write_patches(root / "patches/TENX99.h5", table, rows=[0, 3, 5])


def hescape_folder(root: Path) -> None:
    """Two files of arrow, as the hub has them."""
    one, two = hescape.rows_of("TENA", 1), hescape.rows_of("TENB", 2)
    hescape.write(root / "data-00000-of-00002.arrow", hescape.to_table(one))
    hescape.write(root / "data-00001-of-00002.arrow", hescape.to_table(two))
    (root / "genes.txt").write_text("\n".join(hescape.GENES) + "\n")


def spared_file(root: Path) -> None:
    """A processed table."""
    write_h5ad(spared.spared_table(), root / "adata.h5ad")


def h5ad(root: Path) -> None:
    """Two sections in a file, and one with an image."""
    counts = np.random.default_rng(0).poisson(2, (16, 4)).astype(np.float32)
    row, col = (a.ravel() for a in np.mgrid[:4, :4])
    obs = pd.DataFrame(index=[f"s{i}" for i in range(16)])
    xy = np.column_stack([col + 0.5, row + 0.5]) * 50.0
    for name in ("one", "two"):
        table = AnnData(counts, obs=obs.copy(), var=pd.DataFrame({"gene_ids": list("abcd")}, index=list("ABCD")))
        table.obs["donor"] = f"d{name}"
        table.obsm["spatial"] = xy
        table.uns["spatial"] = {name: {"scalefactors": {"microns_per_pixel": 2.0}}}
        write_h5ad(table, root / f"{name}.h5ad")
    Image.new("RGB", (200, 200), "white").save(root / "one.png")


MANIFEST = """technology = "other"
organ = "breast"
pitch_um = 100.0

[donors]
P1 = ["one"]

[[section]]
id = "one"
image = "one.png"
mpp = 2.0
coordinate_scale = 1.0
mask_boxes_px = [[0, 0, 10, 10]]
black_background = true
fill_rgb = [255, 255, 255]

[[section]]
id = "two"
mpp = 2.0
donor = "P2"
"""


def images(root: Path) -> None:
    """An image of every format, flat and pyramidal."""
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(root / "a.jpg")
    image.save(root / "b.png")
    image.convert("RGBA").save(root / "c.png")
    image.convert("P").save(root / "d.png")
    image.save(root / "e.tif", dpi=(50800, 50800))
    Image.fromarray(pixels[..., 0]).save(root / "f.tif", compression="tiff_lzw")
    tifffile.imwrite(root / "g.tif", pixels, tile=(32, 32), compression="jpeg", resolution=(2e4, 2e4), resolutionunit=3)
    tifffile.imwrite(root / "h.tif", pixels.astype(np.uint16) * 257, photometric="rgb", compression="deflate")
    with tifffile.TiffWriter(root / "i.svs") as svs:
        about = "Aperio Image Library v1\n128x96 (32x32) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
        svs.write(pixels, tile=(32, 32), compression="jpeg", description=about, subfiletype=0)
        svs.write(pixels[::2, ::2], tile=(32, 32), compression="jpeg", subfiletype=1)


def bags(root: Path) -> None:
    """A bag in every format."""
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    xy = np.arange(16, dtype=np.float64).reshape(8, 2)
    with h5py.File(root / "a.h5", "w") as file:
        file["features"], file["coords"] = x, xy
        file["coords"].attrs["patch_size_level0"] = 256
    np.save(root / "b.npy", x)
    pq.write_table(
        pa.table({"d0": x[:, 0], "d1": x[:, 1], "d2": x[:, 2], "x_um": xy[:, 0], "y_um": xy[:, 1]}), root / "c.parquet"
    )
    write_h5ad(AnnData(x, obsm={keys.SPATIAL_UM: xy}), root / "d.h5ad")


LABELS = """slide_id,case_id,site,subtype,grade,os_time,os_event
a,p1,x,LUAD,1,10.5,0
b,p1,x,LUSC,2,3,1
c,p2,y,LUAD,3,77,0
d,p3,y,LUSC,1,5.25,1
"""

REGIONS = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [200, 0, 0]}},
        },
        {
            "type": "Feature",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [[[[1, 1], [3, 1], [3, 3]]], [[[5, 5], [7, 5], [7, 7]]]],
            },
            "properties": {"name": "Stroma"},
        },
    ],
}


def archives(root: Path) -> None:
    """An archive of every kind."""
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/b.txt", "text" * 50)
        file.writestr("c.bin", bytes(range(256)))
    for name, mode in (("b.tar", "w"), ("c.tar.gz", "w:gz"), ("d.tar.xz", "w:xz"), ("e.tar.bz2", "w:bz2")):
        with tarfile.open(root / name, mode) as tar:
            tar.add(root / "a.zip", "x/a.zip")
    (root / "f.tsv.gz").write_bytes(gzip.compress(b"a\tb\n" * 50))
