"""Small Visium HD outputs in the true format: the folders, files and columns of Space Ranger 3 and 4."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from hescribe import keys
from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.readers.base import readers
from hescribe.data.readers.visium_hd import pool
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError, UnitsError

MPP = 0.5
N_SIDE = {2: 48, 8: 12, 16: 6}  # bins along each side of the small array: 96 um
GENES = [("ENS1", "AAA"), ("ENS2", "BBB"), ("ENS3", "CCC")]


def fine_counts():
    """Return counts of the 2 um bins, shape (48, 48, 3); the left 16 um hold one count in all."""
    counts = np.random.default_rng(5).poisson(0.7, (48, 48, 3))
    counts[:, :8] = 0
    counts[30, 3, 1] = 1
    return counts


def in_tissue(side_um):
    """Return the bins under tissue: the lowest 16 um of the array are bare."""
    mask = np.ones((N_SIDE[side_um], N_SIDE[side_um]), dtype=bool)
    mask[-16 // side_um :] = False
    return mask


def sum_blocks(counts, factor):
    n = len(counts) // factor
    return counts.reshape(n, factor, n, factor, -1).sum(axis=(1, 3))


def centre_px(row, column, side_um):
    """Return where the middle of a bin lies: 100 px from the corner, the array turned by 90 degrees."""
    return 100 + (96 - (row + 0.5) * side_um) / MPP, 40 + (column + 0.5) * side_um / MPP


def write_bins(folder, side_um, *, empty_bins=False):
    (folder / "spatial").mkdir(parents=True)
    mask, counts = in_tissue(side_um), sum_blocks(fine_counts(), side_um // 2)
    row, column = (a.ravel() for a in np.mgrid[: N_SIDE[side_um], : N_SIDE[side_um]])
    names = np.array([f"s_{side_um:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)])
    x, y = centre_px(row, column, side_um)
    places = {"barcode": names, "in_tissue": mask.ravel().astype(np.int64), "array_row": row, "array_col": column}
    places |= {"pxl_row_in_fullres": y, "pxl_col_in_fullres": x}
    pd.DataFrame(places).to_parquet(folder / "spatial/tissue_positions.parquet", index=False)
    flat = counts.reshape(-1, len(GENES))
    kept = mask.ravel() & (empty_bins | (flat.sum(axis=1) > 0))  # Space Ranger lists no bin without a count
    write_h5(folder / "filtered_feature_bc_matrix.h5", flat[kept], names[kept])
    factors = {"bin_size_um": float(side_um), "microns_per_pixel": MPP, "spot_diameter_fullres": side_um / MPP}
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps(factors | {"tissue_hires_scalef": 0.25}))
    Image.new("RGB", (100, 80), "white").save(folder / "spatial/tissue_hires_image.png")


def write_h5(path, counts, names):
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"] = np.array(counts.shape[::-1])
        group["barcodes"] = names.astype("S")
        features = group.create_group("features")
        features["id"], features["name"] = (np.array(v, dtype="S") for v in zip(*GENES, strict=True))
        features["feature_type"] = np.array(["Gene Expression"] * len(GENES), dtype="S")


@pytest.fixture
def outs(tmp_path):
    """Return an outs folder with bins of 2, 8 and 16 um."""
    for side_um in N_SIDE:
        write_bins(tmp_path / f"colon/outs/binned_outputs/square_{side_um:03d}um", side_um)
    return tmp_path / "colon/outs"


def bins(outs, side_um):
    return outs / f"binned_outputs/square_{side_um:03d}um"


def read(folder, **params):
    (section,) = readers.create("visium_hd", **params).read(folder)
    return section


def on_grid(section, n_side):
    """Return the counts of a section on its whole array, zero where it has no bin."""
    grid = np.zeros((n_side, n_side, len(GENES)), dtype=np.int64)
    column, row = section.array_xy.T
    np.add.at(grid, (row, column), section.counts.toarray())
    return grid


def test_the_tables_own_bins_come_over_as_they_are(outs):
    section = read(outs)
    assert (on_grid(section, 6) == sum_blocks(fine_counts(), 8) * in_tissue(16)[..., None]).all()
    assert section.spots[0] == "s_016um_00000_00001-1"
    assert section.id == "colon"
    assert (section.genes, section.gene_ids) == (("AAA", "BBB", "CCC"), ("ENS1", "ENS2", "ENS3"))
    assert (section.technology, section.pitch_um) == ("visium_hd", 16.0)


@pytest.mark.parametrize(("bin_um", "finest"), [(2, 2), (4, 2), (6, 2), (24, 8), (32, 16), (48, 16)])
def test_coarser_bins_are_exact_sums(outs, bin_um, finest):
    """A fancy-index += would keep one bin of each block."""
    section = read(outs, bin_um=bin_um)
    tissue = sum_blocks(fine_counts(), finest // 2) * in_tissue(finest)[..., None]
    expected = sum_blocks(tissue, bin_um // finest)
    assert (on_grid(section, 96 // bin_um) == expected).all()
    assert section.counts.sum() == tissue.sum()
    assert len(section.spots) == (expected.sum(axis=2) > 0).sum()


def test_all_bin_sizes_give_the_same_sum_of_each_gene(outs):
    sums = {side: read(outs, bin_um=side).counts.sum(axis=0).tolist() for side in (2, 4, 8, 16, 32)}
    assert len({str(s) for s in sums.values()}) == 1


@pytest.mark.parametrize("bin_um", [4, 16, 24, 32])
def test_the_centre_of_a_pooled_bin_is_where_the_array_has_it(outs, bin_um):
    """Also of a block with one filled bin in a corner: the mean of its filled bins would be off."""
    section = read(outs, bin_um=bin_um)
    column, row = section.array_xy.T
    assert section.xy_px == pytest.approx(np.column_stack(centre_px(row, column, bin_um)), abs=1e-6)
    assert [30 * 2 // bin_um, 3 * 2 // bin_um] in section.array_xy[:, ::-1].tolist()


def test_the_centre_follows_an_array_that_is_seen_in_perspective(outs):
    path = bins(outs, 2) / "spatial/tissue_positions.parquet"
    table = pd.read_parquet(path)
    table["pxl_col_in_fullres"] += 1e-4 * table["array_row"] * table["array_col"]
    table.to_parquet(path, index=False)
    section = read(outs, bin_um=4)
    column, row = section.array_xy.T
    bent = 1e-4 * (2 * row + 0.5) * (2 * column + 0.5)
    assert section.xy_px[:, 0] == pytest.approx(centre_px(row, column, 4)[0] + bent, abs=5e-3)


def test_a_bin_off_the_tissue_is_left_out_and_named(outs):
    path = bins(outs, 8) / "spatial/tissue_positions.parquet"
    table = pd.read_parquet(path)
    table.loc[table["barcode"] == "s_008um_00000_00005-1", "in_tissue"] = 0
    table.to_parquet(path, index=False)
    section = read(outs, bin_um=8)
    assert section.dropped_spots == ("s_008um_00000_00005-1",)
    assert [5, 0] not in section.array_xy.tolist()


def test_the_scale_comes_from_the_scalefactors_and_fits_the_pitch(outs, tmp_path):
    import_cohort(outs, "visium_hd", tmp_path / "c", params={"bin_um": 8})
    (section,) = read_cohort(tmp_path / "c")
    assert section.image.mpp == pytest.approx(2.0)  # reduced 4-fold
    assert section.card.mpp_source == "scalefactors microns_per_pixel"
    assert section.card.pitch_um == 8.0
    first = section.table.obs[[keys.ARRAY_ROW, keys.ARRAY_COL]].iloc[0].to_numpy()
    assert section.xy_um[0] == pytest.approx(np.array(centre_px(*first, 8)) * MPP)


def test_the_full_image_beside_is_used(outs, tmp_path):
    Image.new("RGB", (400, 320), "white").save(outs.parent / "colon_tissue_image.tif")
    import_cohort(outs, "visium_hd", tmp_path / "c", params={"bin_um": 32})
    (section,) = read_cohort(tmp_path / "c")
    assert section.image.path.name == "colon_tissue_image.tif"
    assert section.image.mpp == pytest.approx(MPP)


def test_the_reduced_image_is_said_to_be_one(outs):
    assert read(outs).notes == (
        "its image is the reduced tissue_hires_image.png; name the full one in an import manifest",
    )


def test_two_full_images_are_refused(outs):
    for name in ("a_tissue_image.tif", "b_tissue_image.btf"):
        (outs / name).write_bytes(b"x")
    with pytest.raises(DataAccessError, match=r"has 2 full images \(a_tissue_image.tif, b_tissue_image.btf"):
        read(outs)


@pytest.mark.parametrize(
    ("factor", "value", "told"),
    [
        ("microns_per_pixel", 0.27, r"microns_per_pixel says 1\.08, scalefactors spot_diameter_fullres says 2"),
        ("spot_diameter_fullres", 100.0, "spot_diameter_fullres says 0.64, spot pitch says 2"),
    ],
)
def test_contradictory_scales_are_refused_with_all_values(outs, tmp_path, factor, value, told):
    path = bins(outs, 16) / "spatial/scalefactors_json.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {factor: value}))
    with pytest.raises(UnitsError, match=told):
        import_cohort(outs, "visium_hd", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_folder_of_other_bins_than_it_says_is_refused(outs):
    path = bins(outs, 16) / "spatial/scalefactors_json.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bin_size_um": 8.0}))
    with pytest.raises(SchemaError, match="bin_size_um is 8, and the folder holds bins of 16 um"):
        read(outs)


@pytest.mark.parametrize("content", ["", "[]", '{"microns_per_pixel": "x"}', '{"spot_diameter_fullres": 0}'])
def test_damaged_scalefactors_are_refused(outs, content):
    (bins(outs, 16) / "spatial/tissue_hires_image.png").unlink()
    (bins(outs, 16) / "spatial/scalefactors_json.json").write_text(content)
    with pytest.raises(FormatError, match="does not hold the scale of the bins as numbers"):
        read(outs)


def test_without_scalefactors_the_pitch_is_the_scale(outs, tmp_path):
    for name in ("scalefactors_json.json", "tissue_hires_image.png"):
        (bins(outs, 16) / "spatial" / name).unlink()
    report = import_cohort(outs, "visium_hd", tmp_path / "c")
    assert report.cohort[0].card.mpp == pytest.approx(MPP)
    assert report.cohort[0].card.mpp_source == "spot pitch"


@pytest.mark.parametrize(
    ("bin_um", "told"), [(7, "a multiple of a bin that"), (0, "at least 2|between 2"), (8.5, "must be a whole number")]
)
def test_bins_that_cannot_be_made_are_refused(outs, bin_um, told):
    with pytest.raises(InputError, match=told):
        read(outs, bin_um=bin_um)


def test_positions_are_checked(outs):
    path = bins(outs, 16) / "spatial/tissue_positions.parquet"
    whole = pd.read_parquet(path)
    for wrong, told in (
        (
            whole.assign(barcode=whole["barcode"].replace("s_016um_00001_00000-1", "s_016um_00000_00000-1")),
            "listed twice",
        ),
        (whole.assign(array_col=0), "two bins share the place of"),
        (whole.assign(pxl_row_in_fullres=np.nan), "has no pixel coordinates"),
        (whole.drop(columns="array_col"), "column 'array_col' is missing"),
    ):
        wrong.to_parquet(path, index=False)
        with pytest.raises(SchemaError, match=told):
            read(outs)
    whole.assign(barcode="x" + whole["barcode"]).to_parquet(path, index=False)
    with pytest.raises(SchemaError, match="only 0 of its 26 bins lie under tissue"):
        read(outs)


@pytest.mark.parametrize("name", ["spatial/tissue_positions.parquet", "filtered_feature_bc_matrix.h5"])
def test_a_truncated_file_is_refused(outs, name):
    path = bins(outs, 16) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FormatError, match="is damaged"):
        read(outs)


def test_a_table_without_bins_is_refused(outs):
    write_h5(
        bins(outs, 16) / "filtered_feature_bc_matrix.h5", np.zeros((0, 3), dtype=np.int64), np.array([], dtype=str)
    )
    with pytest.raises(SchemaError, match="it has no bins"):
        read(outs)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=3, unique=True), st.integers(2, 9))
def test_pooling_loses_no_count_and_keeps_a_turned_grid_in_place(places, factor):
    array = np.array(places)
    assume(np.linalg.matrix_rank(array - array[0]) == 2)
    table = pd.DataFrame(array, columns=["array_row", "array_col"])
    table["pxl_row_in_fullres"], table["pxl_col_in_fullres"] = 7 - 3.0 * array[:, 1], 5 + 3.0 * array[:, 0]
    counts = np.random.default_rng(0).integers(0, 5, (len(array), 2))
    pooled, blocks = pool(sparse.csr_matrix(counts), table, factor)
    assert np.asarray(pooled.sum(axis=0)).ravel().tolist() == counts.sum(axis=0).tolist()
    middle = blocks[["array_row", "array_col"]].to_numpy() * factor + (factor - 1) / 2
    assert blocks["pxl_row_in_fullres"].to_numpy() == pytest.approx(7 - 3.0 * middle[:, 1])
    assert blocks["pxl_col_in_fullres"].to_numpy() == pytest.approx(5 + 3.0 * middle[:, 0])


def test_missing_files_are_named(outs):
    (bins(outs, 16) / "spatial/tissue_positions.parquet").unlink()
    with pytest.raises(DataAccessError, match=r"tissue_positions\.parquet is missing"):
        read(outs)
    for side_um in N_SIDE:
        (bins(outs, side_um) / "filtered_feature_bc_matrix.h5").unlink()
    with pytest.raises(DataAccessError, match=r"holds no square_\*um folder with a filtered matrix"):
        read(outs)
    with pytest.raises(DataAccessError, match="has no folder binned_outputs"):
        read(outs / "binned_outputs")
