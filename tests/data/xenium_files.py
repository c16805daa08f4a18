"""Xenium output folders that the tests write, and what must be counted in them."""

import json

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from hescribe.data.readers.base import readers

PIXEL_UM = 0.2125  # of every Xenium morphology image
NAMES = [
    "ERBB2",
    "ABCC11",
    "ZEB2",
    "NegControlProbe_00042",
    "BLANK_0006",
    "antisense_PROKR2",
    "UnassignedCodeword_0001",
]
# H&E px to morphology px: turned by 90 degrees, mirrored in nothing, 1.5-fold, moved differently in x and y.
MATRIX = np.array([[0.0, -1.5, 1400.0], [1.5, 0.0, 30.0], [0.0, 0.0, 1.0]])


def transcripts(n=4000, seed=0, reach_um=(260.0, 170.0)):
    rng = np.random.default_rng(seed)
    name = rng.choice(NAMES, n, p=[0.4, 0.3, 0.2, 0.025, 0.025, 0.025, 0.025])
    return pd.DataFrame(
        {
            "transcript_id": np.arange(n, dtype=np.uint64),
            "cell_id": "UNASSIGNED",
            "overlaps_nucleus": np.uint8(0),
            "feature_name": name,
            "x_location": (rng.random(n) * reach_um[0]).astype(np.float32),
            "y_location": (rng.random(n) * reach_um[1]).astype(np.float32),
            "z_location": np.float32(12),
            "qv": rng.choice([8.0, 19.9, 20.0, 40.0], n).astype(np.float32),
        }
    )


def write_table(table, path, *, binary=False):
    """Write transcripts in several row groups; analysis 1.0 stored the names as bytes."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    if binary:
        place = arrow.schema.get_field_index("feature_name")
        arrow = arrow.set_column(place, "feature_name", arrow["feature_name"].cast(pa.binary()))
    parquet.write_table(arrow, path, row_group_size=1000)


@pytest.fixture
def write_xenium(tmp_path):
    """Return a writer of output folders: ``write_xenium(table, image=True, alignment=True, ...)``."""

    def write(table=None, *, name="sample_outs", image=False, alignment=False, panel=False):
        folder = tmp_path / name
        folder.mkdir()
        write_table(transcripts() if table is None else table, folder / "transcripts.parquet")
        (folder / "experiment.xenium").write_text(json.dumps({"major_version": 5, "pixel_size": PIXEL_UM}))
        (folder / "morphology.ome.tif").write_bytes(b"never opened")
        if image:
            Image.new("RGB", (600, 940), "white").save(folder / "sample_he_image.png")
        if alignment:
            np.savetxt(folder / "sample_he_imagealignment.csv", MATRIX, delimiter=",")
        if panel:
            write_panel(folder / "cell_feature_matrix.h5", [("ENS1", "ZEB2"), ("ENS2", "SILENT"), ("ENS3", "ERBB2")])
        return folder

    return write


def write_panel(path, genes):
    rows = [(i, n, "Gene Expression") for i, n in [*genes, ("ENS4", "ABCC11")]]
    rows.append(("NegControlProbe_00042", "NegControlProbe_00042", "Negative Control Probe"))
    with h5py.File(path, "w") as file:
        features = file.create_group("matrix/features")
        for k, key in enumerate(("id", "name", "feature_type")):
            features[key] = np.array([r[k] for r in rows], dtype="S")


def write_cells(folder, *, x=255.0, y=165.0):
    pd.DataFrame({"cell_id": ["a", "b"], "x_centroid": [1.0, x], "y_centroid": [1.0, y]}).to_parquet(
        folder / "cells.parquet"
    )


def read(folder, **params):
    return readers.create("xenium", **params).read(folder)


def expected_counts(table, side_um):
    """Count with pandas alone: (row, column, gene) of certain transcripts of genes."""
    good = table[(table.qv >= 20) & table.feature_name.isin(NAMES[:3])]
    row = np.floor(good.y_location.astype(float) / side_um).astype(int)
    column = np.floor(good.x_location.astype(float) / side_um).astype(int)
    return good.groupby([row, column, "feature_name"]).size()


def as_series(section):
    counts = section.counts.tocoo()
    column, row = section.array_xy[counts.row].T
    index = pd.MultiIndex.from_arrays([row, column, np.array(section.genes)[counts.col]])
    return pd.Series(counts.data, index=index).sort_index()
