"""Small Xenium outputs in the true format: columns, types and names of Xenium Onboard Analysis 1 to 3."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.xenium_files import (
    NAMES,
    PIXEL_UM,
    as_series,
    expected_counts,
    read,
    transcripts,
    write_cells,
    write_panel,
    write_table,
)

from hescribe.data.readers.transcripts import sum_transcripts
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError


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


def test_a_code_without_a_name_is_damage(monkeypatch, tmp_path):
    names = pa.DictionaryArray.from_arrays(pa.array([0, 7]), pa.array(["ERBB2"]), safe=False)
    places, quality = pa.array([1.0, 2.0]), pa.array([40.0, 40.0])
    chunk = pa.record_batch([names, places, places, quality], ["feature_name", "x_location", "y_location", "qv"])
    monkeypatch.setattr("hescribe.data.readers.transcripts._read_chunks", lambda path: [chunk])
    with pytest.raises(FormatError, match="refers to names that it does not hold"):
        sum_transcripts(tmp_path / "transcripts.parquet", 55.0, 20.0)
