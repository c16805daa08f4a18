import numpy as np
import pytest

from hescribe import keys
from hescribe.data.image import ArrayImage
from hescribe.data.toy import toy_cohort
from hescribe.prep.alignment import check_alignment
from hescribe.prep.tissue import MASK_MPP, find_tissue

PITCH_UM = 200.0


@pytest.fixture(scope="module")
def sections():
    return toy_cohort(5, n_donors=3, n_spots=120, n_genes=30, mpp=4.0).sections


def moved(section, xy_um):
    table = section.table.copy()
    table.obsm[keys.SPATIAL_UM] = xy_um
    return section.with_table(table)


def align(section):
    pixels = section.image.read(0.0, 0.0, section.image.size_um, MASK_MPP)
    return check_alignment(section, pixels, find_tissue(pixels))


def test_spots_where_they_belong_have_no_problem(sections):
    for section in sections:
        alignment = align(section)
        assert alignment.problems == []
        assert alignment.on_tissue > 0.7
        assert alignment.darkness > 0.2


def test_spots_shifted_by_a_pitch_are_noticed(sections):
    for section in sections:
        shifted = align(moved(section, section.xy_um + np.array([PITCH_UM, -PITCH_UM])))
        assert shifted.on_tissue < align(section).on_tissue
        assert any("would be on tissue after a shift by 1 pitch" in p for p in shifted.problems)


@pytest.mark.parametrize("turn", ["swapped", "mirrored"])
def test_swapped_and_mirrored_axes_are_noticed(sections, turn):
    for section in sections:
        x, y = section.xy_um.T
        xy = np.column_stack([y, x]) if turn == "swapped" else np.column_stack([section.image.size_um[0] - x, y])
        assert any(turn in p for p in align(moved(section, xy)).problems)


def test_the_share_on_tissue_is_counted_by_hand():
    pixels = np.full((100, 100, 3), 235, dtype=np.uint8)
    pixels[:, 50:] = [150, 60, 140]  # the right half is stained: from 400 um on
    xy = np.array([[100.0, 100.0], [300.0, 600.0], [500.0, 200.0], [700.0, 700.0], [900.0, 100.0]])
    section = moved(toy_cohort(5, n_donors=1, n_spots=20, n_genes=5, mpp=4.0)[0], np.zeros((20, 2)))
    section = type(section)("s", "d", section.table[:5].copy(), ArrayImage(pixels, 8.0, "halves"), section.card)
    alignment = align(moved(section, xy))  # the last one is outside of the image
    assert alignment.is_on_tissue.tolist() == [False, False, True, True, False]
    assert alignment.darkness is None  # five spots say nothing


def test_a_few_spots_beside_the_tissue_are_no_sign_of_misplaced_spots():
    """One spot on glass would always be on tissue after some shift."""
    pixels = np.full((100, 100, 3), 235, dtype=np.uint8)
    pixels[:, 50:] = [150, 60, 140]
    base = toy_cohort(5, n_donors=1, n_spots=20, n_genes=5, mpp=4.0)[0]
    lone = type(base)("s", "d", base.table[:1].copy(), ArrayImage(pixels, 8.0, "halves"), base.card)
    alignment = align(moved(lone, np.array([[300.0, 400.0]])))
    assert (alignment.on_tissue, alignment.shifted[1]) == (0.0, 1.0)
    assert alignment.problems == []
