"""Counts of a Matrix Market file, against scipy's own writer and parser."""

import gzip

import numpy as np
import pytest
from scipy import io, sparse

from hescribe.data.readers.matrix_market import read_matrix_market
from hescribe.errors import FormatError

COUNTS = np.array([[0, 3, 0], [1, 0, 250]])


@pytest.fixture
def path(tmp_path):
    io.mmwrite(tmp_path / "matrix.mtx", sparse.coo_matrix(COUNTS))
    return tmp_path / "matrix.mtx"


def test_counts_are_those_that_scipy_wrote_packed_or_not(path):
    assert read_matrix_market(path, (2, 3)).toarray().tolist() == COUNTS.tolist()
    packed = path.with_name("matrix.mtx.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_matrix_market(packed, (2, 3)).toarray().tolist() == COUNTS.tolist()


def test_a_large_matrix_is_read_as_scipy_reads_it(tmp_path):
    counts = sparse.random(200, 300, 0.1, format="coo", random_state=0)
    counts.data = np.ceil(counts.data * 50).astype(np.int64)
    io.mmwrite(tmp_path / "m.mtx", counts.astype(np.int64))
    expected = sparse.csr_matrix(io.mmread(tmp_path / "m.mtx"))
    assert (read_matrix_market(tmp_path / "m.mtx", (200, 300)) != expected).nnz == 0


@pytest.mark.parametrize(("old", "new"), [(b" ", b"  "), (b" ", b"\t"), (b"\n", b"\r\n"), (b"\n1 2 3", b"\n 1 2 3 ")])
def test_blanks_between_numbers_may_be_any(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))
    assert read_matrix_market(path, (2, 3)).toarray().tolist() == COUNTS.tolist()


def test_whole_numbers_may_be_written_with_a_point(path):
    path.write_bytes(path.read_bytes().replace(b"integer", b"real").replace(b" 250", b" 250.0"))
    assert read_matrix_market(path, (2, 3)).toarray().tolist() == COUNTS.tolist()


def test_a_matrix_without_a_value_is_empty(path):
    path.write_bytes(b"%%MatrixMarket matrix coordinate integer general\n%\n2 3 0\n")
    assert read_matrix_market(path, (2, 3)).nnz == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"1 2 3", b"1 2 3\0", "is damaged"),
        (b"1 2 3", b"1 2", "is damaged"),
        (b"1 2 3", b"1 2 3.5", "is damaged"),
        (b"1 2 3", b"0 2 3", "outside of its 2 rows"),
        (b"1 2 3", b"1 4 3", "outside of its 2 rows"),
        (b"1 2 3\n", b"", "holds 2 values, its head says 3"),
        (b"2 3 3", b"1000000000 3 3", "holds 1000000000 x 3, and its lists name 2 x 3"),
        (b"2 3 3", b"2 3", "is damaged"),
        (b"general", b"symmetric", "no Matrix Market file of general"),
        (b"coordinate", b"array", "no Matrix Market file of general"),
    ],
)
def test_what_is_wrong_is_told_and_scipy_is_not_asked(path, old, new, said):
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(FormatError, match=said):
        read_matrix_market(path, (2, 3))
