import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from hescribe.data.readers.base import readers
from hescribe.errors import DataAccessError, FormatError, SchemaError


def read(path):
    return readers.create("h5ad").read(path)


def table(n_spots=6, **obs):
    counts = np.random.default_rng(0).poisson(2, (n_spots, 3)).astype(np.float32)
    var = pd.DataFrame({"gene_ids": ["E1", "E2", "E3"]}, index=["A", "B", "C"])
    frame = pd.DataFrame(obs, index=[f"s{i}" for i in range(n_spots)])
    return AnnData(counts, obs=frame, var=var, obsm={"spatial": np.arange(2.0 * n_spots).reshape(-1, 2)})


def test_counts_names_and_places_come_over(tmp_path):
    given = table(donor="d7")
    given.write_h5ad(tmp_path / "sec.h5ad")
    (section,) = read(tmp_path / "sec.h5ad")
    assert section.counts.toarray().tolist() == given.X.tolist()
    assert (section.id, section.donor) == ("sec", "d7")
    assert (section.genes, section.gene_ids) == (("A", "B", "C"), ("E1", "E2", "E3"))
    assert section.xy_px.tolist() == given.obsm["spatial"].tolist()
    assert section.image is None


def test_sections_are_told_apart_by_the_library(tmp_path):
    given = table(library_id=["b", "a", "b", "a", "b", "a"], patient_id=["p2", "p1"] * 3)
    given.write_h5ad(tmp_path / "all.h5ad")
    one, two = read(tmp_path / "all.h5ad")
    assert (one.id, one.donor, one.spots) == ("a", "p1", ("s1", "s3", "s5"))
    assert (two.id, two.donor, two.spots) == ("b", "p2", ("s0", "s2", "s4"))
    assert two.counts.toarray().tolist() == given.X[::2].tolist()


def test_a_folder_gives_every_file_with_the_image_beside_it(tmp_path):
    for name in ("two", "one"):
        table().write_h5ad(tmp_path / f"{name}.h5ad")
    (tmp_path / "one.png").write_bytes(b"opened by the import only")
    one, two = read(tmp_path)
    assert (one.id, one.image.name, two.id, two.image) == ("one", "one.png", "two", None)


def test_counts_are_taken_from_where_the_integers_are(tmp_path):
    raw = table()
    layered = raw.copy()
    layered.layers["counts"] = sparse.csr_matrix(raw.X)
    layered.X = np.log1p(raw.X)
    layered.write_h5ad(tmp_path / "layered.h5ad")
    kept = raw.copy()
    kept.raw = raw
    kept = kept[:, :2].copy()
    kept.X = np.log1p(kept.X)
    kept.write_h5ad(tmp_path / "raw.h5ad")
    in_layer, in_raw = read(tmp_path)
    assert in_layer.counts.toarray().tolist() == raw.X.tolist()
    assert in_raw.genes == ("A", "B", "C")


def test_normalised_values_are_refused(tmp_path):
    given = table()
    given.X = np.log1p(given.X)
    given.write_h5ad(tmp_path / "sec.h5ad")
    with pytest.raises(SchemaError, match=r"sec\.h5ad: it has no raw counts: X holds .*, which is no count"):
        read(tmp_path / "sec.h5ad")


def test_nan_is_no_count(tmp_path):
    given = table()
    given.X[0, 0] = np.nan
    given.write_h5ad(tmp_path / "sec.h5ad")
    with pytest.raises(SchemaError, match="X holds nan"):
        read(tmp_path / "sec.h5ad")


def test_a_section_of_two_donors_is_refused(tmp_path):
    table(donor=["a", "b"] * 3).write_h5ad(tmp_path / "sec.h5ad")
    with pytest.raises(SchemaError, match="section sec has spots of 2 donors"):
        read(tmp_path / "sec.h5ad")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, "left"])
def test_a_place_on_the_array_that_is_no_whole_number_is_named(tmp_path, value):
    rows = pd.Series([0, 1, value, 3, 4, 5], dtype=str if value == "left" else float).to_numpy()
    table(array_row=rows, array_col=0).write_h5ad(tmp_path / "sec.h5ad")
    with pytest.raises(SchemaError, match=f"spot s2 has array_row {value} and array_col 0: places on the array"):
        read(tmp_path / "sec.h5ad")


def test_whole_numbers_written_as_text_or_fractions_are_places(tmp_path):
    table(array_row=["0", "1", "2", "3", "4", "5"], array_col=7.0).write_h5ad(tmp_path / "sec.h5ad")
    assert read(tmp_path / "sec.h5ad")[0].array_xy.tolist() == [[7, r] for r in range(6)]


def test_an_empty_donor_is_none_and_never_one_that_sections_share(tmp_path):
    for name in ("one", "two"):
        table(donor=np.nan).write_h5ad(tmp_path / f"{name}.h5ad")
    assert [s.donor for s in read(tmp_path)] == [None, None]


def test_a_donor_of_some_spots_alone_is_refused(tmp_path):
    table(donor=["a"] * 4 + [None] * 2).write_h5ad(tmp_path / "sec.h5ad")
    with pytest.raises(SchemaError, match="section sec has spots of donor a and 2 spots without a donor"):
        read(tmp_path / "sec.h5ad")


def test_spots_of_no_section_are_refused(tmp_path):
    table(library_id=["a"] * 5 + [None]).write_h5ad(tmp_path / "sec.h5ad")
    with pytest.raises(SchemaError, match="1 spots have no library_id"):
        read(tmp_path / "sec.h5ad")


def test_places_in_a_data_frame_are_places(tmp_path):
    given = table()
    given.obsm["spatial"] = pd.DataFrame(given.obsm["spatial"], index=given.obs_names, columns=["x", "y"])
    given.write_h5ad(tmp_path / "sec.h5ad")
    assert read(tmp_path / "sec.h5ad")[0].xy_px.tolist() == table().obsm["spatial"].tolist()


def test_a_damaged_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "sec.h5ad"
    table().write_h5ad(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(FormatError, match=r"sec\.h5ad is damaged"):
        read(path)
    path.unlink()
    with pytest.raises(DataAccessError, match=r"holds no .h5ad file"):
        read(tmp_path)


def test_a_file_of_an_older_anndata_is_read_as_a_whole(tmp_path):
    given = table(donor="d7")
    given.raw = given.copy()
    given.X = np.log1p(given.X)
    given.write_h5ad(tmp_path / "sec.h5ad")
    new = read(tmp_path / "sec.h5ad")[0]
    with h5py.File(tmp_path / "sec.h5ad", "r+") as file:
        del file.attrs["encoding-type"]
        del file.attrs["encoding-version"]
    old = read(tmp_path / "sec.h5ad")[0]
    assert old.counts.toarray().tolist() == new.counts.toarray().tolist() == given.raw.X.tolist()
    assert (old.genes, old.spots, old.donor) == (new.genes, new.spots, "d7")


@pytest.mark.real
def test_the_log_normalised_visium_tile_is_refused(shared_data):
    path = shared_data / "squidpy_visium_tile/tests/_data/test_data.h5ad"
    with pytest.raises(SchemaError, match="no raw counts"):
        read(path)
