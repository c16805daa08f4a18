"""A slide that is not like the training slides is told from one that is, and the reader is told why."""

from dataclasses import replace

import anndata
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import rankdata
from tests.old_folders import without_checksum

from hescribe import keys
from hescribe.bench.doubt import find_doubts
from hescribe.bench.fitting import fit_model, predict_section, predict_table
from hescribe.bench.ladder import create_model
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.data.h5ad import write_h5ad
from hescribe.data.image import ArrayImage
from hescribe.data.toy import toy_cohort
from hescribe.errors import FormatError
from hescribe.testing.cohorts import colour_section, raw_colour_cohort
from hescribe.testing.faults import MARKERS, blur, draw_pen, restain, wipe_tissue

PROTOCOL = read_protocol("donor-v1")
N_SPOTS = 40


@pytest.fixture(scope="module")
def slides():
    """Return eight synthetic slides, each of another donor and stain."""
    return toy_cohort(0, n_donors=8, n_spots=N_SPOTS, n_genes=12)


@pytest.fixture(scope="module")
def model(slides):
    """Return a model whose inputs are standardised within the section: a shift of the whole slide is hidden from it."""
    train = slides.where(lambda s: s.donor not in {"D04", "D07"})
    return fit_model(create_model("context:encoder=color:alpha=1000.0:n_rings=1"), train, PROTOCOL)


@pytest.fixture(scope="module")
def new(slides):
    return [s for s in slides if s.donor in {"D04", "D07"}]


def auc(unlike, like):
    """Return the chance that a spot of the first kind scores above one of the second."""
    rank, n = rankdata(np.concatenate([unlike, like])), len(unlike)
    return (rank[:n].sum() - n * (n + 1) / 2) / (n * len(like))


@pytest.mark.parametrize(
    "fault",
    [lambda s: restain(s, (0.5, 1.1, 1.8)), lambda s: blur(s, 2.0), lambda s: blur(s, 5.0)],
    ids=["stain", "blur", "strong blur"],
)
def test_a_fault_of_the_whole_slide_is_found_in_its_spots(model, new, fault):
    like = np.concatenate([predict_section(model, s).ood for s in new])
    unlike = np.concatenate([predict_section(model, fault(s)).ood for s in new])
    assert auc(unlike, like) > 0.9


@pytest.mark.parametrize("colour", list(MARKERS))
def test_spots_under_ink_are_found(model, new, colour):
    spots = np.arange(0, N_SPOTS, 4)
    for section in new:
        ood = predict_section(model, draw_pen(section, spots, colour=colour)).ood
        assert auc(ood[spots], np.delete(ood, spots)) > 0.9


def test_spots_without_tissue_are_found(model, new):
    spots = np.arange(0, N_SPOTS, 4)
    for section in new:
        ood = predict_section(model, wipe_tissue(section, spots)).ood
        assert auc(ood[spots], np.delete(ood, spots)) > 0.9


def test_a_slide_like_those_of_the_training_is_not_doubted(model, new):
    assert [find_doubts(model, s, predict_section(model, s).ood) for s in new] == [[], []]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda s: blur(s, 3.0), "blurred, or enlarged from too few pixels"),
        (lambda s: restain(s, (0.5, 1.1, 1.8)), "stain"),
        (lambda s: wipe_tissue(s, range(N_SPOTS)), "little tissue|sharper or noisier"),
    ],
    ids=["blur", "stain", "glass"],
)
def test_a_slide_unlike_those_of_the_training_is_doubted_in_plain_words(model, new, fault, said):
    section = fault(new[0])
    (doubt,) = find_doubts(model, section, predict_section(model, section).ood)
    assert pytest.approx(1.0, abs=0.3) == float(doubt.partition("%")[0]) / 100
    assert "trust classes and intervals do not hold" in doubt
    assert any(words in doubt for words in said.split("|"))


