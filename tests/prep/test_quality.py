from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from hescribe import keys
from hescribe.data.image import ArrayImage
from hescribe.data.toy import toy_cohort
from hescribe.prep.quality import (
    MIN_FOCUS,
    MIN_ORDER,
    find_flaws,
    measure_counts,
    measure_focus,
    measure_image,
    measure_stain,
    spatial_order,
)


@pytest.fixture(scope="module")
def sections():
    return toy_cohort(6, n_donors=4, n_spots=150, n_genes=150, pitch_um=150.0).sections


def with_pixels(section, pixels):
    return replace(section, image=ArrayImage(pixels.astype(np.uint8), section.image.mpp, "changed"))


def permuted(section, seed=0):
    table = section.table.copy()
    order = np.random.default_rng(seed).permutation(section.n_spots)
    table.layers[keys.COUNTS] = table.layers[keys.COUNTS][order]
    table.obs[keys.DEPTH] = section.depth[order]
    return section.with_table(table)


@pytest.fixture(scope="module")
def flaws_of(sections):
    """Return the flaws of the sections with one of them changed."""
    counts, images = {s.id: measure_counts(s) for s in sections}, {s.id: measure_image(s) for s in sections}

    def flaws(changed=None):
        new = {} if changed is None else {changed.id: changed}
        return find_flaws(
            counts | {k: measure_counts(s) for k, s in new.items()},
            images | {k: measure_image(s) for k, s in new.items()},
        )

    return flaws


def test_counts_are_summed_up_as_by_hand(sections):
    quality = measure_counts(sections[0])
    counts = sections[0].table.layers[keys.COUNTS].toarray()
    assert quality.depth[1] == np.median(sections[0].depth)
    assert quality.genes[1] == np.median((counts > 0).sum(axis=1))
    assert quality.missing == pytest.approx((counts == 0).mean())
    assert quality.histogram.sum() == sections[0].n_spots


def test_sound_sections_have_no_flaw(sections, flaws_of):
    assert flaws_of() == {s.id: [] for s in sections}


def test_a_blurred_image_has_a_lower_focus_and_is_named(sections, flaws_of):
    section = sections[0]
    blurred = with_pixels(section, ndimage.gaussian_filter(section.image.pixels, (1.5, 1.5, 0)))
    sharp, soft = (measure_focus(s.image, s.xy_um) for s in (section, blurred))
    assert soft < MIN_FOCUS < sharp
    found = flaws_of(blurred)
    assert found[section.id][0].startswith("focus: ")
    assert not any(found[s.id] for s in sections[1:])


def test_focus_is_not_told_for_a_coarse_image(sections):
    coarse = ArrayImage(sections[0].image.pixels, 1.3, "coarse")
    assert measure_focus(coarse, sections[0].xy_um) is None
    assert measure_focus(sections[0].image, np.zeros((0, 2))) is None


def test_focus_does_not_follow_the_strength_of_light(sections):
    section = sections[0]
    dim = with_pixels(section, section.image.pixels * 0.7)
    assert measure_focus(dim.image, section.xy_um) == pytest.approx(
        measure_focus(section.image, section.xy_um), rel=0.1
    )


def test_permuted_spots_have_no_order_and_are_named(sections, flaws_of):
    for section in sections:
        assert spatial_order(section) > MIN_ORDER
        assert spatial_order(permuted(section)) < MIN_ORDER
    found = flaws_of(permuted(sections[0]))
    assert found[sections[0].id][0].startswith("disorder: neighbouring spots are no more alike than chance")


def test_order_needs_thirty_spots_that_are_neighbours(sections):
    few = sections[0].with_table(sections[0].table[:29].copy())
    assert spatial_order(few) is None
    scattered = sections[0].table.copy()
    scattered.obs[keys.ARRAY_ROW] = np.arange(sections[0].n_spots) * 3
    assert spatial_order(sections[0].with_table(scattered)) is None


def test_a_section_stained_unlike_the_others_is_named(sections, flaws_of):
    section = sections[0]
    density = -np.log10(np.maximum(section.image.pixels, 1) / 255.0)
    strong = with_pixels(section, 255 * 10 ** (-2.5 * density))
    found = flaws_of(strong)
    assert any(f.startswith("stain: density") for f in found[section.id])


def test_a_dark_image_is_named(sections, flaws_of):
    dark = with_pixels(sections[0], 255 - sections[0].image.pixels)
    assert any("most of the image is dark" in f for f in flaws_of(dark)[dark.id])


def test_a_shallow_section_is_named(sections, flaws_of):
    table = sections[0].table.copy()
    table.layers[keys.COUNTS] = (table.layers[keys.COUNTS] * 0.02).floor()
    table.obs[keys.DEPTH] = np.floor(sections[0].depth * 0.02)
    found = flaws_of(sections[0].with_table(table))[sections[0].id]
    assert any("have under 100 counts" in f for f in found)
    assert any("times below the other sections" in f for f in found)


def test_stain_is_measured_above_the_glass():
    pixels = np.full((4, 4, 3), 128, dtype=np.uint8)  # glass of density 0.30
    pixels[:2] = [128, 13, 128]  # green is absorbed ten times more
    density, hue = measure_stain(pixels, np.arange(16).reshape(4, 4) < 8)
    assert density == pytest.approx(np.log10(128 / 13) / 3, abs=1e-3)
    assert hue == pytest.approx(120.0)
    assert np.isnan(measure_stain(pixels, np.zeros((4, 4), dtype=bool))).all()
