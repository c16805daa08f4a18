"""Small tables as SpaRED's pipeline leaves them: slides stacked, layers of every step, patches in obsm."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from hescribe.data.importing import import_cohort
from hescribe.data.readers.base import readers
from hescribe.data.readers.h5ad_parts import read_parts
from hescribe.errors import FormatError, SchemaError

HEX = [(row, col) for row in range(4) for col in range(row % 2, 8, 2)]
SLIDES = ("V11L12-038_A1", "V11L12-038_B1")


def spared_table(patients=("V11L12-038", "V11L12-038"), *, patch_px=4):
    n = len(HEX)
    counts = np.random.default_rng(2).poisson(3, (2 * n, 5)).astype(np.float32)
    row, column = np.tile(np.array(HEX), (2, 1)).T
    obs = pd.DataFrame({"slide_id": np.repeat(SLIDES, n), "patient": np.repeat(patients, n)})
    obs["split"] = np.repeat(["train", "val"], n)
    obs["array_row"], obs["array_col"] = row, column
    obs.index = obs["unique_id"] = [f"SPOT{i % n}-1_{s}" for i, s in enumerate(obs["slide_id"])]
    table = AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"ENSG0000000000{i}" for i in range(5)]))
    for layer in ("tpm", "log1p", "d_log1p", "c_log1p", "c_d_log1p", "deltas"):
        table.layers[layer] = np.log1p(counts) + 0.5
    table.layers["counts"], table.layers["mask"] = counts.copy(), counts > 0
    table.X = table.layers["c_d_log1p"].copy()
    table.obsm["spatial"] = np.column_stack([column * 100, row * 173.2]) + 500
    table.obsm["patches_scale_1.0"] = np.zeros((2 * n, patch_px * patch_px * 3), dtype=np.uint8)
    return table


def read(path):
    return readers.create("spared").read(path)


@pytest.fixture
def path(tmp_path):
    """Return a processed table."""
    spared_table().write_h5ad(tmp_path / "adata.h5ad")
    return tmp_path / "adata.h5ad"


def test_each_slide_is_a_section_with_its_raw_counts(path):
    sections, table = read(path), spared_table()
    assert [s.id for s in sections] == list(SLIDES)
    for section in sections:
        part = table[table.obs["slide_id"] == section.id]
        assert section.counts.toarray().tolist() == part.layers["counts"].tolist()
        assert section.xy_px.tolist() == part.obsm["spatial"].tolist()
        assert section.spots == tuple(part.obs_names)
    assert sections[0].gene_ids == sections[0].genes == tuple(table.var_names)


def test_the_serial_of_a_chip_is_no_donor(path):
    first, _ = read(path)
    assert first.donor is None
    assert "its patient V11L12-038 is the serial number of a chip, not a person" in first.notes


@pytest.mark.parametrize(
    ("patient", "donor"), [("P1", "P1"), ("MB50", "MB50"), ("unique", None), ("nan", None), ("V19D02-088", None)]
)
def test_a_patient_is_a_donor_where_it_is_a_person(tmp_path, patient, donor):
    spared_table((patient, patient)).write_h5ad(tmp_path / "adata.h5ad")
    assert [s.donor for s in read(tmp_path)] == [donor, donor]


def test_a_slide_of_two_patients_is_refused(tmp_path):
    table = spared_table()
    table.obs["patient"] = ["P1", "P2"] * (table.n_obs // 2)
    table.write_h5ad(tmp_path / "adata.h5ad")
    with pytest.raises(SchemaError, match=r"slide V11L12-038_A1 has spots of 2 patients \(P1, P2\)"):
        read(tmp_path)


def test_what_the_table_is_and_is_not_is_said(path):
    notes = read(path)[0].notes
    assert "its table holds the 5 genes that SpaRED kept: depth is over these alone" in notes
    assert "the patches inside are not used; name the slide's image in an import manifest" in notes
    assert "published split: train" in notes


def test_it_comes_in_with_the_scale_of_the_hex_grid(path, tmp_path):
    report = import_cohort(path, "spared", tmp_path / "c")
    assert [s.card.mpp for s in report.cohort] == pytest.approx([0.5, 0.5], rel=1e-3)  # 200 px between neighbours
    assert len(report.without_image) == 2


def test_patches_stay_on_disk(tmp_path):
    """24 MB of patches: reading the file as a whole would hold them."""
    spared_table(patch_px=500).write_h5ad(tmp_path / "adata.h5ad")
    tracemalloc.start()
    parts = read_parts(tmp_path / "adata.h5ad")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "patches_scale_1.0" in parts.obsm
    assert peak < 3e6


@pytest.mark.parametrize("column", ["slide_id", "patient"])
def test_another_table_is_refused(tmp_path, column):
    table = spared_table()
    table.obs = table.obs.drop(columns=column)
    table.write_h5ad(tmp_path / "adata.h5ad")
    with pytest.raises(SchemaError, match=f"column '{column}' of obs is missing: it is no table of SpaRED"):
        read(tmp_path)


def test_a_table_without_counts_is_refused(tmp_path):
    table = spared_table()
    del table.layers["counts"]
    table.write_h5ad(tmp_path / "adata.h5ad")
    with pytest.raises(SchemaError, match=r"it has no raw counts: X holds .*, which is no count"):
        read(tmp_path)


def test_a_truncated_table_is_refused(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FormatError, match=r"adata\.h5ad is damaged"):
        read(path)
