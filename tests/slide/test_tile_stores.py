"""Features and predictions of tiles go to other tools and come back: wsidata's stores, TRIDENT's and HEST's files."""

import json
import shutil

import geopandas
import h5py
import numpy as np
import pytest
import spatialdata
import tifffile
from anndata import AnnData
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.app import app
from hescribe.data.convert import convert
from hescribe.data.h5ad import write_h5ad
from hescribe.data.tile_store import find_mpp, read_tiles
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.slide.bag_files import FileBag, read_bags

X = np.arange(12, dtype=np.float32).reshape(6, 2)
CENTRE_PX = np.array([[112, 112], [336, 112], [560, 112], [112, 336], [336, 336], [560, 336]], dtype=np.float64)


def write_features(path, x=X, xy_px=CENTRE_PX, **more):
    table = AnnData(x, obsm={keys.SPATIAL: xy_px, keys.SPATIAL_UM: xy_px * 0.5}, **more)
    write_h5ad(table, path)
    return path.parent


@pytest.fixture
def features(tmp_path):
    return write_features(tmp_path / "features" / "slide.h5ad")


@pytest.mark.parametrize("to", ["wsidata", "trident"])
def test_features_come_back_as_a_bag_with_their_places(features, tmp_path, to):
    convert(features, to, tmp_path / "out")
    bag = read_bags(tmp_path / "out")["slide"]
    np.testing.assert_array_equal(bag.read(), X)
    places = bag.read_places()
    np.testing.assert_array_equal(places.xy, CENTRE_PX)
    assert (places.side, places.unit) == (224, "px")


def test_trident_files_keep_what_made_the_features_and_that_their_encoder_saw_the_tissue(tmp_path):
    uns = {keys.MADE_BY: {"encoder": "M", "fov_um": [112.0]}, keys.SEEN: "toy itself"}
    convert(write_features(tmp_path / "in" / "slide.h5ad", uns=uns), "trident", tmp_path / "out")
    bag = read_bags(tmp_path / "out")["slide"]
    assert bag.read_seen() == "toy itself"
    with h5py.File(bag.path) as file:
        assert json.loads(file.attrs[keys.MADE_BY]) == {"encoder": "M", "fov_um": [112.0]}


def test_a_store_holds_what_wsidata_looks_for(features, tmp_path):
    convert(features, "wsidata", tmp_path / "out")
    store = spatialdata.read_zarr(tmp_path / "out" / "slide.zarr")
    assert set(store.shapes) == {"tiles"}
    assert set(store.tables) == {"features_tiles"}
    assert store.attrs["tile_spec"]["tiles"]["mpp"] == pytest.approx(0.5)
    assert store.attrs["tile_spec"]["tiles"]["width"] == 224
    corner = store.shapes["tiles"].geometry.bounds.to_numpy()[:, :2]
    np.testing.assert_array_equal(corner, CENTRE_PX - 112)


