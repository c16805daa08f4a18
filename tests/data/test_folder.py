import errno
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from PIL import Image
from scipy import sparse

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, DatasetCard, SectionCard
from hescribe.data.cohort import Cohort
from hescribe.data.folder import data_hash, find_section, read_cohort, write_cohort
from hescribe.data.image import ArrayImage
from hescribe.data.plain import PlainImage
from hescribe.data.section import Section
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


def make_section(name="s1", image=None):
    rng = np.random.default_rng(5)
    counts = rng.poisson(1, (6, 4))
    table = AnnData(
        obs={keys.ARRAY_ROW: range(6), keys.ARRAY_COL: range(6), keys.DEPTH: counts.sum(axis=1) + 3.0, "leiden": "1"},
        layers={keys.COUNTS: sparse.csr_matrix(counts), keys.TRUTH: rng.random((6, 4)).astype(np.float32)},
        obsm={keys.SPATIAL: rng.random((6, 2)) * 40, keys.SPATIAL_UM: rng.random((6, 2)) * 20},
        uns={keys.DROPPED_SPOTS: ["9x9"], keys.N_GENES_MEASURED: 17},
    )
    table.obs_names, table.var_names = [f"spot{i}" for i in range(6)], [f"gene{i}" for i in range(4)]
    card = SectionCard(technology=TECHNOLOGIES["toy"], organ="colon", pitch_um=200.0, mpp=0.5, mpp_source="synthetic")
    return Section(name, "donor", table, image, card)


def make_cohort(*sections):
    card = DatasetCard(id="mine", title='a "title"\n\\ µ \x7f', licence="MIT", warnings=("one", "two"), synthetic=True)
    return Cohort(sections or (make_section(image=ArrayImage(PIXELS, 0.5, "x")),), card)


@pytest.fixture
def folder(tmp_path):
    write_cohort(make_cohort(), tmp_path / "c")
    return tmp_path / "c"


def edit(folder, old, new):
    index = folder / "cohort.toml"
    assert old in index.read_text()
    index.write_text(index.read_text().replace(old, new))


def test_a_cohort_comes_back_as_it_was(folder):
    before, after = make_cohort(), read_cohort(folder)
    assert after.card == before.card
    given, read = before[0], after[0]
    assert (read.id, read.donor, read.card) == (given.id, given.donor, given.card)
    for layer in (keys.COUNTS, keys.TRUTH):
        assert (read.layer(layer) == given.layer(layer)).all()
    assert read.depth.tolist() == given.depth.tolist()
    assert (read.xy_um == given.xy_um).all()
    assert read.genes == given.genes
    assert read.table.uns[keys.DROPPED_SPOTS] == ["9x9"]
    assert read.table.uns[keys.N_GENES_MEASURED] == 17
    assert read.table.layers[keys.COUNTS].dtype == np.int32
    assert "leiden" not in read.table.obs


def test_an_image_in_memory_is_kept_without_loss(folder):
    assert (read_cohort(folder)[0].image.pixels == PIXELS).all()
    assert (folder / "images/s1.png").is_file()


def test_images_stay_where_they_are_unless_copied(tmp_path):
    path = tmp_path / "he.png"
    Image.fromarray(PIXELS).save(path)
    image = PlainImage(path, 0.5, ((0, 0, 5, 5),), fill_rgb=(1, 2, 3))
    write_cohort(make_cohort(make_section(image=image)), tmp_path / "stay")
    write_cohort(make_cohort(make_section(image=image)), tmp_path / "copy", copy_images=True)
    assert read_cohort(tmp_path / "stay")[0].image == image
    path.unlink()
    copied = read_cohort(tmp_path / "copy")[0].image
    assert copied.path == tmp_path / "copy/images/s1.png"
    assert (copied.pixels[:5, :5] == (1, 2, 3)).all()
    with pytest.raises(DataAccessError, match=r"the image of section s1 is missing: .*he\.png does not exist"):
        read_cohort(tmp_path / "stay")


def test_sections_without_image_stay_in_the_cohort(tmp_path):
    write_cohort(make_cohort(make_section("a"), make_section("b")), tmp_path / "c")
    assert [s.image for s in read_cohort(tmp_path / "c")] == [None, None]


def test_a_taken_folder_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="holds a cohort already"):
        write_cohort(make_cohort(), folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="exists and is no cohort"):
            write_cohort(make_cohort(), tmp_path / "other", overwrite=overwrite)
    assert (tmp_path / "other/thesis.txt").read_text() == "years of work"


