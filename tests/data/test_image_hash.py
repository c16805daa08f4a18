import io

import numpy as np
import pytest
from PIL import Image

from hescribe.data.image import ArrayImage
from hescribe.data.image_hash import MIN_LIKENESS, hash_image, like_pairs, likeness
from hescribe.data.toy import toy_cohort


@pytest.fixture(scope="module")
def sections():
    return toy_cohort(3, n_donors=2, sections_per_donor=2, n_spots=80, n_genes=20, mpp=4.0).sections


@pytest.fixture(scope="module")
def pixels(sections):
    return sections[0].image.pixels


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def restain(pixels):
    density = -np.log10(np.maximum(pixels, 1) / 255.0) * [1.15, 0.95, 1.1]
    return (255 * 10**-density).astype(np.uint8)


def half(pixels):
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.LANCZOS))


def hash_of(pixels):
    return hash_image(ArrayImage(np.ascontiguousarray(pixels), 4.0, "x"))


CHANGES = {
    "recompressed": jpeg,
    "half the size": half,
    "restained": restain,
    "paler": lambda p: (255 - (255 - p) * 0.8).astype(np.uint8),
    "turned by a quarter": np.rot90,
    "turned by half": lambda p: p[::-1, ::-1],
    "mirrored": lambda p: p[:, ::-1],
    "transposed": lambda p: p.transpose(1, 0, 2),
    "trimmed": lambda p: p[p.shape[0] // 30 : -p.shape[0] // 30, p.shape[1] // 30 :],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_is_the_same_tissue(pixels, change):
    pairs = list(like_pairs([hash_of(pixels), hash_of(change(pixels))]))
    assert [p[:2] for p in pairs] == [(0, 1)]
    assert pairs[0][2] >= MIN_LIKENESS


def test_sections_of_one_donor_and_of_two_are_not_the_same(sections):
    hashes = [hash_image(s.image, s.xy_um) for s in sections]
    assert list(like_pairs(hashes)) == []
    assert max(likeness(hashes[0], h) for h in hashes[1:]) < MIN_LIKENESS


def test_of_a_slide_with_two_tissues_only_that_under_the_spots_counts(sections):
    one, other = sections[0], sections[2]
    gap = np.full((one.image.pixels.shape[0], 40, 3), 235, dtype=np.uint8)
    side = other.image.pixels[: gap.shape[0]]
    side = np.pad(side, ((0, gap.shape[0] - len(side)), (0, 0), (0, 0)), constant_values=235)
    slide = ArrayImage(np.hstack([one.image.pixels, gap, side]), 4.0, "slide")
    offset = 4.0 * (one.image.pixels.shape[1] + 40)
    left, right = hash_image(slide, one.xy_um), hash_image(slide, other.xy_um + np.array([offset, 0.0]))
    assert likeness(left, hash_image(one.image, one.xy_um)) > 0.9
    assert likeness(left, right) < MIN_LIKENESS


@pytest.mark.parametrize("value", [0, 120, 255])
def test_an_image_without_tissue_has_no_hash(value):
    assert hash_of(np.full((50, 60, 3), value, dtype=np.uint8)) is None


def test_spots_at_one_place_fall_back_to_the_whole_image(pixels):
    image = ArrayImage(pixels, 4.0, "x")
    np.testing.assert_array_equal(hash_image(image, np.full((3, 2), 9.0)), hash_image(image))
