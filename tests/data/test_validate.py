import numpy as np
import pytest
from anndata import AnnData
from PIL import Image
from scipy import sparse

from hescribe import keys
from hescribe.cards import SectionCard
from hescribe.data.cohort import Cohort
from hescribe.data.folder import write_cohort
from hescribe.data.image import ArrayImage
from hescribe.data.plain import PlainImage
from hescribe.data.section import Section
from hescribe.data.validate import check_cohort, check_section
from hescribe.errors import DataAccessError, InputError


def make_section(name="s1", donor="d1", image=None, n_spots=4, n_genes=3):
    counts = sparse.csr_matrix(np.arange(1.0, n_spots * n_genes + 1).reshape(n_spots, n_genes))
    table = AnnData(
        np.zeros((n_spots, n_genes)),
        layers={keys.COUNTS: counts},
        obsm={keys.SPATIAL: np.full((n_spots, 2), 8.0), keys.SPATIAL_UM: np.full((n_spots, 2), 4.0)},
    )
    table.obs_names, table.var_names = [f"spot{i}" for i in range(n_spots)], [f"gene{i}" for i in range(n_genes)]
    return Section(name, donor, table, image, SectionCard(mpp=0.5))


def test_a_good_section_has_no_problem():
    image = ArrayImage(np.zeros((20, 20, 3), dtype=np.uint8), 0.5, "x")
    assert check_section(make_section(image=image)) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.nan, "section s1: 1 counts are not finite; the first is nan of gene gene2 in spot spot1"),
        (-3, "section s1: 1 counts are negative; the first is -3 of gene gene2 in spot spot1"),
        (0.25, "section s1: 1 counts are not an integer; the first is 0.25 of gene gene2 in spot spot1"),
    ],
)
def test_a_wrong_count_is_named_with_gene_and_spot(value, told):
    section = make_section()
    section.table.layers[keys.COUNTS][1, 2] = value
    assert check_section(section) == [told]


def test_spots_outside_the_image_are_named():
    section = make_section(image=ArrayImage(np.zeros((20, 20, 3), dtype=np.uint8), 0.5, "x"))
    section.table.obsm[keys.SPATIAL_UM][2] = 11.0, 3.0
    told = "section s1: 1 spots are outside the image of 10 x 10 um; the first is spot2 at (11, 3) um"
    assert check_section(section) == [told]


def test_missing_places_are_named():
    section = make_section()
    section.table.obsm[keys.SPATIAL][3, 1] = np.nan
    assert check_section(section) == ["section s1: 1 spots have no coordinates; the first is spot3"]
    del section.table.obsm[keys.SPATIAL]
    assert check_section(section) == ["section s1 has no spot coordinates (obsm['spatial'])"]


def test_an_absurd_scale_is_named():
    section = Section("s1", "d1", make_section().table, None, SectionCard(mpp=400.0))
    assert "section s1: its scale: mpp 400 is not a pixel size in um" in check_section(section)[0]


@pytest.mark.parametrize(("n_spots", "n_genes", "told"), [(0, 3, "is empty"), (4, 1, "has 1 genes")])
def test_an_empty_section_and_a_panel_of_one_gene_are_named(n_spots, n_genes, told):
    (problem,) = check_section(make_section(n_spots=n_spots, n_genes=n_genes))
    assert told in problem


@pytest.mark.filterwarnings("ignore:.*names are not unique")
def test_all_problems_are_told_at_once():
    section = make_section()
    section.table.var_names = ["A", "A", "B"]
    section.table.obs_names = ["s", "s", "s", "t"]
    section.table.layers[keys.COUNTS][0, 0] = -1
    assert check_section(section) == [
        "section s1: 1 genes are named twice: A",
        "section s1: 1 spots are named twice: s",
        "section s1: 1 counts are negative; the first is -1 of gene A in spot s",
    ]


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "he.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return path


def test_a_cohort_of_one_donor_and_without_images_is_warned_of(tmp_path):
    write_cohort(Cohort((make_section(),)), tmp_path / "c")
    found = check_cohort(tmp_path / "c")
    assert [f.level for f in found] == ["warning", "warning"]
    assert found[0].text == "all sections are of donor d1: no donor can be held out"


def test_a_changed_image_is_noticed(tmp_path, image_file):
    image = PlainImage(image_file, 0.5)
    sections = (make_section(image=image), make_section("s2", "d2", image))
    write_cohort(Cohort(sections), tmp_path / "c")
    assert [f.kind for f in check_cohort(tmp_path / "c")] == ["duplicate"]  # one image for two donors
    Image.new("RGB", (20, 20), "red").save(image_file)
    assert [f.text for f in check_cohort(tmp_path / "c")] == [
        f"section s1: image {image_file} changed since the import",
        f"section s2: image {image_file} changed since the import",
    ]


def test_every_damaged_section_is_told(tmp_path, image_file):
    image = PlainImage(image_file, 0.5)
    write_cohort(Cohort(tuple(make_section(n, n, image) for n in ("s1", "s2", "s3"))), tmp_path / "c")
    (tmp_path / "c/sections/s1.h5ad").write_bytes(b"no h5")
    (tmp_path / "c/sections/s3.h5ad").unlink()
    first, second = check_cohort(tmp_path / "c")
    assert "s1.h5ad is damaged" in first.text
    assert "section s3 is missing" in second.text


def test_an_image_damaged_since_is_told(tmp_path, image_file):
    write_cohort(
        Cohort((make_section("s1", "a", PlainImage(image_file, 0.5)), make_section("s2", "b"))), tmp_path / "c"
    )
    image_file.write_bytes(image_file.read_bytes()[:-40])
    errors = [f.text for f in check_cohort(tmp_path / "c") if f.level == "error"]
    assert len(errors) == 1
    assert "is damaged or truncated" in errors[0]


