"""Small Xenium outputs in the true format: columns, types and names of Xenium Onboard Analysis 1 to 3."""

import gzip
import json

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from hescribe import keys
from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.readers.base import readers
from hescribe.data.readers.he_alignment import read_alignment
from hescribe.data.readers.transcripts import sum_transcripts
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError, UnitsError

PIXEL_UM = 0.2125  # of every Xenium morphology image
NAMES = [
    "ERBB2",
    "ABCC11",
    "ZEB2",
    "NegControlProbe_00042",
    "BLANK_0006",
    "antisense_PROKR2",
    "UnassignedCodeword_0001",
]
# H&E px to morphology px: turned by 90 degrees, mirrored in nothing, 1.5-fold, moved differently in x and y.
MATRIX = np.array([[0.0, -1.5, 1400.0], [1.5, 0.0, 30.0], [0.0, 0.0, 1.0]])


def transcripts(n=4000, seed=0, reach_um=(260.0, 170.0)):
    rng = np.random.default_rng(seed)
    name = rng.choice(NAMES, n, p=[0.4, 0.3, 0.2, 0.025, 0.025, 0.025, 0.025])
    return pd.DataFrame(
        {
            "transcript_id": np.arange(n, dtype=np.uint64),
            "cell_id": "UNASSIGNED",
            "overlaps_nucleus": np.uint8(0),
            "feature_name": name,
            "x_location": (rng.random(n) * reach_um[0]).astype(np.float32),
            "y_location": (rng.random(n) * reach_um[1]).astype(np.float32),
            "z_location": np.float32(12),
            "qv": rng.choice([8.0, 19.9, 20.0, 40.0], n).astype(np.float32),
        }
    )


