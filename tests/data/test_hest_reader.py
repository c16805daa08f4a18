"""Small samples in HEST-1k's layout: st/*.h5ad, metadata/*.json, wsis/*.tif, patches/*.h5."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image

from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.readers.base import readers
from hescribe.errors import DataAccessError, FormatError, InputError, PanelError, SchemaError, UnitsError

MPP = 0.25
XENIUM = {
    "dataset_title": "Breast study",
    "st_technology": "Xenium",
    "organ": "Breast",
    "species": "Homo sapiens",
    "patient": "Patient 1",
    "inter_spot_dist": 100.0,
    "pixel_size_um_estimated": MPP,
    "pixel_size_um_embedded": MPP,
}
GENES = ["ERBB2", "NegControlProbe_00042", "ZEB2", "BLANK_0006", "antisense_PROKR2"]
STEP_PX = int(100 / MPP)


def sample_table(n_side=4):
    row, column = (a.ravel() for a in np.mgrid[:n_side, :n_side])
    counts = np.random.default_rng(1).poisson(2, (n_side**2, len(GENES))).astype(np.uint16)
    obs = pd.DataFrame({"in_tissue": True, "array_row": row, "array_col": column})
    obs.index = [f"{r:03d}x{c:03d}" for r, c in zip(row, column, strict=True)]
    xy_px = np.column_stack([column + 0.5, row + 0.5]) * STEP_PX
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES), obsm={"spatial": xy_px})


@pytest.fixture
def write_hest(tmp_path):
    """Return a writer of samples: ``write_hest(name, table, facts, slide=True)``."""

    def write(name="TENX99", table=None, *, slide=False, **facts):
        root = tmp_path / "hest"
        for folder in ("st", "metadata", "wsis", "patches"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (sample_table() if table is None else table).write_h5ad(root / f"st/{name}.h5ad")
        (root / f"metadata/{name}.json").write_text(json.dumps(XENIUM | facts))
        if slide:
            Image.new("RGB", (4 * STEP_PX, 4 * STEP_PX), "white").save(root / f"wsis/{name}.tif")
        return root

    return write


def write_patches(path, table, *, rows, side_px=448, shift=0):
    with h5py.File(path, "w") as file:
        file["img"] = np.zeros((len(rows), 2, 2, 3), dtype=np.uint8)
        file["img"].attrs["patch_size_src"] = side_px
        file["coords"] = (table.obsm["spatial"][rows] - side_px / 2).astype(np.int64)
        file["barcode"] = np.roll(np.array(table.obs_names[rows], dtype="S"), shift)[:, None]


def read(root, **params):
    return readers.create("hest", **params).read(root)


def test_a_sample_brings_counts_scale_donor_and_organ(write_hest):
    (section,) = read(write_hest(slide=True))
    assert section.counts.toarray().tolist() == sample_table().X[:, [0, 2]].tolist()
    assert section.genes == ("ERBB2", "ZEB2")
    assert section.notes == ("left out 3 control probes of 5 features",)
    assert (section.id, section.donor, section.organ, section.organism) == (
        "TENX99",
        "Patient 1",
        "Breast",
        "Homo sapiens",
    )
    assert section.mpp == {"pixel_size_um_estimated": MPP, "pixel_size_um_embedded": MPP}
    assert (section.technology, section.pitch_um, section.image.name) == ("xenium", 100.0, "TENX99.tif")


def test_it_comes_in_as_a_cohort(write_hest, tmp_path):
    report = import_cohort(write_hest(slide=True), "hest", tmp_path / "c")
    (section,) = read_cohort(tmp_path / "c")
    assert section.image.mpp == MPP
    assert section.card.mpp_source == "pixel_size_um_estimated"
    assert section.xy_um[0].tolist() == [50.0, 50.0]
    assert report.without_image == ()


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            {"pixel_size_um_embedded": 0.3639},
            r"pixel_size_um_estimated says 0\.25, pixel_size_um_embedded says 0\.3639, spot pitch says 0\.25",
        ),
        ({"inter_spot_dist": 58.4}, r"estimated says 0\.25, pixel_size_um_embedded says 0\.25, spot pitch says 0\.146"),
    ],
)
def test_contradictory_pixel_sizes_are_refused_with_all_values(write_hest, tmp_path, facts, told):
    with pytest.raises(UnitsError, match=told):
        import_cohort(write_hest(**facts), "hest", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_slide_has_a_say_too(write_hest, tmp_path):
    root = write_hest()
    Image.new("RGB", (1600, 1600), "white").save(root / "wsis/TENX99.tif", dpi=(25400 / 0.5, 25400 / 0.5))
    with pytest.raises(UnitsError, match=r"image says 0\.5, pixel_size_um_estimated says 0\.25"):
        import_cohort(root, "hest", tmp_path / "c")


def test_one_statement_can_be_chosen(write_hest, tmp_path):
    root = write_hest(pixel_size_um_embedded=0.3639)
    report = import_cohort(root, "hest", tmp_path / "c", params={"pixel_size": "estimated"})
    assert report.cohort[0].card.mpp == MPP
    with pytest.raises(InputError, match="'all' or 'estimated' or 'embedded'"):
        read(root, pixel_size="best")


@pytest.mark.parametrize("value", [1.0, 2540.0])
def test_a_pixel_size_that_is_a_mistaken_unit_is_passed_over_and_said(write_hest, value):
    (section,) = read(write_hest(pixel_size_um_embedded=value))
    assert section.mpp == {"pixel_size_um_estimated": MPP}
    assert f"pixel_size_um_embedded of {value:g} is no pixel size of a scan and is passed over" in section.notes


@pytest.mark.parametrize("patient", [None, "", " ", float("nan"), "nan"])
def test_a_blank_patient_is_unknown_and_reported(write_hest, tmp_path, patient):
    report = import_cohort(write_hest(patient=patient), "hest", tmp_path / "c")
    assert any("the donor of 1 of 1 sections is not recorded" in note for note in report.notes)


def test_patient_1_of_two_studies_are_two_donors(write_hest):
    write_hest("A")
    root = write_hest("B", dataset_title="Colon study")
    assert [s.donor for s in read(root)] == ["Patient 1 of Breast study", "Patient 1 of Colon study"]
    assert [s.donor for s in read(write_hest("B"))] == ["Patient 1", "Patient 1"]


def test_without_slide_there_is_no_image_and_patches_are_no_substitute(write_hest):
    root = write_hest()
    write_patches(root / "patches/TENX99.h5", sample_table(), rows=[9, 2, 5])
    (section,) = read(root)
    assert section.image is None
    expected = "3 of 16 spots have a patch, but wsis/TENX99.tif is absent: without the slide the section has no image"
    assert expected in section.notes


def test_patches_of_other_barcodes_are_refused(write_hest):
    root = write_hest()
    write_patches(root / "patches/TENX99.h5", sample_table(), rows=[9, 2, 5], shift=1)
    with pytest.raises(SchemaError, match=r"the patch of .* px from the spot of that barcode"):
        read(root)


def test_patches_whose_coords_are_middles_are_refused(write_hest):
    root = write_hest()
    write_patches(root / "patches/TENX99.h5", sample_table(), rows=[9, 2, 5])
    with h5py.File(root / "patches/TENX99.h5", "r+") as file:
        file["coords"][:] += 224
    with pytest.raises(SchemaError, match="lies 224 px from the spot"):
        read(root)


def test_patches_of_another_sample_are_refused(write_hest):
    root = write_hest()
    other = sample_table()
    other.obs_names = "x" + other.obs_names
    write_patches(root / "patches/TENX99.h5", other, rows=[1, 2, 3])
    with pytest.raises(SchemaError, match="only 0 of its 3 patches have a barcode of the table"):
        read(root)


def test_patches_in_another_order_are_joined_by_barcode(write_hest):
    root, table = write_hest(), sample_table()
    write_patches(root / "patches/TENX99.h5", table, rows=np.random.default_rng(0).permutation(16)[:15])
    assert "15 of 16 spots have a patch" in read(root)[0].notes[1]


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("coords", np.zeros((5, 2)), r"16 barcodes and coords of shape \(5, 2\)"),
        ("coords", np.zeros((16, 3)), r"16 barcodes and coords of shape \(16, 3\)"),
        ("patch_size_src", "large", "no patches of HEST"),
    ],
)
def test_patches_that_do_not_fit_themselves_are_refused(write_hest, part, value, told):
    root = write_hest()
    write_patches(root / "patches/TENX99.h5", sample_table(), rows=np.arange(16))
    with h5py.File(root / "patches/TENX99.h5", "r+") as file:
        if part == "coords":
            del file["coords"]
            file["coords"] = value
        else:
            file["img"].attrs[part] = value
    with pytest.raises(FormatError, match=told):
        read(root)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")  # what this test is about
def test_patches_cannot_be_joined_to_spots_of_one_name(write_hest):
    table = sample_table()
    table.obs_names = [table.obs_names[0]] * 2 + list(table.obs_names[2:])
    root = write_hest(table=table)
    write_patches(root / "patches/TENX99.h5", sample_table(), rows=np.arange(16))
    with pytest.raises(SchemaError, match="spot 000x000 is in the table twice"):
        read(root)


def test_old_patches_without_a_size_are_not_compared(write_hest):
    root = write_hest()
    write_patches(root / "patches/TENX99.h5", sample_table(), rows=[1, 2])
    with h5py.File(root / "patches/TENX99.h5", "r+") as file:
        del file["img"].attrs["patch_size_src"]
    assert any("were not compared with the spots" in note for note in read(root)[0].notes)


def test_a_sample_named_by_ensembl_ids_says_so_and_does_not_go_with_symbols(write_hest, tmp_path):
    table = sample_table()
    table.var_names = [f"ENSG0000000000{i}" for i in range(5)]
    write_hest("A", table)
    (section,) = read(write_hest("A", table))
    assert section.gene_ids == section.genes == tuple(table.var_names)
    assert any("named by Ensembl identifier" in note for note in section.notes)
    with pytest.raises(PanelError, match="give all sections the same kind of gene names"):
        import_cohort(write_hest("B"), "hest", tmp_path / "c")


def test_visium_hd_takes_no_array_from_hest_and_says_that_counts_are_missing(write_hest):
    (section,) = read(write_hest(st_technology="Visium HD", inter_spot_dist=128.0))
    assert section.array_xy is None
    assert any("prefer Space Ranger's output" in note for note in section.notes)


def test_permuted_array_places_are_refused(write_hest, tmp_path):
    table = sample_table()
    table.obs["array_row"] = np.random.default_rng(0).permutation(table.obs["array_row"])
    with pytest.raises(UnitsError, match="the pixel coordinates do not follow the places on the array"):
        import_cohort(write_hest(table=table), "hest", tmp_path / "c")


def test_a_missing_or_damaged_file_is_named(write_hest):
    root = write_hest()
    (root / "metadata/TENX99.json").write_text("{")
    with pytest.raises(FormatError, match=r"TENX99\.json is damaged"):
        read(root)
    (root / "metadata/TENX99.json").write_text("[]")
    with pytest.raises(FormatError, match="must be one JSON object"):
        read(root)
    (root / "metadata/TENX99.json").unlink()
    with pytest.raises(DataAccessError, match=r"TENX99\.json cannot be read"):
        read(root)
    write_hest()
    (root / "patches/TENX99.h5").write_bytes(b"x" * 100)
    with pytest.raises(FormatError, match="no patches of HEST"):
        read(root)
    path = root / "st/TENX99.h5ad"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(FormatError, match=r"TENX99\.h5ad is damaged"):
        read(root)


def test_a_table_without_places_is_refused(write_hest):
    table = sample_table()
    del table.obsm["spatial"]
    with pytest.raises(SchemaError, match="its spots have no places"):
        read(write_hest(table=table))


def test_another_layout_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match="it is not laid out as HEST-1k"):
        read(tmp_path)