def test_a_cohort_can_be_replaced_by_one_that_uses_its_own_images(folder):
    cohort = read_cohort(folder)
    renamed = replace(cohort, sections=(replace(cohort[0], id="s2"),))
    write_cohort(renamed, folder, overwrite=True)
    (section,) = read_cohort(folder)
    assert (section.image.pixels == PIXELS).all()
    assert [p.name for p in folder.parent.iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\\b", "a\nb"])
def test_section_names_cannot_lead_elsewhere(tmp_path, name):
    with pytest.raises(InputError, match="cannot be the name of a file"):
        write_cohort(make_cohort(make_section(name)), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (folder / "cohort.toml").read_text()
    monkeypatch.setattr("hescribe.data.folder.write_h5ad", fail)
    for target in (folder, folder.parent / "new"):
        with pytest.raises(DataAccessError, match="cannot be written: No space left on device"):
            write_cohort(make_cohort(), target, overwrite=True)
    assert [p.name for p in folder.parent.iterdir()] == ["c"]
    assert (folder / "cohort.toml").read_text() == before


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataAccessError, match="cannot be written"):
        write_cohort(make_cohort(), tmp_path / "file" / "c")


def test_an_index_that_is_wrong_tells_all_problems(folder):
    edit(folder, 'organ = "colon"', 'organn = "colon"')
    edit(folder, "n_spots = 6", 'n_spots = "6"')
    with pytest.raises(SchemaError) as refusal:
        read_cohort(folder)
    told = str(refusal.value)
    assert "cohort.toml has 3 problems" in told
    assert "section[0].organ: is missing" in told
    assert "section[0].organn: is no key of this file" in told
    assert "section[0].n_spots: Input should be a valid integer" in told


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('id = "s1"', 'id = "../../s1"', "cannot be the name of a file"),
        ('technology = "toy"', 'technology = "toi"', "is not one of legacy_st"),
        ("format = 1", "format = 2", "format: Input should be 1"),
        ("mpp = 0.5", "mpp = nan", "mpp: Input should be a finite number"),
    ],
)
def test_values_of_the_index_are_checked(folder, old, new, reason):
    edit(folder, old, new)
    with pytest.raises(SchemaError, match=reason):
        read_cohort(folder)


def test_broken_toml_is_named(folder):
    edit(folder, "format = 1", "format = ")
    with pytest.raises(FormatError, match=r"cohort\.toml is not TOML"):
        read_cohort(folder)


def test_a_folder_without_index_is_no_cohort(tmp_path):
    with pytest.raises(DataAccessError, match=r"is no cohort: it has no cohort.toml"):
        read_cohort(tmp_path)


def test_a_section_that_is_missing_damaged_or_another_is_named(folder):
    file = folder / "sections/s1.h5ad"
    whole = file.read_bytes()
    table = anndata.read_h5ad(file)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"s1\.h5ad is damaged"):
        read_cohort(folder)
    table[:3].copy().write_h5ad(file)
    with pytest.raises(FormatError, match=r"s1\.h5ad has 3 spots .* describes 6"):
        read_cohort(folder)
    renamed = table.copy()
    renamed.var_names = list("abcd")
    renamed.write_h5ad(file)
    with pytest.raises(FormatError, match="describes another panel"):
        read_cohort(folder)
    file.unlink()
    with pytest.raises(DataAccessError, match="section s1 is missing"):
        read_cohort(folder)


def test_the_data_hash_survives_the_disk(folder):
    given, read = make_section(), read_cohort(folder)[0]
    assert data_hash(replace(read, image=None)) == data_hash(given)


@pytest.mark.parametrize("change", ["count", "gene", "spot", "place", "depth", "image"])
def test_the_data_hash_notices_every_change(tmp_path, change):
    path = tmp_path / "he.png"
    Image.fromarray(PIXELS).save(path)
    section = make_section(image=PlainImage(path, 0.5))
    before = data_hash(section)
    table = section.table
    if change == "count":
        table.layers[keys.COUNTS] = table.layers[keys.COUNTS] + sparse.eye_array(6, 4, dtype=np.int64, format="csr")
    elif change == "gene":
        table.var_names = ["new", *table.var_names[1:]]
    elif change == "spot":
        table.obs_names = ["new", *table.obs_names[1:]]
    elif change == "place":
        table.obsm[keys.SPATIAL_UM][0, 0] += 1e-6
    elif change == "depth":
        table.obs[keys.DEPTH] += 1
    else:
        Image.fromarray(PIXELS[::-1]).save(path)
    assert data_hash(section) != before


def test_paths_are_kept_absolute(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "he.png")
    monkeypatch.chdir(tmp_path)
    write_cohort(make_cohort(make_section(image=PlainImage(Path("he.png"), 0.5))), Path("c"))
    monkeypatch.chdir("/")
    assert read_cohort(tmp_path / "c")[0].image.path == tmp_path / "he.png"


def test_an_image_path_may_not_climb_out_of_the_folder(folder):
    edit(folder, 'path = "images/s1.png"', 'path = "../other/images/s1.png"')
    with pytest.raises(SchemaError, match=r"section\[0\]\.image\.path: leaves the cohort's folder"):
        read_cohort(folder)


def test_a_section_is_found_by_its_file(folder, tmp_path):
    assert find_section(folder / "sections/s1.h5ad").id == "s1"
    with pytest.raises(InputError, match=r"cohort\.toml names no section 's2'"):
        find_section(folder / "sections/s2.h5ad")
    with pytest.raises(InputError, match="is no section of a cohort; bring it in with hescribe data import"):
        find_section(tmp_path / "lone.h5ad")