def test_a_folder_that_is_no_cohort_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match="is no cohort"):
        check_cohort(tmp_path)


def test_a_depth_that_is_no_number_is_named():
    section = make_section()
    section.table.obs[keys.DEPTH] = [9.0, np.nan, np.inf, 9.0]
    told = "section s1: 2 spots have a depth that is no number of counts; the first is spot1 with nan"
    assert check_section(section) == [told]


def test_a_section_with_an_image_needs_places_in_um_that_fit_its_scale():
    section = make_section(image=ArrayImage(np.zeros((20, 20, 3), dtype=np.uint8), 0.25, "x"))
    told = "section s1: its coordinates in pixels and in um do not fit 0.25 um per pixel; import it again"
    assert check_section(section) == [told]
    section.table.obsm[keys.SPATIAL_UM][1, 0] = np.nan
    assert "outside the image" in check_section(section)[0]
    del section.table.obsm[keys.SPATIAL_UM]
    assert check_section(section) == ["section s1 has no spot coordinates in um (obsm['spatial_um'])"]


def deep_section(name, donor, seed, *, spots=slice(None), genes=slice(None)):
    """A section of 30 spots and 20 genes; its spots are named by their order in what is left."""
    counts = np.random.default_rng(seed).poisson(3.0, (30, 20))[spots, genes]
    table = AnnData(
        layers={keys.COUNTS: sparse.csr_matrix(counts)},
        obsm={k: np.arange(2.0 * len(counts)).reshape(-1, 2) for k in (keys.SPATIAL, keys.SPATIAL_UM)},
    )
    table.var_names = [f"gene{i}" for i in np.arange(20)[genes]]
    return Section(name, donor, table)


def found_duplicates(path, **options):
    return [f for f in check_cohort(path, **options) if f.kind == "duplicate"]


def test_one_section_under_two_ids_and_donors_is_a_leak(tmp_path):
    planted = deep_section("s3", "d2", 1, spots=slice(5, 30))
    sections = (deep_section("s1", "d1", 1), deep_section("s2", "d2", 2), planted)
    write_cohort(Cohort(sections), tmp_path / "c")
    (finding,) = found_duplicates(tmp_path / "c")
    assert (finding.level, finding.sections) == ("error", ("s1", "s3"))
    assert finding.text.startswith(
        "sections s1 (donor d1) and s3 (donor d2) are the same tissue (25 spots (100% of the smaller section) have the "
        "same counts): a model would be tested on what it was trained on"
    )


def test_one_section_twice_of_one_donor_is_a_warning(tmp_path):
    sections = (deep_section("s1", "d1", 1), deep_section("s2", "d1", 1), deep_section("s3", "d2", 2))
    write_cohort(Cohort(sections), tmp_path / "c")
    (finding,) = found_duplicates(tmp_path / "c")
    assert (finding.level, finding.sections) == ("warning", ("s1", "s2"))


def test_another_cohort_that_holds_a_section_on_other_genes_is_told(tmp_path):
    write_cohort(Cohort((deep_section("s1", "d1", 1), deep_section("s2", "d2", 2))), tmp_path / "c")
    fewer = slice(None, 4, -1)  # 15 of the genes, in the other order
    other = (deep_section("x", "p7", 9, genes=fewer), deep_section("y", "p8", 2, spots=slice(12), genes=fewer))
    write_cohort(Cohort(other), tmp_path / "other")
    assert found_duplicates(tmp_path / "c") == found_duplicates(tmp_path / "other") == []
    (finding,) = found_duplicates(tmp_path / "c", against=[tmp_path / "other"])
    assert (finding.level, finding.sections) == ("error", ("s2",))
    assert "section s2 (donor d2) is the same tissue as y (donor p8) of" in finding.text


def test_cohorts_without_common_gene_names_are_told_to_be_compared_by_image_only(tmp_path):
    write_cohort(Cohort((deep_section("s1", "d1", 1, genes=slice(10)),)), tmp_path / "c")
    write_cohort(Cohort((deep_section("s1", "d1", 1, genes=slice(10, 20)),)), tmp_path / "other")
    texts = [f.text for f in check_cohort(tmp_path / "c", against=[tmp_path / "other"])]
    assert any("share 0 gene names: only images and ids could be compared" in t for t in texts)


def test_a_cohort_is_not_compared_with_itself_nor_with_a_broken_one(tmp_path):
    write_cohort(Cohort((deep_section("s1", "d1", 1),)), tmp_path / "c")
    with pytest.raises(InputError, match="is the cohort itself"):
        check_cohort(tmp_path / "c", against=[tmp_path / "c"])
    with pytest.raises(DataAccessError, match="is no cohort"):
        check_cohort(tmp_path / "c", against=[tmp_path / "nothing"])


def test_sections_that_are_sound_are_visited_and_the_others_are_not(tmp_path, image_file):
    image_file = image_file.with_suffix(".jpg")
    Image.new("RGB", (20, 20), "white").save(image_file)
    image, visited = PlainImage(image_file, 0.5), []
    write_cohort(Cohort(tuple(make_section(n, n, image) for n in ("s1", "s2", "s3"))), tmp_path / "c")
    (tmp_path / "c/sections/s2.h5ad").write_bytes(b"no h5")
    data = image_file.read_bytes()
    image_file.write_bytes(data[:-30] + bytes(28) + data[-2:])  # whole at both ends, for any Pillow
    check_cohort(tmp_path / "c", visit=visited.append)
    assert [(s.id, s.image) for s in visited] == [("s1", None), ("s3", None)]  # sound tables, damaged image
