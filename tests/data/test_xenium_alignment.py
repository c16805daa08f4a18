"""The alignment of a Xenium image: where a spot lies on H&E, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.data.xenium_files import MATRIX, expected_counts, read, transcripts

from hescribe import keys
from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.readers.he_alignment import read_alignment
from hescribe.errors import DataAccessError, FormatError, SchemaError, UnitsError


def test_without_image_the_section_is_in_um(write_xenium, tmp_path):
    import_cohort(write_xenium(), "xenium", tmp_path / "c", params={"spot_um": 20.0})
    (section,) = read_cohort(tmp_path / "c")
    assert section.image is None
    assert (section.card.mpp, section.card.mpp_source, section.card.pitch_um) == (1.0, "native um", 20.0)
    assert section.xy_um[0] == pytest.approx([10.0, 10.0])
    assert section.table.layers[keys.COUNTS].sum() == expected_counts(transcripts(), 20.0).sum()


def test_the_alignment_leads_from_he_pixels_to_morphology_pixels(write_xenium):
    """A planted spot: the inverse map, or swapped axes, would put it elsewhere."""
    (section,) = read(write_xenium(image=True, alignment=True))
    spot = section.array_xy.tolist().index([2, 1])
    # Centre (137.5, 82.5) um is (647.0588, 388.2353) morphology px; -1.5 y + 1400 = 647.06 and 1.5 x + 30 = 388.24.
    assert section.xy_px[spot] == pytest.approx([238.8235, 501.9608], abs=1e-3)
    assert section.mpp["alignment"] == pytest.approx(0.31875)  # 0.2125 um, 1.5-fold
    assert section.image.name == "sample_he_image.png"


def test_an_aligned_section_comes_in_with_scale_and_image(write_xenium, tmp_path):
    import_cohort(write_xenium(image=True, alignment=True), "xenium", tmp_path / "c", params={"spot_um": 20.0})
    (section,) = read_cohort(tmp_path / "c")
    assert section.image.mpp == pytest.approx(0.31875)
    assert section.card.mpp_source == "alignment"
    column, row = (section.table.obs[k].to_numpy() for k in (keys.ARRAY_COL, keys.ARRAY_ROW))
    a, b = (int(np.flatnonzero((column == c) & (row == 3))[0]) for c in (2, 3))
    assert np.linalg.norm(section.xy_um[a] - section.xy_um[b]) == pytest.approx(20.0)


def test_pseudo_spots_at_the_edge_of_the_image_are_left_out_and_named(write_xenium, tmp_path):
    folder = write_xenium(image=True, alignment=True)
    Image.new("RGB", (600, 900), "white").save(folder / "sample_he_image.png")
    report = import_cohort(folder, "xenium", tmp_path / "c", params={"spot_um": 20.0})
    # x_um = 0.2125 * (1400 - 1.5 * y_px): below y_px = 900 lie x_um > 10.6, so that column 0 (centre 10) is out.
    assert report.dropped_spots == {"sample_outs": tuple(f"{row:03d}x000" for row in range(9))}
    assert (tuple(read_cohort(tmp_path / "c")[0].table.uns[keys.DROPPED_SPOTS])) == report.dropped_spots["sample_outs"]


def test_the_inverse_matrix_is_refused_by_the_scale_or_the_frame(write_xenium, tmp_path):
    folder = write_xenium(image=True)
    np.savetxt(folder / "he_imagealignment.csv", np.linalg.inv(MATRIX), delimiter=",")
    with pytest.raises(SchemaError, match="spots are outside the image"):
        import_cohort(folder, "xenium", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_an_image_that_contradicts_the_alignment_is_refused(write_xenium, tmp_path):
    folder = write_xenium(alignment=True)
    Image.new("RGB", (600, 900), "white").save(folder / "he.tif", dpi=(25400 / 0.2125, 25400 / 0.2125))
    with pytest.raises(UnitsError, match=r"image says 0\.2125, alignment says 0\.3187"):
        import_cohort(folder, "xenium", tmp_path / "c")


def test_landmarks_give_the_map_by_least_squares(tmp_path):
    he = np.array([[10.0, 20.0], [500.0, 30.0], [40.0, 800.0], [450.0, 700.0]])
    fixed = he @ MATRIX[:2, :2].T + MATRIX[:2, 2]
    table = pd.DataFrame(np.hstack([fixed, he]), columns=["fixedX", "fixedY", "alignmentX", "alignmentY"])
    table.to_csv(tmp_path / "keypoints.csv", index=False)
    matrix, notes = read_alignment(tmp_path / "keypoints.csv")
    assert matrix == pytest.approx(MATRIX)
    assert notes == ("4 landmarks place its H&E image, 0.0 morphology pixels off on average",)


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("1,0,0\n0,1,0\n", SchemaError, "a matrix of 3 x 3 finite numbers"),
        ("1,0,0\n0,1,0\n0,0,2\n", SchemaError, "whose last line is 0, 0, 1"),
        ("1,0,0\n1,0,0\n0,0,1\n", SchemaError, "stretches the image"),
        ("1,0,0\n0,1.2,0\n0,0,1\n", SchemaError, "1.2-fold along one axis and 1-fold along the other"),
        ("a,b\n1,2\n", FormatError, "is no alignment: neither 3 lines of 3 numbers nor landmarks"),
        ("", FormatError, "is no alignment"),
        ("fixedX,fixedY,alignmentX,alignmentY\n1,1,1,1\n2,2,2,2\n", SchemaError, "2 landmarks; at least 3"),
        ("fixedX,fixedY,alignmentX,alignmentY\n1,1,1,1\n2,2,2,2\n3,3,3,3\n", SchemaError, "not in one line"),
    ],
)
def test_a_wrong_alignment_is_refused(tmp_path, text, error, told):
    (tmp_path / "x_imagealignment.csv").write_text(text)
    with pytest.raises(error, match=told):
        read_alignment(tmp_path / "x_imagealignment.csv")


def test_an_image_without_alignment_is_refused(write_xenium):
    with pytest.raises(DataAccessError, match=r"sample_he_image.png is not aligned: export .*imagealignment\.csv"):
        read(write_xenium(image=True))


def test_two_images_are_refused(write_xenium):
    folder = write_xenium(image=True, alignment=True)
    (folder / "if_image.ome.tif").write_bytes(b"x")
    with pytest.raises(DataAccessError, match=r"has 2 images \(if_image.ome.tif, sample_he_image.png\)"):
        read(folder)


def test_an_image_of_the_manifest_needs_an_alignment(write_xenium, tmp_path):
    folder = write_xenium()
    (tmp_path / "m.toml").write_text('[[section]]\nid = "sample_outs"\nimage = "he.png"\nmpp = 1.0')
    with pytest.raises(SchemaError, match=r"section sample_outs is aligned to no image: he\.png cannot be its image"):
        import_cohort(folder, "xenium", tmp_path / "c", manifest=tmp_path / "m.toml")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pixel_size": "x"}', '{"pixel_size": null}'])
def test_an_alignment_needs_the_pixel_size(write_xenium, content):
    folder = write_xenium(alignment=True)
    (folder / "experiment.xenium").write_text(content)
    with pytest.raises(FormatError, match=r"experiment\.xenium does not state pixel_size"):
        read(folder)
    (folder / "experiment.xenium").unlink()
    with pytest.raises(DataAccessError, match=r"experiment\.xenium cannot be read: it states the pixel size"):
        read(folder)
