"""A known batch shift: what it does to pixels and counts, by hand, and that strength 0 does nothing."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.data.batch_shift import EOSIN, HAEMATOXYLIN, BatchShift, ShiftedImage
from hescribe.data.image import ArrayImage
from hescribe.data.toy import toy_cohort
from hescribe.errors import InputError


@pytest.fixture(scope="module")
def section():
    return toy_cohort(0, n_donors=1, n_spots=40, n_genes=60)[0]


def image_of(density):
    """One colour, of an optical density a channel."""
    colour = np.round(256 * 10.0 ** -np.asarray(density) - 1)
    return ArrayImage(np.full((60, 80, 3), colour, dtype=np.uint8), 1.0, "one colour")


def seen(image, shift):
    pixels = ShiftedImage(image, shift).read(10, 10, (20, 20), 1.0)
    assert np.ptp(pixels, axis=(0, 1)).max() == 0
    return pixels[0, 0].astype(int)


def counts_of(section):
    return section.table.layers[keys.COUNTS].toarray()


class TestImage:
    @pytest.mark.parametrize(("stain", "name"), [(HAEMATOXYLIN, "haematoxylin"), (EOSIN, "eosin")])
    def test_a_stain_alone_has_a_multiple_of_its_density(self, stain, name):
        other = {"haematoxylin": "eosin", "eosin": "haematoxylin"}[name]
        expected = image_of(0.5 * 0.8 * stain).pixels[0, 0].astype(int)
        assert np.abs(seen(image_of(0.8 * stain), BatchShift(**{name: 0.5})) - expected).max() <= 2  # grey levels
        kept = seen(image_of(0.8 * stain), BatchShift(**{other: 0.5}))
        assert np.abs(kept - image_of(0.8 * stain).pixels[0, 0]).max() <= 2

    def test_empty_glass_stays_white(self):
        assert seen(image_of(np.zeros(3)), BatchShift.of(1.0)).tolist() == [255, 255, 255]

    def test_blur_spreads_a_line_as_a_normal_density_of_its_width_in_um(self):
        pixels = np.full((80, 80, 3), 250, dtype=np.uint8)
        pixels[:, 40] = 50
        image = ShiftedImage(ArrayImage(pixels, 0.5, "line"), BatchShift(blur_um=2.0))
        dark = 250 - image.read(10, 10, (20, 20), 0.5)[20, :, 0].astype(float)
        x_um = (np.arange(40) + 0.5) * 0.5
        centre = (x_um * dark).sum() / dark.sum()
        assert centre == pytest.approx(10.25, abs=0.05)  # pixel 40 of 0.5 um, less the 10 um of the corner
        assert np.sqrt(((x_um - centre) ** 2 * dark).sum() / dark.sum()) == pytest.approx(2.0, rel=0.05)

    def test_a_region_does_not_depend_on_how_much_is_read_around_it(self, section):
        image = BatchShift.of(1.0).apply(section).image
        wide, narrow = image.read(300, 300, (200, 200), 1.0), image.read(350, 350, (100, 100), 1.0)
        assert np.abs(wide[50:150, 50:150].astype(int) - narrow).max() <= 1

    def test_features_of_another_shift_are_not_taken_from_the_cache(self, section):
        prints = {
            BatchShift.of(s, k).apply(section).image.fingerprint for s in (0.5, 1.0) for k in (["stain"], ["blur"])
        }
        assert len(prints | {section.image.fingerprint}) == 5


class TestCounts:
    def test_the_share_that_is_left_is_left(self, section):
        shifted = BatchShift(left=0.25).apply(section)
        assert shifted.depth.sum() / section.depth.sum() == pytest.approx(0.25, rel=0.02)
        assert counts_of(shifted).sum() / counts_of(section).sum() == pytest.approx(0.25, rel=0.05)
        assert (counts_of(shifted) <= counts_of(section)).all()

    def test_ambient_counts_are_those_of_the_mean_and_depth_stays(self, section):
        shifted = BatchShift(ambient=1.0).apply(section)
        np.testing.assert_array_equal(counts_of(shifted).sum(axis=1), counts_of(section).sum(axis=1))
        np.testing.assert_array_equal(shifted.depth, section.depth)
        mean = counts_of(section).sum(axis=0) / counts_of(section).sum()
        deep = counts_of(shifted).sum(axis=1).argmax()
        assert np.corrcoef(counts_of(shifted)[deep], mean)[0, 1] > 0.9

    def test_half_ambient_lies_between(self, section):
        whole = counts_of(section) / np.maximum(counts_of(section).sum(axis=1, keepdims=True), 1)
        mean = counts_of(section).sum(axis=0) / counts_of(section).sum()
        shifted = counts_of(BatchShift(ambient=0.5).apply(section))
        deep = counts_of(section).sum(axis=1) > 1000
        found = (shifted / np.maximum(shifted.sum(axis=1, keepdims=True), 1))[deep].ravel()
        own, common = (whole - mean)[deep].ravel(), np.broadcast_to(mean, whole[deep].shape).ravel()
        slope = (own @ (found - common)) / (own @ own)
        assert slope == pytest.approx(0.5, abs=0.05)

    def test_what_was_made_of_the_old_counts_is_left_out(self, section):
        assert list(BatchShift.of(1.0).apply(section).table.layers) == [keys.COUNTS]

    def test_the_same_seed_gives_the_same_counts_and_another_section_others(self, section):
        one, two = (counts_of(BatchShift.of(1.0).apply(section, seed=3)) for _ in range(2))
        np.testing.assert_array_equal(one, two)
        twin = replace(section, id="twin")
        assert (counts_of(BatchShift.of(1.0).apply(twin, seed=3)) != one).any()


class TestStrength:
    def test_none_changes_nothing(self, section):
        shifted = BatchShift.of(0.0).apply(section)
        np.testing.assert_array_equal(counts_of(shifted), counts_of(section))
        np.testing.assert_array_equal(shifted.depth, section.depth)
        where = 300, 300, (200, 200), 1.0
        np.testing.assert_array_equal(shifted.image.read(*where), section.image.read(*where))

    def test_the_section_given_stays_as_it_was(self, section):
        before = counts_of(section).copy()
        BatchShift.of(1.0).apply(section)
        np.testing.assert_array_equal(counts_of(section), before)

    def test_only_the_kinds_asked_for_change(self):
        assert BatchShift.of(1.0, ["blur"]) == BatchShift(blur_um=3.0)
        assert BatchShift.of(2.0, ["depth"]) == BatchShift(left=0.0625)
        assert BatchShift.of(9.0, ["ambient"]) == BatchShift(ambient=1.0)

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda: BatchShift.of(-1.0), "strength of a batch shift must be 0 or more, got -1"),
            (lambda: BatchShift.of(np.nan), "strength of a batch shift must be 0 or more, got nan"),
            (lambda: BatchShift.of(1.0, ["dust"]), "no batch shift is called 'dust'; there are stain, blur"),
            (lambda: BatchShift(left=0.0), r"left must be in \(0, 1\]"),
            (lambda: BatchShift(ambient=1.5), r"ambient in \[0, 1\]"),
            (lambda: BatchShift(blur_um=-1.0), "blur_um not negative"),
            (lambda: BatchShift(eosin=0.0), "stain factors must be above 0"),
        ],
    )
    def test_what_is_out_of_its_limits_is_refused(self, make, told):
        with pytest.raises(InputError, match=told):
            make()
