"""Bags come from files of four formats, and what is wrong with one is told before a model sees it."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.data.h5ad import write_h5ad
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.slide.bag_files import FileBag, read_bags
from hescribe.slide.bags import ArrayBag, JoinedBag, SectionBag, match_bags
from hescribe.testing.cohorts import colour_cohort

X = np.arange(6, dtype=np.float32).reshape(3, 2)
XY = np.array([[0.0, 0.0], [256.0, 0.0], [0.0, 256.0]])


def write_h5(path, features=X, *, side=256):
    with h5py.File(path, "w") as file:
        file["features"] = features
        file["coords"] = XY
        if side:
            file["coords"].attrs["patch_size_level0"] = side


def write_parquet(path, columns):
    pq.write_table(pa.table(columns), path)


class TestFiles:
    def test_every_format_holds_the_same_tiles(self, tmp_path):
        write_h5(tmp_path / "a.h5")
        np.save(tmp_path / "b.npy", X)
        write_parquet(tmp_path / "c.parquet", {"d0": X[:, 0], "d1": X[:, 1], "x_um": XY[:, 0], "y_um": XY[:, 1]})
        write_h5ad(AnnData(X, obsm={keys.SPATIAL_UM: XY}), tmp_path / "d.h5ad")
        (tmp_path / "notes.txt").write_text("no bag")
        bags = read_bags(tmp_path)
        assert list(bags) == ["a", "b", "c", "d"]
        for bag in bags.values():
            np.testing.assert_array_equal(bag.read(), X)
        np.testing.assert_array_equal(bags["c"].read_places().xy, XY)
        np.testing.assert_array_equal(bags["d"].read_places().xy, XY)
        assert bags["b"].read_places() is None

    def test_places_of_an_h5_are_centres_of_tiles_whose_corners_it_holds(self, tmp_path):
        write_h5(tmp_path / "a.h5")
        places = FileBag(tmp_path / "a.h5").read_places()
        np.testing.assert_array_equal(places.xy, XY + 128)
        assert (places.side, places.unit) == (256, "px")

    def test_a_batch_of_one_slide_is_that_slide(self, tmp_path):
        write_h5(tmp_path / "a.h5", X[None])
        np.testing.assert_array_equal(FileBag(tmp_path / "a.h5").read(), X)

    def test_columns_of_a_parquet_go_by_name_whatever_their_order(self, tmp_path):
        write_parquet(tmp_path / "a.parquet", {"d0": X[:, 0], "d1": X[:, 1]})
        write_parquet(tmp_path / "b.parquet", {"d1": X[:, 1], "d0": X[:, 0]})
        bags = read_bags(tmp_path)
        np.testing.assert_array_equal(bags["a"].read(), bags["b"].read())

    def test_a_parquet_with_other_columns_is_told(self, tmp_path):
        write_parquet(tmp_path / "a.parquet", {"d0": X[:, 0], "d1": X[:, 1]})
        write_parquet(tmp_path / "b.parquet", {"d0": X[:, 0], "e1": X[:, 1]})
        with pytest.raises(InputError, match=r"b.parquet and a.parquet differ in column 'd1'"):
            read_bags(tmp_path)

    @pytest.mark.parametrize(
        ("features", "told"),
        [
            (np.zeros((0, 2)), "has no tiles"),
            (np.zeros(5), "shape \\(5,\\), expected \\(n_tiles, n_dims\\); one vector a slide is no bag"),
            (np.array([[0.0, 1.0], [np.nan, 0.0]]), "not finite at tile 1"),
        ],
    )
    def test_features_that_are_no_tiles_are_told(self, tmp_path, features, told):
        np.save(tmp_path / "s.npy", features)
        with pytest.raises(InputError, match=f"s.npy.* {told}"):
            FileBag(tmp_path / "s.npy").read()

    def test_a_damaged_and_a_foreign_file_are_told(self, tmp_path):
        write_h5(tmp_path / "cut.h5")
        (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:300])
        with pytest.raises(FormatError, match=r"cut.h5 cannot be read"):
            FileBag(tmp_path / "cut.h5").read()
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["imgs"] = X
        with pytest.raises(FormatError, match="no dataset 'features'; it holds imgs"):
            FileBag(tmp_path / "other.h5").read()
        with pytest.raises(DataAccessError, match=r"gone.npy is gone"):
            FileBag(tmp_path / "gone.npy").read()

    def test_places_that_are_not_one_a_tile_are_told(self, tmp_path):
        write_h5(tmp_path / "a.h5", X[:2])
        with pytest.raises(FormatError, match=r"places of shape \(3, 2\) for 2 tiles"):
            FileBag(tmp_path / "a.h5").read_places()

    def test_a_slide_in_two_files_is_told(self, tmp_path):
        write_h5(tmp_path / "s.h5")
        np.save(tmp_path / "s.npy", X)
        with pytest.raises(InputError, match=r"slide s has two files in .*: s.h5 and s.npy"):
            read_bags(tmp_path)

    def test_a_folder_without_bags_is_told(self, tmp_path):
        with pytest.raises(DataAccessError, match="holds no features; expected one file a slide"):
            read_bags(tmp_path)
        with pytest.raises(DataAccessError, match="is no folder"):
            read_bags(tmp_path / "none")


def test_a_missing_bag_and_a_missing_label_are_both_listed():
    bags = {name: ArrayBag(name, X) for name in ("a", "b", "x")}
    with pytest.raises(InputError, match="labels without features: c; slides without a label: x"):
        match_bags(bags, ["b", "a", "c"])
    del bags["x"]
    assert [b.id for b in match_bags(bags, ["b", "a"])] == ["b", "a"]


def test_slides_of_a_donor_are_joined_in_order_and_only_if_alike():
    other = ArrayBag("b", X + 10)
    np.testing.assert_array_equal(JoinedBag("d", (ArrayBag("a", X), other)).read(), np.concatenate([X, X + 10]))
    with pytest.raises(InputError, match="slides of d have 2 and 3 dims"):
        JoinedBag("d", (other, ArrayBag("c", np.zeros((1, 3))))).read()


def test_a_section_is_a_bag_of_its_spots():
    section = colour_cohort()[0]
    bag = SectionBag(section, "color")
    assert len(bag.read()) == section.n_spots
    np.testing.assert_array_equal(bag.read_places().xy, section.xy_um)