def test_wsidata_reads_our_store_and_we_read_its_own(features, tmp_path):
    """Runs where wsidata is installed, which asks for packages that nothing else here needs."""
    wsidata = pytest.importorskip("wsidata")
    slide = tmp_path / "slide.tiff"
    pixels = np.full((512, 768, 3), 200, np.uint8)
    tifffile.imwrite(slide, pixels, tile=(256, 256), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    convert(features, "wsidata", tmp_path / "out")
    opened = wsidata.open_wsi(slide, store=tmp_path / "out" / "slide.zarr")
    assert opened.tile_spec("tiles").base_width == 224
    np.testing.assert_array_equal(opened.fetch.features_anndata("features", "tiles").X, X)

    io = pytest.importorskip("wsidata.io")
    fresh = wsidata.open_wsi(slide, store=None)
    spec = wsidata.TileSpec(height=224, width=224, stride_height=224, stride_width=224, mpp=0.5)
    io.add_tiles(fresh, "tiles", CENTRE_PX - 112, spec, np.zeros(6, int))
    io.add_features(fresh, "uni_tiles", "tiles", X)
    fresh.write(tmp_path / "theirs" / "slide.zarr")
    theirs = read_bags(tmp_path / "theirs")["slide"]
    np.testing.assert_array_equal(theirs.read(), X)
    np.testing.assert_array_equal(theirs.read_places().xy, CENTRE_PX)


def test_predictions_become_a_table_over_tiles_with_genes(tmp_path):
    table = AnnData(obs={"ood": np.zeros(6)}, obsm={keys.SPATIAL: CENTRE_PX, keys.SPATIAL_UM: CENTRE_PX * 0.5})
    table = AnnData(
        obs=table.obs, var={"n": [1, 2]}, obsm=dict(table.obsm), layers={keys.PREDICTED: X, keys.LOWER: X - 1}
    )
    table.var_names = ["ERBB2", "<script>"]
    write_h5ad(table, tmp_path / "predicted" / "slide.h5ad")
    convert(tmp_path / "predicted", "wsidata", tmp_path / "out")
    found = spatialdata.read_zarr(tmp_path / "out" / "slide.zarr").tables["predicted_tiles"]
    np.testing.assert_array_equal(found.X, X)
    assert list(found.var_names) == ["ERBB2", "<script>"]


def test_a_job_folder_of_trident_is_found_by_its_layout(tmp_path, features):
    job = tmp_path / "job"
    convert(features, "trident", job / "20x_256px_0px_overlap" / "features_uni_v1")
    (job / "20x_256px_0px_overlap" / "patches").mkdir()
    (job / "20x_256px_0px_overlap" / "patches" / "slide_patches.h5").write_bytes(b"")
    (job / "contours").mkdir()
    assert list(read_bags(job)) == ["slide"]
    convert(features, "trident", job / "20x_256px_0px_overlap" / "features_conch_v1")
    with pytest.raises(InputError, match=r"several encoders .*features_conch_v1, .*features_uni_v1"):
        read_bags(job)


def test_an_h5_of_hest_is_a_bag(tmp_path):
    with h5py.File(tmp_path / "TENX99.h5", "w") as file:
        file["embeddings"], file["coords"] = X, CENTRE_PX.astype(int)
        file["barcodes"] = np.array([[f"spot{i}".encode()] for i in range(6)])
    bag = FileBag(tmp_path / "TENX99.h5")
    np.testing.assert_array_equal(bag.read(), X)
    places = bag.read_places()
    np.testing.assert_array_equal(places.xy, CENTRE_PX)
    assert places.side is None


def test_tiles_are_matched_by_their_number_whatever_the_order_of_the_shapes(features, tmp_path):
    convert(features, "wsidata", tmp_path / "out")
    file = tmp_path / "out" / "slide.zarr" / "shapes" / "tiles" / "shapes.parquet"
    tiles = geopandas.read_parquet(file)
    tiles.iloc[::-1].to_parquet(file)
    np.testing.assert_array_equal(FileBag(tmp_path / "out" / "slide.zarr").read_places().xy, CENTRE_PX)
    tiles.iloc[:4].to_parquet(file)
    with pytest.raises(FormatError, match="shapes tiles lack 2 tiles"):
        FileBag(tmp_path / "out" / "slide.zarr").read_places()


class TestStoresThatAreNoBag:
    @pytest.fixture
    def store(self, features, tmp_path):
        convert(features, "wsidata", tmp_path / "out")
        return tmp_path / "out" / "slide.zarr"

    def test_several_tables_are_named(self, store):
        shutil.copytree(store / "tables" / "features_tiles", store / "tables" / "uni_tiles")
        with pytest.raises(InputError, match=r"2 tables \(features_tiles, uni_tiles\)"):
            FileBag(store).read()

    def test_a_store_without_features_is_told(self, store):
        shutil.rmtree(store / "tables" / "features_tiles")
        with pytest.raises(FormatError, match="no table of features over tiles"):
            FileBag(store).read()

    def test_a_folder_that_is_no_store_is_told(self, tmp_path):
        (tmp_path / "a.zarr").mkdir()
        with pytest.raises(FormatError, match="no zarr store"):
            read_bags(tmp_path)["a"].read()

    def test_an_array_that_runs_code_is_not_read(self, store):
        facts = store / "tables" / "features_tiles" / "X" / "zarr.json"
        text = json.loads(facts.read_text())
        facts.write_text(json.dumps({**text, "filters": [{"id": "pickle"}]}))
        with pytest.raises(FormatError, match="runs code when it is read"):
            FileBag(store).read()

    def test_a_head_that_claims_more_than_is_there_is_not_read(self, store):
        facts = store / "tables" / "features_tiles" / "X" / "zarr.json"
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "shape": [10**6, 10**6]}))
        with pytest.raises(FormatError, match="made to fill memory"):
            FileBag(store).read()

    def test_shapes_that_are_not_there_leave_no_places(self, store):
        shutil.rmtree(store / "shapes")
        assert FileBag(store).read_places() is None


def test_the_scale_of_tiles_comes_from_both_places(features):
    assert find_mpp(read_tiles(features / "slide.h5ad")) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda folder: None, DataAccessError, "holds no table of tiles"),
        (lambda folder: (folder / "a.h5ad").write_bytes(b"x" * 100), FormatError, "no readable h5ad"),
        (lambda folder: write_h5ad(AnnData(X), folder / "a.h5ad"), FormatError, "does not say where"),
        (lambda folder: write_h5ad(AnnData(obs={"a": [1]}), folder / "a.h5ad"), FormatError, "no features"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_told_and_nothing_written(tmp_path, write, error, message):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    with pytest.raises(error, match=message):
        convert(tmp_path / "in", "trident", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_converts_tiles(features, tmp_path):
    words = ["data", "convert", str(features), "--to", "trident", "--out", str(tmp_path / "out"), "--json"]
    assert json.loads(CliRunner().invoke(app, words).stdout)["to"] == "trident"
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "exists; give a new folder" in again.stderr
