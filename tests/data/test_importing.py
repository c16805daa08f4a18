import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image

from hescribe import keys
from hescribe.data import importing
from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.validate import check_cohort
from hescribe.errors import DataAccessError, InputError, PanelError, SchemaError, UnitsError

# What an independent reading of the same files found (README of the shared data).
SPOTS = {"A1": 346, "B4": 283, "C2": 187, "C3": 180, "C4": 184, "C5": 181, "C6": 178}


@pytest.fixture(scope="module")
def her2st(shared_data, tmp_path_factory):
    return import_cohort(shared_data / "her2st", "st", tmp_path_factory.mktemp("her2st") / "cohort")


def manifest(folder, text):
    path = folder / "manifest.toml"
    path.write_text(text)
    return path


@pytest.mark.real
def test_her2st_comes_in_whole(her2st):
    cohort = read_cohort(her2st.path)
    assert len(cohort) == 36
    assert cohort.donors == tuple("ABCDEFGH")
    assert sum(s.n_spots for s in cohort) == 13_620
    assert len(cohort.genes) == 11_871
    assert {s.id: s.n_spots for s in cohort if s.image} == SPOTS
    assert len(her2st.without_image) == 29
    assert cohort.card.id == "her2st"


@pytest.mark.real
def test_her2st_scale_comes_from_the_spot_pitch(her2st):
    mpp = {s.id: s.image.mpp for s in her2st.cohort if s.image}
    assert mpp.pop("A1") == pytest.approx(3.185, abs=0.001)
    assert all(0.685 < value < 0.6895 for value in mpp.values())
    assert {s.card.mpp_source for s in her2st.cohort} == {"spot pitch"}


@pytest.mark.real
def test_her2st_names_the_spots_it_leaves_out(her2st):
    assert her2st.dropped_spots["A1"] == ("17x14", "18x20")
    assert her2st.dropped_spots["C4"] == ("17x14", "11x17", "18x20")
    assert "C2" not in her2st.dropped_spots


@pytest.mark.real
@pytest.mark.slow
def test_her2st_depth_is_over_all_genes_of_the_section(her2st, shared_data):
    section = next(s for s in her2st.cohort if s.id == "C2")
    table = pd.read_csv(shared_data / "her2st/data/ST-cnts/C2.tsv.gz", sep="\t", index_col=0)
    table = table.loc[list(section.table.obs_names)]
    assert section.depth.tolist() == table.sum(axis=1).tolist()
    assert (section.layer("counts") == table[list(section.genes)].to_numpy()).all()


@pytest.mark.real
def test_her2st_labels_come_along(her2st):
    labelled = {s.id for s in her2st.cohort if keys.REGION in s.table.obs}
    assert labelled == {"A1", "B1", "C1", "D1", "E1", "F1", "G2", "H1"}


@pytest.mark.real
def test_the_inset_and_the_black_of_a1_are_painted_over(her2st):
    pixels = next(s for s in her2st.cohort if s.id == "A1").image.pixels
    assert (pixels[:535, 1500:] == (229, 211, 229)).all()
    assert (pixels.max(axis=2) > 10).all()


