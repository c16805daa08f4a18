"""Patches are squares of tissue, sized in um, one per spot."""

import numpy as np
import pytest
from anndata import AnnData

from hescribe.data.image import ArrayImage
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.prep.patches import iter_patches


def ramp_section(xy_um, mpp=0.5, size=200) -> Section:
    """A section whose image is brighter to the right: red is the column, green the row."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(size), np.arange(size)[:, None]
    table = AnnData(np.zeros((len(xy_um), 1)), obsm={"spatial_um": np.array(xy_um, dtype=float)})
    return Section("ramp", "d", table, ArrayImage(pixels, mpp, "ramp"))


def test_patches_come_in_spot_order_in_chunks():
    section = ramp_section([(20 + i, 30) for i in range(7)])
    chunks = list(iter_patches(section, 10.0, 20, chunk=3))
    assert [len(c) for c in chunks] == [3, 3, 1]
    means = np.concatenate(chunks)[..., 0].mean(axis=(1, 2))
    np.testing.assert_allclose(np.diff(means), 2)  # 1 um is 2 px, and red is the column


def test_a_patch_is_centred_on_its_spot():
    (chunk,) = iter_patches(ramp_section([(50.0, 40.0)]), 10.0, 20, chunk=1)
    assert chunk[0, :, :, 0].mean() == pytest.approx(99.5)  # columns 90 to 109
    assert chunk[0, :, :, 1].mean() == pytest.approx(79.5)  # rows 70 to 89


def test_pixels_follow_from_micrometres_not_from_the_image():
    fine, coarse = ramp_section([(30.0, 30.0)], mpp=0.5), ramp_section([(60.0, 60.0)], mpp=1.0)
    (a,), (b,) = iter_patches(fine, 20.0, 32), iter_patches(coarse, 40.0, 32)
    np.testing.assert_array_equal(a, b)  # the same pixels of the image, at the same size


def test_edge_pixels_are_repeated_outside_the_image():
    (chunk,) = iter_patches(ramp_section([(0.0, 50.0)]), 10.0, 20)
    assert (chunk[0, :, :10, 0] == 0).all()
    assert (chunk[0, :, 11:, 0] > 0).all()


def test_no_spots_give_no_patches():
    assert list(iter_patches(ramp_section(np.zeros((0, 2))), 10.0, 20)) == []


def test_a_section_without_image_is_named():
    section = Section("bare", "d", AnnData(np.zeros((2, 1))))
    with pytest.raises(InputError, match="section bare has no image"):
        iter_patches(section, 112.0, 224)


@pytest.mark.parametrize(("fov_um", "px"), [(0.0, 224), (-1.0, 224), (np.nan, 224), (112.0, 0)])
def test_an_impossible_size_is_refused(fov_um, px):
    with pytest.raises(InputError, match="positive field of view"):
        iter_patches(ramp_section([(50, 50)]), fov_um, px)


def test_a_spot_without_coordinates_is_named():
    with pytest.raises(InputError, match="spot 1 of section ramp has no finite coordinates"):
        iter_patches(ramp_section([(50, 50), (np.nan, 50)]), 10.0, 20)


def test_a_spot_outside_of_the_image_is_named():
    with pytest.raises(InputError, match="spot 1 of section ramp lies outside of its image"):
        iter_patches(ramp_section([(50, 50), (5000, 50)]), 10.0, 20)
