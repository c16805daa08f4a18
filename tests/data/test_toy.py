"""The synthetic cohort: what it holds, what it promises to whoever designs on it, what it refuses."""

import numpy as np
import pytest

from hescribe import keys
from hescribe.data.toy import toy_cohort
from hescribe.data.toy_counts import DRIVERS
from hescribe.errors import InputError, UnitsError


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort(0, n_donors=4, sections_per_donor=2, n_spots=60, n_genes=40, mpp=2.0)


def mean_colour(section):
    """Mean colour of the tissue around the spots, shape (3,)."""
    return np.mean([section.image.read(x - 40, y - 40, (80, 80), 4.0).mean((0, 1)) for x, y in section.xy_um], axis=0)


def test_cohort_card_says_that_the_data_are_synthetic(cohort):
    assert cohort.card.id == "toy@1-0"
    assert cohort.card.synthetic
    assert all(s.card.mpp_source == "synthetic" and s.card.pitch_um == 200.0 for s in cohort)


def test_donors_have_their_sections(cohort):
    assert cohort.donors == ("D01", "D02", "D03", "D04")
    assert [s.id for s in cohort][:3] == ["D01S1", "D01S2", "D02S1"]


def test_gene_names_cannot_be_taken_for_real_ones(cohort):
    assert cohort.genes[0] == "TOY0001"
    assert len(set(cohort.genes)) == 40


def test_counts_are_integers_within_the_stated_depth(cohort):
    for section in cohort:
        counts = section.layer(keys.COUNTS)
        assert (counts == np.round(counts)).all()
        assert counts.min() >= 0
        assert (counts.sum(axis=1) <= section.depth).all()
        assert section.depth.min() >= 1


def test_panel_holds_only_a_part_of_the_depth(cohort):
    shares = [s.layer(keys.COUNTS).sum() / s.depth.sum() for s in cohort]
    assert 0.005 < min(shares) < max(shares) < 0.2


def test_donors_differ_in_depth_by_a_factor_of_several(cohort):
    medians = [np.median(s.depth) for s in cohort]
    assert 300 < min(medians) < max(medians) < 25_000
    assert max(medians) > 4 * min(medians)


def test_spots_lie_on_the_array_inside_the_image(cohort):
    section = cohort[0]
    array = section.table.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy()
    steps_um = section.xy_um - section.xy_um[0]
    assert np.allclose(steps_um, 200.0 * (array - array[0]))
    assert (section.xy_um > 50).all()
    assert (section.xy_um < np.array(section.image.size_um) - 50).all()
    assert len(np.unique(array, axis=0)) == 60


def test_pixel_coordinates_follow_the_pixel_size():
    section = toy_cohort(3, n_donors=1, n_spots=6, n_genes=3, mpp=2.0)[0]
    assert np.allclose(section.table.obsm[keys.SPATIAL] * 2.0, section.xy_um)
    assert section.image.mpp == section.card.mpp == 2.0


def test_background_is_near_white_and_tissue_is_not(cohort):
    section = cohort[0]
    corner = section.image.read(0, 0, (40, 40), 2.0)
    assert corner.mean() > 225
    assert mean_colour(section).mean() < 215


def test_tissue_is_pink_to_purple_as_haematoxylin_and_eosin(cohort):
    red, green, blue = np.mean([mean_colour(s) for s in cohort], axis=0)
    assert green < blue
    assert green < red


def test_a_donor_does_not_change_when_donors_are_added(cohort):
    fewer = toy_cohort(0, n_donors=1, sections_per_donor=1, n_spots=60, n_genes=40, mpp=2.0)[0]
    same = cohort[0]
    assert np.array_equal(fewer.layer(keys.COUNTS), same.layer(keys.COUNTS))
    assert np.array_equal(fewer.image.pixels, same.image.pixels)
    assert fewer.image.fingerprint == same.image.fingerprint


def test_seeds_give_other_cohorts():
    a, b = (toy_cohort(seed, n_donors=1, n_spots=9, n_genes=4)[0] for seed in (1, 2))
    assert not np.array_equal(a.layer(keys.TRUTH), b.layer(keys.TRUTH))
    assert a.image.fingerprint != b.image.fingerprint


def test_a_grade_makes_nuclei_larger_and_moves_genes_of_their_size_in_its_donor_alone():
    """A mutation-like effect: what the image shows of the nuclei, and the genes that follow them."""
    plain, mutated = (toy_cohort(3, n_donors=2, n_spots=60, mpp=2.0, grades=g) for g in ((0.0, 0.0), (0.0, 2.0)))
    assert (plain[0].image.read(0, 0, (400, 400), 2.0) == mutated[0].image.read(0, 0, (400, 400), 2.0)).all()
    assert (
        plain[0].image.fingerprint
        == mutated[0].image.fingerprint
        == toy_cohort(3, n_spots=60, mpp=2.0)[0].image.fingerprint
    )
    assert plain[1].image.fingerprint != mutated[1].image.fingerprint
    moved = np.abs(mutated[1].layer("truth_visible") - plain[1].layer("truth_visible")).mean(axis=0)
    driver = plain[1].table.var["driver"].to_numpy()
    assert moved[driver == "size"].mean() > 3 * moved[driver == "noise"].mean()
    with pytest.raises(InputError, match="grades has 1 numbers for 2 donors"):
        toy_cohort(3, n_donors=2, grades=(1.0,))


