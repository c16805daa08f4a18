import gzip

import numpy as np
import pandas as pd
import pytest

from hescribe.data.readers.base import readers
from hescribe.errors import DataAccessError, SchemaError


def read(folder):
    return readers.create("st").read(folder)


def test_sections_come_with_counts_places_and_image(write_st, counts, spots):
    write_st("B1", counts, image=False)
    first, second = read(write_st("A1", counts, spots))
    assert (first.id, second.id) == ("A1", "B1")
    assert first.counts.toarray().tolist() == counts.to_numpy().tolist()
    assert first.xy_px.tolist() == spots[["pixel_x", "pixel_y"]].to_numpy().tolist()
    assert first.array_xy.tolist() == spots[["x", "y"]].to_numpy().tolist()
    assert first.image.name == "he.png"
    assert second.image is None
    assert first.technology == "legacy_st"


def test_spots_are_matched_by_name_not_by_order(write_st, counts, spots):
    shuffled = spots.sample(frac=1, random_state=1)
    (section,) = read(write_st("A1", counts, shuffled))
    assert section.spots == tuple(counts.index)
    assert section.xy_px.tolist() == spots[["pixel_x", "pixel_y"]].to_numpy().tolist()


def test_spots_of_only_one_file_are_dropped_and_listed(write_st, counts, spots):
    (section,) = read(write_st("A1", counts.iloc[1:], spots.iloc[:-1]))
    assert set(section.dropped_spots) == {counts.index[0], counts.index[-1]}
    assert section.spots == tuple(counts.index[1:-1])


def test_spots_beside_the_tissue_are_left_out_without_a_word(write_st, counts, spots):
    (section,) = read(write_st("A1", counts, spots.assign(selected=[0] + [1] * 29)))
    assert section.spots == tuple(counts.index[1:])
    assert section.dropped_spots == ()


def test_files_that_hardly_overlap_are_refused(write_st, counts, spots):
    with pytest.raises(SchemaError, match=r"only 26 spots are in both the count table \(26\) and the spot file \(30\)"):
        read(write_st("A1", counts.iloc[4:], spots))


def test_a_transposed_table_is_refused(write_st, counts, spots):
    with pytest.raises(SchemaError, match="the table seems to be transposed"):
        read(write_st("A1", counts.T, spots))


def test_a_spot_listed_twice_is_refused(write_st, counts, spots):
    with pytest.raises(SchemaError, match="spot 2x3 is listed twice"):
        read(write_st("A1", counts, pd.concat([spots, spots.iloc[:1]])))
    with pytest.raises(SchemaError, match="spot 2x3 is listed twice"):
        read(write_st("A1", pd.concat([counts, counts.iloc[:1]]), spots))


@pytest.mark.parametrize("value", ["", "abc", "inf"])
def test_a_spot_without_place_is_named_by_its_line(write_st, counts, spots, value):
    spots = spots.astype({"pixel_x": object})
    spots.loc[4, "pixel_x"] = value
    with pytest.raises(SchemaError, match=r"A1_selection\.tsv: line 6, column 'pixel_x' holds no number"):
        read(write_st("A1", counts, spots))


def test_missing_columns_are_all_named(write_st, counts, spots):
    with pytest.raises(SchemaError, match="has 2 problems:\n  - column 'pixel_x' is missing\n  - column 'selected'"):
        read(write_st("A1", counts, spots.drop(columns=["pixel_x", "selected"])))


def test_a_section_without_spot_file_is_refused(write_st, counts):
    folder = write_st("A1", counts)
    (folder / "data/ST-spotfiles/A1_selection.tsv").unlink()
    with pytest.raises(DataAccessError, match="section A1 has no spot file"):
        read(folder)


def test_a_folder_without_count_tables_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match="has no count tables"):
        read(tmp_path)


def test_two_images_of_one_section_are_refused(write_st, counts):
    folder = write_st("A1", counts)
    (folder / "data/ST-imgs/A/A1/other.jpg").write_bytes(b"")
    with pytest.raises(DataAccessError, match="name the right one in an import manifest"):
        read(folder)


def test_labels_are_matched_by_place(write_st, counts, spots):
    folder = write_st("A1", counts)
    labels = pd.DataFrame({"x": spots.new_x, "y": spots.new_y, "label": [f"region {i}" for i in range(30)]})
    labels.loc[30] = [np.nan, np.nan, "a label without a place"]
    (folder / "data/ST-pat/lbl").mkdir(parents=True)
    labels[::-1].to_csv(folder / "data/ST-pat/lbl/A1_labeled_coordinates.tsv", sep="\t", index=False)
    (section,) = read(folder)
    assert section.regions.tolist() == [f"region {i}" for i in range(30)]


def test_labels_of_another_section_are_left_out_with_a_note(write_st, counts, spots):
    folder = write_st("A1", counts)
    (folder / "data/ST-pat/lbl").mkdir(parents=True)
    labels = pd.DataFrame({"x": spots.new_x + 3.4, "y": spots.new_y, "label": "tumour"})
    labels.to_csv(folder / "data/ST-pat/lbl/A1_labeled_coordinates.tsv", sep="\t", index=False)
    (section,) = read(folder)
    assert section.regions is None
    assert section.notes == ("labels left out: A1_labeled_coordinates.tsv fits 0 of 30 spots",)


def test_the_stutility_layout_has_tables_spots_images_and_donors(tmp_path, counts, spots):
    folder = tmp_path / "inst/extdata/counts"
    folder.mkdir(parents=True)
    counts.to_csv(folder / "M1.tsv", sep="\t")
    far = spots.iloc[:1].assign(x=64, y=66)  # a place that only the 2k array has
    (folder / "alignment_table_M1.tsv.gz").write_bytes(
        gzip.compress(pd.concat([spots, far.assign(selected=0)]).to_csv(sep="\t", index=False).encode())
    )
    (folder / "M1.jpg").write_bytes(b"opened by the import only")
    (folder.parent / "metaData.csv").write_text("samples;individual\n/elsewhere/counts/M1.tsv;7\n")
    (section,) = read(tmp_path)
    assert (section.id, section.donor, section.image.name) == ("M1", "7", "M1.jpg")
    assert section.technology == "legacy_st_2k"
    assert section.dropped_spots == ()