def test_another_organ_is_said_with_its_consequence(model, new):
    colon = replace(new[0], card=replace(new[0].card, organ="colon"))
    (doubt,) = find_doubts(model, colon, None)
    assert doubt == (
        "section D04 is colon, and the model was trained on breast: trust classes and intervals say nothing about "
        "another organ"
    )
    same = replace(new[0], card=replace(new[0].card, organ="Breast"))
    assert find_doubts(model, same, None) == []
    unknown = replace(new[0], card=replace(new[0].card, organ="unknown"))
    assert find_doubts(model, unknown, None) == []


@pytest.mark.parametrize(("mpp", "less"), [(0.25, "more"), (0.9, None), (1.4, None), (2.0, "less")])
def test_a_scanner_of_another_scale_is_said_with_its_consequence(model, new, mpp, less):
    image = ArrayImage(new[0].image.pixels, mpp, "rescaled")
    doubts = find_doubts(model, replace(new[0], image=image), None)
    assert [d for d in doubts if f"shows {less} detail" in d] == doubts
    assert len(doubts) == (less is not None)


def test_a_table_carries_the_doubts_through_the_disk(model, new, tmp_path):
    table = predict_table(model, blur(new[0], 3.0))
    write_h5ad(table, tmp_path / "a.h5ad")
    assert "blurred" in anndata.read_h5ad(tmp_path / "a.h5ad").uns["hescribe"]["doubts"][0]
    assert "doubts" not in predict_table(model, new[0]).uns["hescribe"]


def test_looks_survive_the_disk(model, new, tmp_path):
    write_model(tmp_path / "m", model)
    restored = read_model(tmp_path / "m")
    assert restored.info.image_mpp == (1.0, 1.0)
    np.testing.assert_array_equal(predict_section(restored, new[0]).ood, predict_section(model, new[0]).ood)


def test_a_folder_that_lost_a_part_of_its_looks_is_refused(model, tmp_path):
    write_model(tmp_path / "m", model)
    arrays = load_file(tmp_path / "m/weights.safetensors")
    del arrays["looks/spread"]
    save_file(arrays, tmp_path / "m/weights.safetensors")
    with pytest.raises(FormatError, match=r"is not the file that model.json was written with; fit the model again"):
        read_model(tmp_path / "m")
    without_checksum(tmp_path / "m/model.json")
    with pytest.raises(FormatError, match=r"looks of the training images \(spread\)"):
        read_model(tmp_path / "m")


def test_a_folder_whose_looks_do_not_fit_together_is_refused(model, tmp_path):
    write_model(tmp_path / "m", replace(model, looks=replace(model.looks, low=model.looks.low[:-1])))
    with pytest.raises(FormatError, match="looks of the training images whose shapes do not fit"):
        read_model(tmp_path / "m")


@pytest.mark.slow
def test_a_folder_without_looks_keeps_the_score_of_its_predictor(model, new, tmp_path):
    write_model(tmp_path / "m", replace(model, looks=None))
    restored = read_model(tmp_path / "m")
    own = model.predictor.predict(new[0].blind()).ood
    np.testing.assert_array_equal(predict_section(restored, new[0]).ood, own)
    odd = np.ones(N_SPOTS)
    assert "by the predictor's own features" in find_doubts(restored, new[0], odd)[0]


def test_a_method_that_reads_no_image_says_nothing_about_it():
    model = fit_model(create_model("mean"), raw_colour_cohort(), PROTOCOL)
    assert model.looks is None
    assert np.isnan(predict_table(model, colour_section(50, "new")).obs[keys.OOD]).all()


def test_one_section_of_one_donor_is_enough_to_compare_with(new):
    one = raw_colour_cohort(1, 1)
    model = fit_model(create_model("color_ridge"), one, PROTOCOL)
    like, unlike = predict_section(model, one[0]).ood, predict_section(model, restain(one[0], (3.0, 3.0, 3.0))).ood
    assert auc(unlike, like) > 0.9
