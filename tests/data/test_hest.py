import pytest

from hescribe.data.hest import read_hest_metadata
from hescribe.errors import DataAccessError, FormatError, SchemaError

HEADER = "dataset_title,id,organ,species,patient,st_technology,pixel_size_um_embedded,pixel_size_um_estimated"
ROWS = (
    "Breast,TENX95,Breast,Homo sapiens,Patient 1,Xenium,0.2125,0.2125",
    "Breast,TENX97,Breast,Homo sapiens,Patient 1,Xenium,0.2125,0.2125",
    "CRC,TENX155,Bowel,Homo sapiens,Patient 1,Visium HD,0.2646,0.2739",
    "CRC 2,TENX128,Bowel,Homo sapiens,   ,Visium HD,1,0.2739",
    '"Heart, nodes",MISC1,Heart,Homo sapiens,,Visium,31.75,0.455',
    "Brain,NCBI1,Brain,Mus musculus,M1,Visium,0.5,0.3",
    "Brain,NCBI2,Brain,Mus musculus,M2,Visium,,",
)


@pytest.fixture
def read(tmp_path):
    def run(*rows, header=HEADER, encoding="utf-8-sig"):
        path = tmp_path / "HEST_v1_1_0.csv"
        path.write_text("\n".join([header, *rows, ""]), encoding=encoding)
        return read_hest_metadata(path)

    return run


def of(metadata, code):
    return [w.sections for w in metadata.warnings if w.code == code]


def test_the_first_column_is_read_with_and_without_its_mark(read):
    for encoding in ("utf-8-sig", "utf-8"):
        samples = read(*ROWS, encoding=encoding).sections
        assert [s.id for s in samples] == ["TENX95", "TENX97", "TENX155", "TENX128", "MISC1", "NCBI1", "NCBI2"]
        assert samples[4].study == "Heart, nodes"


def test_patient_1_of_two_studies_is_two_donors_and_a_blank_is_none(read):
    donors = [s.donor for s in read(*ROWS).sections]
    assert donors[0] == donors[1] == "Breast: Patient 1"
    assert donors[2] == "CRC: Patient 1"
    assert donors[3] is donors[4] is None


def test_blank_patients_are_reported(read):
    metadata = read(*ROWS)
    assert of(metadata, "donor_unknown") == [("TENX128", "MISC1")]
    assert "2 of 7 samples" in next(w.text for w in metadata.warnings if w.code == "donor_unknown")


def test_samples_that_are_one_tissue_are_reported(read):
    metadata = read(*ROWS)
    assert of(metadata, "duplicate_of") == [("TENX128", "TENX155")]
    assert of(metadata, "same_tissue") == [("TENX95", "TENX97")]


def test_a_duplicate_is_none_without_its_twin(read):
    assert of(read(ROWS[2]), "duplicate_of") == []


def test_contradictory_pixel_sizes_are_told_from_values_that_are_no_measure(read):
    # NCBI1 0.5 against 0.3; 1 um per pixel (TENX128) is a default, but could be a measure; 31.75 cannot.
    contradictory, no_measure = of(read(*ROWS), "scale_contradictory")
    assert contradictory == ("TENX128", "NCBI1")
    assert no_measure == ("MISC1",)
    assert of(read(*ROWS), "scale_unknown") == [("NCBI2",)]


def test_a_difference_of_three_percent_is_none(read):
    assert of(read(ROWS[2]), "scale_contradictory") == []


@pytest.mark.parametrize(
    ("rows", "header", "told"),
    [
        (ROWS, HEADER.replace("patient", "patients"), "column 'patient' is missing"),
        ((ROWS[0], ROWS[0]), HEADER, "row 3 gives TENX95 a second time"),
        (("a,b",), HEADER, "row 2 has another number of cells"),
        ((f"{ROWS[0]},more",), HEADER, "row 2 has another number of cells"),
        ((ROWS[0].replace("TENX95", " "),), HEADER, "row 2 has no id"),
        ((), HEADER, "it has no row"),
        ((), "", "column 'dataset_title' is missing"),
    ],
)
def test_a_table_that_is_not_hest_is_refused_with_the_place(read, rows, header, told):
    with pytest.raises(SchemaError, match=told):
        read(*rows, header=header)


def test_a_file_that_is_no_table_or_not_there_is_named(tmp_path):
    with pytest.raises(DataAccessError, match="cannot be read"):
        read_hest_metadata(tmp_path / "missing.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FormatError, match="is no CSV in UTF-8"):
        read_hest_metadata(tmp_path / "x.csv")
