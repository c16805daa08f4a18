import gzip

import numpy as np
import pandas as pd
import pytest

from hescribe.data.readers.count_table import read_count_table
from hescribe.errors import DataAccessError, FormatError, SchemaError


def write(tmp_path, text, name="a.tsv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_values_names_and_order_survive(tmp_path, name, newline, last):
    text = newline.join(["\tG1\tG2\tG3", "1x2\t0\t12\t0", "3x4\t7\t0\t100200300"]) + newline * last
    counts, spots, genes = read_count_table(write(tmp_path, text, name))
    assert counts.toarray().tolist() == [[0, 12, 0], [7, 0, 100200300]]
    assert (spots, genes) == (("1x2", "3x4"), ("G1", "G2", "G3"))


def test_a_head_without_a_corner_is_r_s_way_of_writing(tmp_path):
    counts, _, genes = read_count_table(write(tmp_path, "G1\tG2\n1x2\t5\t6\n"))
    assert genes == ("G1", "G2")
    assert counts.toarray().tolist() == [[5, 6]]


def test_pandas_reads_the_same_numbers(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.negative_binomial(1, 0.01, (40, 70)), columns=[f"G{i}" for i in range(70)])
    table.index = [f"{i}x{i}" for i in range(40)]
    table.to_csv(tmp_path / "a.tsv", sep="\t")
    counts, spots, genes = read_count_table(tmp_path / "a.tsv")
    assert (counts.toarray() == table.to_numpy()).all()
    assert (spots, genes) == (tuple(table.index), tuple(table.columns))


def test_whole_numbers_in_another_dress_are_counts(tmp_path):
    counts, _, _ = read_count_table(write(tmp_path, "\tG1\tG2\n1x2\t3.0\t1e3\n3x4\t0.0\t4\n"))
    assert counts.toarray().tolist() == [[3, 1000], [0, 4]]


@pytest.mark.parametrize("value", ["-1", "0.5", "nan", "", "inf", "x", "99999999999"])
def test_what_is_no_count_is_named_with_its_spot_and_gene(tmp_path, value):
    path = write(tmp_path, f"\tG1\tG2\n1x2\t0\t1\n3x4\t2\t{value}\n")
    with pytest.raises(SchemaError, match=r"a\.tsv: spot 3x4, gene G2: .* is not a count"):
        read_count_table(path)


@pytest.mark.parametrize("line", ["3x4\t1", "3x4\t1\t2\t3", "3x4", ""])
def test_a_line_of_another_length_is_named(tmp_path, line):
    path = write(tmp_path, f"\tG1\tG2\n1x2\t0\t1\n{line}\n5x6\t1\t1\n")
    with pytest.raises(FormatError, match=r"a\.tsv, line 3 has \d values, and the head names 2 genes"):
        read_count_table(path)


@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), ("\tG1\tG2\n", "holds no spot")])
def test_an_empty_table_is_refused(tmp_path, text, reason):
    with pytest.raises(FormatError, match=reason):
        read_count_table(write(tmp_path, text))


def test_a_truncated_archive_is_refused(tmp_path):
    path = write(tmp_path, "\tG1\n" + "1x2\t1\n" * 999, "a.tsv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"a\.tsv\.gz is damaged or truncated"):
        read_count_table(path)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataAccessError, match="cannot be read"):
        read_count_table(tmp_path / "no.tsv")
