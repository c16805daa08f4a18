"""Stores as other tools write them: shapes in um, an image placed by an affine map, several tables."""

import shutil

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from hescribe.data.importing import import_cohort
from hescribe.data.readers.base import readers
from hescribe.data.spatialdata_store import load_spatialdata
from hescribe.errors import FormatError, InputError, SchemaError, UnitsError

# H&E px to the shared system: turned by 90 degrees, 1.5-fold, moved; the shapes' um are divided by 0.2125 to get there.
MATRIX = np.array([[0.0, -1.5, 1400.0], [1.5, 0.0, 30.0], [0.0, 0.0, 1.0]])
XY_UM = np.array([[137.5, 82.5], [150.0, 100.0], [200.0, 120.0], [180.0, 60.0]])
CELLS = ["c1", "c2", "c3", "c4"]


def cell_table():
    counts = np.random.default_rng(0).poisson(3, (4, 3)).astype(np.int32)
    obs = pd.DataFrame({"region": pd.Categorical(["cells"] * 4), "cell_id": CELLS[::-1]}, index=CELLS[::-1])
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=["A", "B", "C"]))


@pytest.fixture
def write_store(tmp_path):
    """Return a writer of stores: ``write_store(images=..., tables=...)`` with circles called ``cells``."""

    def write(
        *, images=("he",), tables=("table",), annotate=True, n_channels=3, system="global", labels=False, channels=None
    ):
        with load_spatialdata() as spatialdata:
            models, maps = spatialdata.models, spatialdata.transformations
            place = maps.Affine(MATRIX, input_axes=("x", "y"), output_axes=("x", "y"))
            pixels = np.random.default_rng(1).integers(0, 255, (n_channels, 700, 600), dtype=np.uint8)
            shapes = models.ShapesModel.parse(
                XY_UM,
                geometry=0,
                radius=5.0,
                index=pd.Index(CELLS),
                transformations={"global": maps.Scale([1 / 0.2125] * 2, axes=("x", "y"))},
            )
            told = {"region": "cells", "region_key": "region", "instance_key": "cell_id"} if annotate else {}
            parse = models.Image2DModel.parse
            store = spatialdata.SpatialData(
                images={
                    i: parse(pixels, dims=("c", "y", "x"), c_coords=channels, transformations={system: place})
                    for i in images
                },
                shapes={"elsewhere" if labels else "cells": shapes},
                labels={"cells": models.Labels2DModel.parse(np.zeros((9, 9), dtype=np.int32))} if labels else {},
                tables={t: models.TableModel.parse(cell_table(), **told) for t in tables},
            )
            store.write(tmp_path / "store.zarr")
        return tmp_path / "store.zarr"

    return write


def read(path, **params):
    (section,) = readers.create("spatialdata", **params).read(path)
    return section


def test_spots_are_brought_to_pixels_of_the_image(write_store):
    """By hand: (137.5, 82.5) um are (647.06, 388.24) in the shared system: 1400 - 1.5 y and 1.5 x + 30 of the image."""
    section = read(write_store())
    assert section.spots == tuple(CELLS[::-1])
    assert section.xy_px[3] == pytest.approx([238.8235, 501.9608], abs=1e-3)
    there = np.column_stack([section.xy_px, np.ones(4)]) @ MATRIX.T
    assert there[:, :2] * 0.2125 == pytest.approx(XY_UM[::-1])


def test_counts_follow_the_cells_and_not_the_order_of_shapes(write_store):
    section = read(write_store())
    assert section.counts.toarray().tolist() == cell_table().X.tolist()
    assert section.genes == ("A", "B", "C")
    assert section.id == "cells"
    assert section.regions is None


def test_the_image_comes_along_and_the_scale_must_be_given(write_store, tmp_path):
    path = write_store()
    with pytest.raises(UnitsError, match="the size of a pixel is stated neither"):
        import_cohort(path, "spatialdata", tmp_path / "refused")
    (section,) = import_cohort(path, "spatialdata", tmp_path / "c", mpp=0.31875).cohort
    distance_um = np.linalg.norm(section.xy_um[3] - section.xy_um[2])
    assert distance_um == pytest.approx(np.linalg.norm(XY_UM[0] - XY_UM[1]))
    assert section.image.size_um == pytest.approx((600 * 0.31875, 700 * 0.31875))