@pytest.mark.real
def test_the_2k_array_is_refused_without_a_scale(shared_data, tmp_path):
    with pytest.raises(UnitsError, match=r"section MOB1: the size of a pixel is stated neither .* give --mpp"):
        import_cohort(shared_data / "stutility_mob", "st", tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_the_2k_array_comes_in_with_its_card_and_says_that_the_pitch_is_inferred(shared_data, tmp_path):
    report = import_cohort(shared_data / "stutility_mob", "st", tmp_path / "c", card="stutility_mob")
    assert [s.donor for s in report.cohort] == ["mouse1", "mouse1", "mouse2", "mouse2"]
    assert [s.n_spots for s in report.cohort] == [379, 407, 438, 403]
    assert {s.card.mpp_source for s in report.cohort} == {"manifest pitch"}
    assert any("the pitch is inferred" in note for note in report.notes)
    assert check_cohort(report.path) == []


def test_an_import_gives_counts_scale_and_donors(st_folder, tmp_path):
    report = import_cohort(st_folder, "st", tmp_path / "c")
    section = read_cohort(tmp_path / "c")[0]
    assert section.image.mpp == pytest.approx(5.0)
    assert section.xy_um == pytest.approx(section.table.obsm[keys.SPATIAL] * 5.0)
    assert section.table.obs[keys.ARRAY_COL].iloc[0] == 2
    assert "the donor of 2 of 2 sections is not recorded" in report.notes[0]


def test_the_panel_is_what_all_sections_have_in_the_first_ones_order(write_st, counts, tmp_path):
    write_st("A1", counts[[*counts.columns[::-1]]])
    folder = write_st("B1", counts.drop(columns="G3").rename(columns={"G5": "new"}))
    report = import_cohort(folder, "st", tmp_path / "c")
    assert report.cohort.genes == ("G11", "G10", "G9", "G8", "G7", "G6", "G4", "G2", "G1", "G0")
    assert report.n_genes_dropped == 3
    second = report.cohort[1]
    assert second.layer("counts").tolist() == counts[list(second.genes)].to_numpy().tolist()
    assert second.depth.tolist() == counts.drop(columns="G3").sum(axis=1).tolist()


def test_a_section_on_another_panel_is_named(write_st, counts, tmp_path):
    for name in ("A1", "B1"):
        write_st(name, counts)
    folder = write_st("C1", counts.rename(columns=lambda g: g if g in {"G0", "G1"} else f"ENS{g}"))
    with pytest.raises(PanelError, match="section C1 has 17% of the genes of the others"):
        import_cohort(folder, "st", tmp_path / "c")


def test_a_panel_of_one_gene_is_refused(write_st, counts, tmp_path):
    with pytest.raises(SchemaError, match="section A1 has 1 genes; a panel needs at least 2"):
        import_cohort(write_st("A1", counts[["G0"]]), "st", tmp_path / "c")


def test_a_gene_named_twice_is_refused(write_st, counts, tmp_path):
    with pytest.raises(SchemaError, match="section A1: 1 genes are named twice: G0"):
        import_cohort(write_st("A1", counts.rename(columns={"G1": "G0"})), "st", tmp_path / "c")


def test_an_empty_section_is_refused(write_st, counts, spots, tmp_path):
    with pytest.raises(SchemaError, match="section A1 is empty"):
        import_cohort(write_st("A1", counts, spots.assign(selected=0)), "st", tmp_path / "c")


def test_spots_outside_the_image_are_refused_and_all_problems_told(write_st, counts, spots, tmp_path):
    write_st("A1", counts, spots.assign(pixel_x=spots.pixel_x + 500))
    folder = write_st("B1", counts.rename(columns={"G1": "G0"}))
    with pytest.raises(SchemaError) as refusal:
        import_cohort(folder, "st", tmp_path / "c")
    assert len(refusal.value.problems) == 2
    assert "section A1: 30 spots are outside the image of 2000 x 1800 um; the first is 2x3" in str(refusal.value)


def test_a_contradictory_scale_is_refused(st_folder, tmp_path):
    with pytest.raises(UnitsError, match=r"--mpp says 2, spot pitch says 5"):
        import_cohort(st_folder, "st", tmp_path / "c", mpp=2.0)


@pytest.mark.parametrize("mpp", [0.0, -1.0, 400.0, float("nan")])
def test_an_absurd_mpp_is_refused(st_folder, tmp_path, mpp):
    with pytest.raises(UnitsError, match="is not a pixel size"):
        import_cohort(st_folder, "st", tmp_path / "c", mpp=mpp)


def test_a_manifest_states_what_the_files_do_not(st_folder, tmp_path):
    Image.new("RGB", (200, 180), "black").save(st_folder / "small.png")
    text = """
        organ = "breast"
        [donors]
        Anna = ["A1"]
        [[section]]
        id = "A1"
        image = "small.png"
        coordinate_scale = 0.5
        black_background = true
        mask_boxes_px = [[0, 0, 10, 10]]
        fill_rgb = [1, 200, 3]
        [[section]]
        id = "B1"
        donor = "Berta"
        organ = "colon"
    """
    import_cohort(st_folder, "st", tmp_path / "c", manifest=manifest(tmp_path, text))
    first, second = read_cohort(tmp_path / "c")
    assert (first.donor, first.card.organ, second.donor, second.card.organ) == ("Anna", "breast", "Berta", "colon")
    assert first.image.mpp == pytest.approx(10.0)
    assert first.xy_um == pytest.approx(second.xy_um)
    assert (first.image.pixels == (1, 200, 3)).all()


def test_a_manifest_for_other_sections_is_refused(st_folder, tmp_path):
    with pytest.raises(InputError, match="describes section 'Z9', which the source has not; it has A1, B1"):
        import_cohort(st_folder, "st", tmp_path / "c", manifest=manifest(tmp_path, '[[section]]\nid = "Z9"'))


def test_an_image_that_is_not_there_is_named(st_folder, tmp_path):
    text = '[[section]]\nid = "A1"\nimage = "gone.jpg"'
    with pytest.raises(DataAccessError, match=r"gone\.jpg does not exist"):
        import_cohort(st_folder, "st", tmp_path / "c", manifest=manifest(tmp_path, text))


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataAccessError, match="nowhere does not exist"):
        import_cohort(tmp_path / "nowhere", "st", tmp_path / "c")


def test_visium_takes_its_scale_from_the_hex_grid(write_visium, tmp_path):
    import_cohort(write_visium(), "visium", tmp_path / "c")
    (section,) = read_cohort(tmp_path / "c")
    # Neighbours in a row are two array columns apart: 200 px of the full image, 20 px of the reduced one, 100 um.
    assert section.image.mpp == pytest.approx(5.0, rel=1e-3)
    assert section.card.technology.name == "visium"
    assert list(section.table.var[keys.GENE_ID]) == ["ENS1", "ENS2", "ENS3", "ENS4"]


def test_visium_takes_the_full_image_from_the_manifest(write_visium, tmp_path):
    outs = write_visium()
    Image.new("RGB", (1000, 1100), "white").save(outs / "full.png")
    text = '[[section]]\nid = "sample"\nimage = "full.png"'
    import_cohort(outs, "visium", tmp_path / "c", manifest=manifest(tmp_path, text))
    (section,) = read_cohort(tmp_path / "c")
    assert section.image.mpp == pytest.approx(0.5, rel=1e-3)
    assert section.table.obsm[keys.SPATIAL][1].tolist() == [300, 100]


def test_h5ad_names_cannot_lead_out_of_the_cohort(tmp_path):
    obs = pd.DataFrame({"library_id": ["../../x"] * 4}, index=list("abcd"))
    table = AnnData(np.ones((4, 3)), obs=obs, obsm={"spatial": np.random.default_rng(0).random((4, 2))})
    table.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=r"section name '../../x' cannot be the name of a file"):
        import_cohort(tmp_path / "a.h5ad", "h5ad", tmp_path / "out/c", mpp=0.5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5ad"]


def test_a_failed_import_leaves_nothing(st_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "check_section", lambda section: [f"section {section.id} is bad"])
    out = tmp_path / "new" / "c"
    with pytest.raises(SchemaError, match="has 2 problems"):
        import_cohort(st_folder, "st", out)
    assert not out.parent.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]
