"""Stains are found again in pictures mixed from known ones, and one is turned into another."""

import numpy as np
import pytest
from anndata import AnnData

from hescribe.data.image import ArrayImage, CoveredImage
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.prep.stain import METHODS, Stain, StainedImage, mean_stain, measure_stain, normalise, with_stain

# Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001, table of H&E: optical
# density of haematoxylin and eosin per channel, here at unit length.
RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
RUIFROK = RUIFROK / np.linalg.norm(RUIFROK, axis=1, keepdims=True)
OTHER = np.array([[0.55, 0.75, 0.37], [0.20, 0.92, 0.33]])
OTHER = OTHER / np.linalg.norm(OTHER, axis=1, keepdims=True)


def amounts(seed=0, n=20_000):
    """Return concentrations of both stains: mixed, and some of one stain only."""
    rng = np.random.default_rng(seed)
    mixed = rng.uniform(0.1, 1.0, (n, 2))
    mixed[: n // 10, 1] = 0
    mixed[n // 10 : n // 5, 0] = 0
    return mixed


def mix(vectors, concentrations):
    return np.rint(255 * 10.0 ** -(concentrations @ vectors)).clip(0, 255).astype(np.uint8)


def degrees_between(a, b):
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


@pytest.mark.parametrize("vectors", [RUIFROK, OTHER])
def test_macenko_finds_the_stains_that_were_mixed(vectors):
    concentrations = amounts()
    found = measure_stain(mix(vectors, concentrations), "macenko")
    assert degrees_between(found.first[0], vectors[0]) < 1.5
    assert degrees_between(found.first[1], vectors[1]) < 1.5
    seen = concentrations[(concentrations @ vectors).mean(axis=1) > 0.1]
    np.testing.assert_allclose(found.second, np.percentile(seen, 99, axis=0), rtol=0.05)


def test_a_pixel_of_known_density_becomes_what_the_other_stain_makes_of_it():
    """Half the strongest haematoxylin and a quarter of the strongest eosin stay a half and a quarter."""
    source, reference = Stain(RUIFROK, np.array([1.0, 0.8])), Stain(OTHER, np.array([0.6, 1.2]))
    pixel = mix(RUIFROK, np.array([[0.5, 0.2]]))
    expected = mix(OTHER, np.array([[0.3, 0.3]]))
    assert np.abs(normalise(pixel, "macenko", source, reference).astype(int) - expected).max() <= 2


def test_reinhard_gives_the_mean_and_spread_of_the_reference():
    pixels, others = mix(RUIFROK, amounts(1)), mix(OTHER, 0.7 * amounts(2) + 0.05)
    source, reference = (measure_stain(p, "reinhard") for p in (pixels, others))
    turned = measure_stain(normalise(pixels, "reinhard", source, reference), "reinhard")
    before = np.abs(source.first - reference.first).max()
    assert np.abs(turned.first - reference.first).max() < 0.2 * before
    np.testing.assert_allclose(turned.second, reference.second, rtol=0.25)


@pytest.mark.parametrize("method", METHODS)
def test_the_own_stain_as_reference_changes_nothing(method):
    pixels = mix(RUIFROK, amounts() + 0.3)
    stain = measure_stain(pixels, method)
    turned = normalise(pixels, method, stain, stain)
    assert np.abs(turned.astype(int) - pixels).mean() < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_white_stays_white_and_two_slides_of_one_tissue_look_alike(method):
    concentrations = amounts() + 0.2
    one, two = mix(RUIFROK, concentrations), mix(OTHER, 1.4 * concentrations)
    stains = [measure_stain(p, method) for p in (one, two)]
    reference = mean_stain(stains, method)
    turned = [normalise(p, method, s, reference).astype(int) for p, s in zip((one, two), stains, strict=True)]
    apart = np.abs(one.astype(int) - two).mean()
    assert np.abs(turned[0] - turned[1]).mean() < 0.35 * apart
    white = np.full((4, 4, 3), 255, np.uint8)
    assert (normalise(white, method, *stains) == 255).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_white_tile_and_too_little_tissue_are_refused(method):
    white = np.full((100, 100, 3), 250, np.uint8)
    with pytest.raises(InputError, match=r"0 of 10,000 pixels are stained.*too little tissue"):
        measure_stain(white, method)
    speck = white.copy()
    speck[:10, :10] = (120, 60, 140)
    with pytest.raises(InputError, match="100 of 10,000 pixels are stained"):
        measure_stain(speck, method)


def test_one_colour_is_no_two_stains():
    grey = np.random.default_rng(0).integers(60, 120, (100, 100, 1), dtype=np.uint8).repeat(3, axis=2)
    with pytest.raises(InputError, match="only one stain"):
        measure_stain(grey, "macenko")
    with pytest.raises(InputError, match="macenko or reinhard, got 'vahadane'"):
        measure_stain(grey, "vahadane")


def section_of(pixels):
    xy = np.random.default_rng(0).uniform(60, 140, (30, 2))
    return Section("s", "d", AnnData(np.zeros((30, 1)), obsm={"spatial_um": xy}), ArrayImage(pixels, 1.0, "picture"))


def test_a_section_is_read_in_the_reference_stain_wherever_it_is_read():
    pixels = mix(RUIFROK, amounts(3, 40_000) + 0.3).reshape(200, 200, 3)
    reference = Stain(OTHER, np.array([0.6, 1.2]))
    image = with_stain(section_of(pixels), "macenko", reference).image
    assert isinstance(image, StainedImage)
    assert (image.mpp, image.size_um) == (1.0, (200.0, 200.0))
    expected = normalise(pixels, "macenko", image.source, reference)
    assert (image.read(20.0, 40.0, (64.0, 32.0), 1.0) == expected[40:72, 20:84]).all()
    other = with_stain(section_of(pixels), "macenko", Stain(OTHER, np.array([0.6, 1.3]))).image
    assert len({image.fingerprint, other.fingerprint, "picture"}) == 3


def test_a_covered_place_is_covered_after_normalisation_too():
    pixels = mix(RUIFROK, amounts(3, 40_000) + 0.3).reshape(200, 200, 3)
    section = section_of(pixels)
    covered = CoveredImage(section.image, (80.0, 80.0), 30.0, (229, 211, 229))
    image = with_stain(Section("s", "d", section.table, covered), "macenko", Stain(OTHER, np.ones(2))).image
    assert isinstance(image, CoveredImage)
    assert (image.read(85.0, 85.0, (10.0, 10.0), 1.0) == (229, 211, 229)).all()


def test_a_section_of_glass_is_named():
    with pytest.raises(InputError, match="the stain of section s cannot be normalised"):
        with_stain(section_of(np.full((200, 200, 3), 245, np.uint8)), "macenko", Stain(OTHER, np.ones(2)))