def test_a_store_without_image_gives_a_section_without(write_store):
    section = read(write_store(images=()))
    assert section.image is None
    assert section.xy_px[::-1].tolist() == XY_UM.tolist()


def test_several_tables_of_one_tissue_are_not_taken_for_sections(write_store):
    path = write_store(tables=("square_008um", "square_016um"))
    with pytest.raises(InputError, match=r"has the tables square_008um, square_016um; name one with --set table="):
        read(path)
    assert read(path, table="square_016um").id == "cells"
    with pytest.raises(InputError, match="has the tables"):
        read(path, table="square_002um")


def test_several_images_are_not_chosen_from(write_store):
    path = write_store(images=("he", "if"))
    with pytest.raises(InputError, match=r"region 'cells' lies on 2 images; name one with --set image="):
        read(path)
    assert read(path, image="he").image is not None
    with pytest.raises(InputError, match="has no image 'h'; it has"):
        read(path, image="h")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ({"tables": ()}, "it has no table: there are no counts"),
        ({"annotate": False}, "its table annotates no region"),
        ({"n_channels": 5}, "image 'he' has the channels 0, 1, 2, 3, 4 of uint8; H&E has r, g, b"),
        ({"labels": True, "images": ()}, "region 'cells' is no shapes element"),
    ],
)
def test_a_store_that_is_no_section_is_refused(write_store, kind, told):
    with pytest.raises(SchemaError, match=told):
        read(write_store(**kind))


@pytest.mark.parametrize(("channels", "is_colour"), [(["b", "g", "r"], True), (["DAPI", "CD3", "CD8"], False)])
def test_channels_are_taken_by_their_names(write_store, channels, is_colour):
    path = write_store(channels=channels)
    if is_colour:
        pixels = np.random.default_rng(1).integers(0, 255, (3, 700, 600), dtype=np.uint8)
        assert (read(path).image(0.5).pixels == pixels[::-1].transpose(1, 2, 0)).all()
    else:
        with pytest.raises(SchemaError, match="has the channels dapi, cd3, cd8"):
            read(path)


def test_a_mask_for_an_image_inside_a_store_is_refused(write_store, tmp_path):
    (tmp_path / "m.toml").write_text('[[section]]\nid = "cells"\nblack_background = true\nmpp = 0.5')
    with pytest.raises(InputError, match="section cells: masks are for image files"):
        import_cohort(write_store(), "spatialdata", tmp_path / "c", manifest=tmp_path / "m.toml")


def test_an_image_in_another_system_is_refused(write_store):
    with pytest.raises(SchemaError, match="share no coordinate system: where the spots lie is not known"):
        read(write_store(system="other"), image="he")


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_a_chunk_that_is_lost_is_not_read_as_zeros(write_store, tmp_path, part):
    path = write_store()
    in_rows = AnnData(sparse.csr_matrix(cell_table().X), obs=cell_table().obs, var=cell_table().var)
    with load_spatialdata() as spatialdata:
        told = {"region": "cells", "region_key": "region", "instance_key": "cell_id"}
        store = spatialdata.read_zarr(path)
        store.tables["sparse"] = spatialdata.models.TableModel.parse(in_rows, **told)
        store.write(tmp_path / "sparse.zarr")
    assert read(tmp_path / "sparse.zarr", table="sparse").counts.sum() == cell_table().X.sum()
    next(p for p in (tmp_path / f"sparse.zarr/tables/sparse/X/{part}").rglob("*") if p.name == "0").unlink()
    with pytest.raises(FormatError, match=f"is damaged: X/{part} is not there as a whole"):
        read(tmp_path / "sparse.zarr", table="sparse")


@pytest.mark.parametrize("part", ["tables/table/obs", "tables/table/var", "shapes/cells/shapes.parquet"])
def test_a_store_with_a_missing_or_cut_part_is_refused(write_store, part):
    path = write_store()
    if (path / part).is_file():
        (path / part).write_bytes((path / part).read_bytes()[:300])
    else:
        shutil.rmtree(path / part)
    with pytest.raises(FormatError, match="is damaged"):
        read(path)


def test_a_table_without_the_name_of_its_region_column_is_refused(write_store):
    path = write_store()
    attributes = path / "tables/table/uns/spatialdata_attrs/region_key"
    shutil.rmtree(attributes)
    with pytest.raises(FormatError, match="is damaged"):
        read(path)


def test_something_else_is_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FormatError, match="is damaged or no SpatialData store"):
        read(tmp_path / "a.zarr")