def write_table(table, path, *, binary=False):
    """Write transcripts in several row groups; analysis 1.0 stored the names as bytes."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    if binary:
        place = arrow.schema.get_field_index("feature_name")
        arrow = arrow.set_column(place, "feature_name", arrow["feature_name"].cast(pa.binary()))
    parquet.write_table(arrow, path, row_group_size=1000)


@pytest.fixture
def write_xenium(tmp_path):
    """Return a writer of output folders: ``write_xenium(table, image=True, alignment=True, ...)``."""

    def write(table=None, *, name="sample_outs", image=False, alignment=False, panel=False):
        folder = tmp_path / name
        folder.mkdir()
        write_table(transcripts() if table is None else table, folder / "transcripts.parquet")
        (folder / "experiment.xenium").write_text(json.dumps({"major_version": 5, "pixel_size": PIXEL_UM}))
        (folder / "morphology.ome.tif").write_bytes(b"never opened")
        if image:
            Image.new("RGB", (600, 940), "white").save(folder / "sample_he_image.png")
        if alignment:
            np.savetxt(folder / "sample_he_imagealignment.csv", MATRIX, delimiter=",")
        if panel:
            write_panel(folder / "cell_feature_matrix.h5", [("ENS1", "ZEB2"), ("ENS2", "SILENT"), ("ENS3", "ERBB2")])
        return folder

    return write


def write_panel(path, genes):
    rows = [(i, n, "Gene Expression") for i, n in [*genes, ("ENS4", "ABCC11")]]
    rows.append(("NegControlProbe_00042", "NegControlProbe_00042", "Negative Control Probe"))
    with h5py.File(path, "w") as file:
        features = file.create_group("matrix/features")
        for k, key in enumerate(("id", "name", "feature_type")):
            features[key] = np.array([r[k] for r in rows], dtype="S")


def write_cells(folder, *, x=255.0, y=165.0):
    pd.DataFrame({"cell_id": ["a", "b"], "x_centroid": [1.0, x], "y_centroid": [1.0, y]}).to_parquet(
        folder / "cells.parquet"
    )


def read(folder, **params):
    return readers.create("xenium", **params).read(folder)


def expected_counts(table, side_um):
    """Count with pandas alone: (row, column, gene) of certain transcripts of genes."""
    good = table[(table.qv >= 20) & table.feature_name.isin(NAMES[:3])]
    row = np.floor(good.y_location.astype(float) / side_um).astype(int)
    column = np.floor(good.x_location.astype(float) / side_um).astype(int)
    return good.groupby([row, column, "feature_name"]).size()


def as_series(section):
    counts = section.counts.tocoo()
    column, row = section.array_xy[counts.row].T
    index = pd.MultiIndex.from_arrays([row, column, np.array(section.genes)[counts.col]])
    return pd.Series(counts.data, index=index).sort_index()


@pytest.mark.parametrize("side_um", [20.0, 55.0, 100.0])
def test_transcripts_are_counted_in_squares_of_native_um(write_xenium, side_um):
    (section,) = read(write_xenium(), spot_um=side_um)
    expected = expected_counts(transcripts(), side_um)
    assert as_series(section).to_dict() == expected.to_dict()
    assert section.genes == ("ABCC11", "ERBB2", "ZEB2")
    assert section.xy_px == pytest.approx((section.array_xy + 0.5) * side_um)
    assert (section.pitch_um, section.technology, section.id) == (side_um, "xenium", "sample_outs")


def test_names_of_pseudo_spots_are_row_and_column(write_xenium):
    table = transcripts(2).assign(x_location=[120.0, 121.0], y_location=[60.0, 61.0], qv=40.0, feature_name="ERBB2")
    (section,) = read(write_xenium(table))
    assert section.spots == ("001x002",)
    assert section.array_xy.tolist() == [[2, 1]]
    assert section.counts.toarray().tolist() == [[2]]


def test_what_was_left_out_is_said(write_xenium):
    (section,) = read(write_xenium())
    table = transcripts()
    n_low = int((table.qv < 20).sum())
    n_control = int(((table.qv >= 20) & ~table.feature_name.isin(NAMES[:3])).sum())
    assert section.notes == (f"left out {n_low} transcripts under quality 20 and {n_control} of controls",)


def test_a_lower_quality_can_be_asked_for(write_xenium):
    folder = write_xenium()
    assert read(folder, min_qv=0)[0].counts.sum() == transcripts().feature_name.isin(NAMES[:3]).sum()


@pytest.mark.parametrize("version", ["1.0", "1.9", "3.0 category", "3.0", "csv"])
def test_every_version_of_the_table_gives_the_same(write_xenium, version):
    folder, table = write_xenium(), transcripts()
    is_gene = table.feature_name.isin(NAMES[:3])
    if version == "1.0":
        write_table(table, folder / "transcripts.parquet", binary=True)
    elif version == "3.0 category":
        table["codeword_category"] = np.where(is_gene, "predesigned_gene", "negative_control_probe")
        write_table(table, folder / "transcripts.parquet")
    elif version == "3.0":
        write_table(table.assign(is_gene=is_gene), folder / "transcripts.parquet")
    elif version == "csv":
        (folder / "transcripts.parquet").unlink()
        table.to_csv(folder / "transcripts.csv.gz", index=False)
    (section,) = read(folder)
    assert as_series(section).to_dict() == expected_counts(table, 55.0).to_dict()


def test_the_platforms_own_word_on_controls_goes_before_the_name(write_xenium):
    table = transcripts().assign(is_gene=lambda t: t.feature_name == "BLANK_0006")
    (section,) = read(write_xenium(table))
    assert section.genes == ("BLANK_0006",)


@pytest.mark.parametrize(
    "control", ["DeprecatedCodeword_0001", "Intergenic_Region_1", "GenomicControl_2", "UnassignedCodeword_3"]
)
def test_every_kind_of_control_is_known_by_its_name(write_xenium, control):
    table = transcripts().replace({"feature_name": {"BLANK_0006": control}})
    assert set(read(write_xenium(table))[0].genes) == set(NAMES[:3])


def test_a_transcript_without_a_name_is_no_gene_whatever_the_platform_says(write_xenium):
    table = transcripts(40).assign(qv=40.0, is_gene=True, feature_name=["ERBB2"] * 30 + [None] * 10)
    (section,) = read(write_xenium(table))
    assert (section.genes, section.counts.sum()) == (("ERBB2",), 30)


def test_counts_do_not_wrap_at_16_bits(tmp_path):
    n = 70_000  # 65,535 is the most that 16 bits hold
    table = transcripts(n).assign(x_location=np.float32(1), y_location=np.float32(1), feature_name="ERBB2", qv=40.0)
    write_table(table, tmp_path / "transcripts.parquet")
    squares = sum_transcripts(tmp_path / "transcripts.parquet", 55.0, 20.0)
    assert squares.counts.toarray().tolist() == [[n]]
    assert squares.counts.dtype == np.int64


@given(
    st.lists(
        st.tuples(st.floats(0, 1200, width=32), st.floats(0, 1200, width=32), st.sampled_from(NAMES), st.booleans()),
        min_size=1,
        max_size=60,
    ),
    st.floats(2, 300),
)
def test_no_transcript_is_lost_or_counted_twice(tmp_path_factory, rows, side_um):
    x, y, name, good = zip(*rows, strict=True)
    table = pd.DataFrame({"feature_name": name, "x_location": x, "y_location": y, "qv": np.where(good, 40.0, 5.0)})
    path = tmp_path_factory.mktemp("t") / "transcripts.parquet"
    write_table(table, path)
    squares = sum_transcripts(path, side_um, 20.0)
    assert squares.counts.sum() + squares.n_uncertain + squares.n_controls == len(rows)
    assert squares.far_um == pytest.approx((max(x), max(y)))


def test_chunks_are_summed_over(write_xenium, monkeypatch):
    monkeypatch.setattr("hescribe.data.readers.transcripts.CHUNK", 97)
    (section,) = read(write_xenium())
    assert as_series(section).to_dict() == expected_counts(transcripts(), 55.0).to_dict()


def test_the_cell_matrix_names_the_whole_panel_with_ids(write_xenium):
    (section,) = read(write_xenium(panel=True))
    assert section.genes == ("ABCC11", "ERBB2", "SILENT", "ZEB2")
    assert section.gene_ids == ("ENS4", "ENS3", "ENS2", "ENS1")
    assert section.counts[:, 2].sum() == 0
    assert as_series(section).to_dict() == expected_counts(transcripts(), 55.0).to_dict()


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


def test_a_missing_column_is_named(write_xenium):
    with pytest.raises(SchemaError, match=r"transcripts\.parquet: column 'qv' is missing; it has transcript_id"):
        read(write_xenium(transcripts().drop(columns="qv")))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("x_location", "12,5", "column 'x_location' must hold numbers.*12,5"),
        ("qv", "high", "column 'qv' must hold numbers"),
        ("is_gene", "maybe", "column 'is_gene' must hold true or false"),
    ],
)
def test_a_column_of_another_type_is_named(write_xenium, column, value, told):
    with pytest.raises(SchemaError, match=told):
        read(write_xenium(transcripts().assign(**{column: value})))


def test_numbers_written_as_text_are_read(write_xenium):
    as_text = read(write_xenium(transcripts().astype({"x_location": str, "qv": str}), name="text"))[0]
    assert as_text.counts.toarray().tolist() == read(write_xenium(name="numbers"))[0].counts.toarray().tolist()


def test_lists_for_names_are_refused(write_xenium):
    with pytest.raises(FormatError, match="no table of transcripts"):
        read(write_xenium(transcripts(5).assign(feature_name=[["A"]] * 5)))


def test_more_names_than_the_sums_can_tell_apart_are_refused(write_xenium, monkeypatch):
    monkeypatch.setattr("hescribe.data.readers.transcripts.GENE_BITS", 2)
    with pytest.raises(SchemaError, match="has over 4 names: they are no genes"):
        read(write_xenium())


def test_cells_at_places_that_are_words_are_refused(write_xenium):
    folder = write_xenium()
    pd.DataFrame({"x_centroid": ["left"], "y_centroid": ["top"]}).to_parquet(folder / "cells.parquet")
    with pytest.raises(FormatError, match=r"cells\.parquet is damaged or has no columns .* of numbers"):
        read(folder)


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_a_place_that_is_none_is_named(write_xenium, value):
    table = transcripts()
    table.loc[1234, "y_location"] = value
    with pytest.raises(SchemaError, match=r"transcript 1235 lies at \(.*\): a place in um must be 0 or more"):
        read(write_xenium(table))


def test_coordinates_in_pixels_are_told_from_um_by_the_size_of_a_slide(write_xenium):
    table = transcripts(reach_um=(10_000 / PIXEL_UM, 8_000 / PIXEL_UM))
    with pytest.raises(SchemaError, match="they are probably in pixels"):
        read(write_xenium(table))


def test_the_short_side_of_a_slide_is_a_limit_too(write_xenium):
    with pytest.raises(SchemaError, match=r"beyond the 24000 x 12000 um of a slide"):
        read(write_xenium(transcripts(reach_um=(14_000, 14_000))))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_mixed_units_are_told_by_the_cells(write_xenium, axis):
    table = transcripts()
    table[f"{axis}_location"] /= PIXEL_UM
    folder = write_xenium(table)
    write_cells(folder)
    with pytest.raises(SchemaError, match=rf"its transcripts reach {axis} = .* and the cells of cells\.parquet"):
        read(folder)


def test_cells_in_the_same_um_are_no_reason_to_refuse(write_xenium):
    folder = write_xenium()
    write_cells(folder)
    assert len(read(folder)) == 1


def test_cells_without_places_are_refused(write_xenium):
    folder = write_xenium()
    pd.DataFrame({"cell_id": ["a"]}).to_parquet(folder / "cells.parquet")
    with pytest.raises(FormatError, match=r"cells\.parquet is damaged or has no columns x_centroid and y_centroid"):
        read(folder)


def test_a_gene_listed_twice_in_the_panel_is_refused(write_xenium):
    folder = write_xenium()
    write_panel(folder / "cell_feature_matrix.h5", [("ENS1", "ZEB2"), ("ENS2", "ZEB2"), ("ENS3", "ERBB2")])
    with pytest.raises(SchemaError, match="gene ZEB2 is listed twice"):
        read(folder)


def test_the_panel_of_another_section_is_refused(write_xenium):
    folder = write_xenium()
    write_panel(folder / "cell_feature_matrix.h5", [("ENS1", "ZEB2")])
    with pytest.raises(SchemaError, match="gene ERBB2 of the transcripts is not listed"):
        read(folder)


def test_a_table_without_good_transcripts_is_refused(write_xenium):
    with pytest.raises(SchemaError, match="no transcript of a gene has a quality value of at least 20"):
        read(write_xenium(transcripts().assign(qv=10.0)))
    with pytest.raises(SchemaError, match="no transcript of a gene"):
        read(write_xenium(transcripts(0), name="empty"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_parquet_is_refused(write_xenium, share):
    path = write_xenium() / "transcripts.parquet"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(FormatError, match=r"transcripts\.parquet is damaged"):
        read(path.parent)


def test_a_truncated_csv_is_refused(write_xenium):
    folder = write_xenium()
    (folder / "transcripts.parquet").unlink()
    packed = gzip.compress(transcripts().to_csv(index=False).encode())
    (folder / "transcripts.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FormatError, match=r"transcripts\.csv\.gz is damaged"):
        read(folder)


def test_a_folder_of_samples_gives_a_section_each(write_xenium):
    write_xenium(name="one")
    folder = write_xenium(name="two")
    assert [s.id for s in read(folder.parent)] == ["one", "two"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match="it is no output of Xenium"):
        read(tmp_path)


@pytest.mark.parametrize("params", [{"spot_um": 0.0}, {"min_qv": -1}, {"spot": 100}, {"spot_um": "wide"}])
def test_wrong_parameters_are_refused(write_xenium, params):
    with pytest.raises(InputError, match=r"spot|min_qv"):
        read(write_xenium(), **params)