def test_fingerprint_changes_with_everything_that_changes_a_pixel():
    options = [{}, {"mpp": 2.0}, {"pitch_um": 150.0}, {"organs": ("colon",)}, {"n_spots": 7}]
    base = {"n_donors": 1, "n_spots": 6, "n_genes": 2}
    assert len({toy_cohort(0, **{**base, **o})[0].image.fingerprint for o in options}) == len(options)


def test_stain_differs_between_donors_more_than_within(cohort):
    colours = np.array([mean_colour(s) for s in cohort]).reshape(4, 2, 3)
    background = np.array([s.image.read(0, 0, (40, 40), 2.0).mean((0, 1)) for s in cohort]).reshape(4, 2, 3)
    within, between = np.ptp(background, axis=1).mean(), background.mean(1).std(axis=0).mean()
    assert between > 3 * within
    assert colours.mean(1).std(axis=0).mean() > 2


def test_gene_levels_differ_between_donors_more_than_within(cohort):
    truth = np.array([s.layer(keys.TRUTH).mean(axis=0) for s in cohort]).reshape(4, 2, -1)
    assert truth.mean(1).std(axis=0).mean() > 2 * truth.std(axis=1).mean()


def test_counts_follow_the_truth():
    section = toy_cohort(0, n_donors=1, n_spots=2000, n_genes=20, pitch_um=40.0, mpp=4.0)[0]
    share = np.expm1(section.layer(keys.TRUTH)) / 1e4
    expected = (share * section.depth[:, None]).sum(axis=0)
    assert np.allclose(section.layer(keys.COUNTS).sum(axis=0) / expected, 1, atol=0.12)


def test_what_the_image_shows_moves_the_visible_truth_only():
    section = toy_cohort(0, n_donors=1, n_spots=300, n_genes=120, mpp=2.0)[0]
    grey = np.array([section.image.read(x - 50, y - 50, (100, 100), 2.0).mean() for x, y in section.xy_um])
    truth, driver = section.layer(keys.TRUTH_VISIBLE), section.table.var[keys.DRIVER].to_numpy()

    def r2(name):
        chosen = truth[:, driver == name]
        return np.mean([np.corrcoef(grey, gene)[0, 1] ** 2 for gene in chosen.T if gene.std() > 0.01])

    assert min(r2("composition"), r2("density")) > 0.15
    noise = truth[:, driver == "noise"].std(axis=0)  # only the other genes' shares of the counts move these
    assert noise.mean() < 0.4 * truth[:, driver == "composition"].std(axis=0).mean()


def test_context_genes_follow_the_neighbourhood_more_than_the_spot():
    section = toy_cohort(1, n_donors=1, n_spots=400, n_genes=200, mpp=4.0)[0]
    array = section.table.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy()
    gap = np.abs(array[:, None] - array[None]).max(-1)
    driver, truth = section.table.var[keys.DRIVER].to_numpy(), section.layer(keys.TRUTH_VISIBLE)

    def likeness(name):
        genes = truth[:, driver == name]
        genes = (genes - genes.mean(0)) / genes.std(0)
        return np.mean((genes @ genes.T / genes.shape[1])[gap == 1])

    assert likeness("context") > likeness("composition") + 0.2


def test_drivers_are_named_for_every_gene(cohort):
    assert set(cohort[0].table.var[keys.DRIVER]) <= set(DRIVERS)


def test_truth_never_reaches_a_model(cohort):
    blind = cohort[0].blind().table
    assert not blind.layers
    assert blind.var.shape[1] == 0
    assert keys.DEPTH not in blind.obs


def test_organs_look_and_express_differently():
    breast, colon, again = toy_cohort(0, n_donors=3, n_spots=60, n_genes=60, organs=("breast", "colon"), mpp=2.0)
    assert [s.card.organ for s in (breast, colon, again)] == ["breast", "colon", "breast"]
    as_breast = toy_cohort(0, n_donors=2, n_spots=60, n_genes=60, mpp=2.0)[1]
    assert abs(mean_colour(colon) - mean_colour(as_breast)).max() > 3
    driver = colon.table.var[keys.DRIVER].to_numpy()
    difference = colon.layer(keys.TRUTH).mean(0) - as_breast.layer(keys.TRUTH).mean(0)
    assert difference[driver == "composition"].std() > 2 * difference[driver == "noise"].std()


def test_a_dense_array_puts_many_spots_on_one_image():
    section = toy_cohort(0, n_donors=1, n_spots=20_000, n_genes=5, pitch_um=10.0, mpp=4.0)[0]
    assert section.n_spots == 20_000
    assert section.image.pixels.size < 4e6


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n_donors": 0}, "n_donors is 0 and must be at least 1"),
        ({"sections_per_donor": 0}, "sections_per_donor is 0"),
        ({"n_spots": -5}, "n_spots is -5"),
        ({"n_genes": 1}, "n_genes is 1 and must be at least 2"),
        ({"organs": ()}, "choose one or more of breast, colon, kidney"),
        ({"organs": ("heart",)}, "heart"),
        ({"pitch_um": 0.0}, "pitch_um is 0"),
        ({"pitch_um": float("nan")}, "pitch_um is nan"),
    ],
)
def test_bad_arguments_are_refused_by_name(wrong, said):
    with pytest.raises(InputError, match=said):
        toy_cohort(0, **wrong)


def test_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1"):
        toy_cohort(-1)


def test_absurd_pixel_size_is_refused():
    with pytest.raises(UnitsError, match="magnification"):
        toy_cohort(0, mpp=100.0)
