import gzip

import h5py
import numpy as np
import pytest

from hescribe.data.readers.base import readers
from hescribe.errors import DataAccessError, FormatError, SchemaError


def read(folder):
    return readers.create("visium").read(folder)


@pytest.mark.parametrize("matrix", ["h5", "v2", "v3"])
@pytest.mark.parametrize("positions", ["new", "old"])
def test_every_variant_gives_the_same_section(write_visium, matrix, positions):
    (section,) = read(write_visium(matrix=matrix, positions=positions))
    reference = np.random.default_rng(3).poisson(2, (24, 5))[:-1, [0, 1, 2, 4]]  # no antibody, no spot off the tissue
    assert section.counts.toarray().tolist() == reference.tolist()
    assert section.genes == ("AAA", "TWIN_ENS2", "TWIN_ENS3", "DDD")
    assert section.gene_ids == ("ENS1", "ENS2", "ENS3", "ENS4")
    assert section.spots[0] == "CELL00-1"
    assert len(section.spots) == 23
    assert section.dropped_spots == ()
    assert section.id == "sample"


def test_pixel_rows_are_y_and_columns_are_x(write_visium):
    (section,) = read(write_visium())
    assert section.xy_px[1].tolist() == [300, 100]  # array row 0, column 2
    assert section.array_xy[1].tolist() == [2, 0]
    assert section.coordinate_scale == 0.1
    assert section.image.name == "tissue_hires_image.png"


def test_a_folder_of_samples_gives_a_section_each(write_visium):
    write_visium(name="one")
    outs = write_visium(name="two", matrix="v3")
    assert [s.id for s in read(outs.parents[1])] == ["one", "two"]


def test_the_folder_of_one_sample_gives_it_once(write_visium):
    outs = write_visium()
    assert [s.id for s in read(outs.parent)] == [s.id for s in read(outs)] == ["sample"]


def test_spots_of_only_one_file_are_dropped_and_listed(write_visium):
    outs = write_visium()
    path = outs / "spatial/tissue_positions.csv"
    path.write_text(path.read_text().replace("CELL03-1", "NEW-1"))
    (section,) = read(outs)
    assert section.dropped_spots == ("CELL03-1", "NEW-1")


def test_a_matrix_of_another_section_is_refused(write_visium):
    outs = write_visium()
    path = outs / "spatial/tissue_positions.csv"
    path.write_text(path.read_text().replace("CELL0", "OTHER"))
    with pytest.raises(SchemaError, match="only 13 spots are in both"):
        read(outs)


@pytest.mark.parametrize("matrix", ["v2", "v3"])
def test_an_mtx_that_is_cut_off_is_refused(write_visium, matrix):
    outs = write_visium(matrix=matrix)
    path = next((outs / "filtered_feature_bc_matrix").glob("matrix.mtx*"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"matrix\.mtx.* is damaged or truncated"):
        read(outs)


@pytest.mark.parametrize(("matrix", "name"), [("v2", "barcodes.tsv"), ("v2", "genes.tsv"), ("v3", "features.tsv.gz")])
def test_lists_that_do_not_fit_the_matrix_are_refused(write_visium, matrix, name):
    outs = write_visium(matrix=matrix)
    path = outs / "filtered_feature_bc_matrix" / name
    text = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    text = b"".join(text.splitlines(keepends=True)[:-1])
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(FormatError, match="do not belong together or one is truncated"):
        read(outs)


def test_a_truncated_list_is_refused(write_visium):
    outs = write_visium(matrix="v3")
    path = outs / "filtered_feature_bc_matrix/barcodes.tsv.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"barcodes\.tsv\.gz is damaged or truncated"):
        read(outs)


def test_an_h5_that_is_cut_off_or_something_else_is_refused(write_visium):
    outs = write_visium()
    path = outs / "filtered_feature_bc_matrix.h5"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FormatError, match=r"matrix\.h5 is damaged"):
        read(outs)
    with h5py.File(path, "w") as file:
        file["other"] = 1
    with pytest.raises(FormatError, match="no matrix of Space Ranger"):
        read(outs)


def test_an_h5_whose_indices_point_outside_is_refused(write_visium):
    outs = write_visium()
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "r+") as file:
        file["matrix/indices"][0] = 99
    with pytest.raises(FormatError, match="is damaged"):
        read(outs)


def test_positions_are_checked(write_visium):
    outs = write_visium()
    path = outs / "spatial/tissue_positions.csv"
    text = path.read_text()
    path.write_text(text[: text.rindex(",") - 4])
    with pytest.raises(SchemaError, match="the line of spot CELL23-1 lacks a number"):
        read(outs)
    path.write_text(text + text.splitlines()[-1])
    with pytest.raises(SchemaError, match="spot CELL23-1 is listed twice"):
        read(outs)
    path.write_text(text.replace("pxl_row_in_fullres", "other"))
    with pytest.raises(FormatError, match="no table of spot positions"):
        read(outs)
    path.unlink()
    with pytest.raises(DataAccessError, match=r"neither tissue_positions\.csv nor tissue_positions_list\.csv"):
        read(outs)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"tissue_hires_scalef": "x"}', "[]"])
def test_a_reduced_image_of_unknown_scale_is_refused(write_visium, content):
    outs = write_visium()
    (outs / "spatial/scalefactors_json.json").write_text(content)
    with pytest.raises(FormatError, match=r"does not say how tissue_hires_image.png was reduced"):
        read(outs)


def test_without_image_the_section_stays(write_visium):
    outs = write_visium()
    (outs / "spatial/tissue_hires_image.png").unlink()
    (section,) = read(outs)
    assert section.image is None


def test_a_folder_without_matrix_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match="it is no outs folder"):
        read(tmp_path)
