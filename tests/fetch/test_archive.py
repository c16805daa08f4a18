import bz2
import gzip
import io
import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hescribe.data.archive import Limits, extract
from hescribe.errors import DataAccessError, FormatError, InputError

KINDS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TAR_KINDS = KINDS[1:]


def write_archive(path, members):
    """Write an archive of (name, bytes) members, whatever the names are."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members:
                info = zipfile.ZipInfo("x")
                info.filename = name  # the constructor would mend it
                file.writestr(info, content, zipfile.ZIP_DEFLATED)
        return path
    kind = {".tar": "", ".tgz": "gz", ".gz": "gz", ".bz2": "bz2", ".xz": "xz"}[path.suffix]
    with tarfile.open(path, f"w:{kind}") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def write_member(path, **facts):
    """Write a tar with one member that is no file."""
    info = tarfile.TarInfo("a")
    for name, value in facts.items():
        setattr(info, name, value)
    with tarfile.open(path, "w") as file:
        file.addfile(info)
    return path


def write_zip_with_mode(path, mode):
    info = zipfile.ZipInfo("a")
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, "/etc/passwd")
    return path


def refused(archive, out, told, **kwargs):
    """Check that an archive is refused and leaves nothing, neither in ``out`` nor beside it."""
    before = sorted(p.name for p in archive.parent.iterdir())
    with pytest.raises(FormatError, match=told):
        extract(archive, out, **kwargs)
    assert sorted(p.name for p in archive.parent.iterdir()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_unpacked_with_its_folders(tmp_path, kind):
    archive = write_archive(tmp_path / f"a{kind}", [("outs/spatial/x.csv", b"1,2"), ("outs/empty", b"")])
    files = extract(archive, tmp_path / "out")
    assert files == (tmp_path / "out/outs/spatial/x.csv", tmp_path / "out/outs/empty")
    assert files[0].read_bytes() == b"1,2"


def test_a_single_compressed_file_takes_the_name_of_its_archive(tmp_path):
    with (tmp_path / "counts.tsv.gz").open("wb") as raw, gzip.GzipFile("../../evil", "wb", fileobj=raw) as file:
        file.write(b"1\t2")
    assert extract(tmp_path / "counts.tsv.gz", tmp_path / "out") == (tmp_path / "out/counts.tsv",)
    assert (tmp_path / "out/counts.tsv").read_bytes() == b"1\t2"


def test_a_tar_of_the_current_folder_is_unpacked(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.txt").write_text("a")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(tmp_path / "src", arcname=".")
    assert extract(tmp_path / "a.tar", tmp_path / "out") == (tmp_path / "out/a.txt",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "../evil", "a/../../evil", "/evil", "a//b", "./../evil", "..", "a/./b", "C:/evil", "C:evil", "a\\..\\evil",
        "\\\\host\\evil", "a\nb", "a\x07", "con", "aux.txt", "a.", "a ", "a:stream", "x" * 256,
    ],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_or_is_no_file_name_is_refused(tmp_path, kind, name):
    archive = write_archive(tmp_path / f"a{kind}", [("good", b"x"), (name, b"x")])
    refused(archive, tmp_path / "out", "holds the name .*nothing is written")


def test_a_name_cut_by_a_null_byte_is_refused(tmp_path):
    # zipfile itself shows "good.txt" for "good.txt\0.exe".
    archive = write_archive(tmp_path / "a.zip", [("good.txt#.exe", b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"good.txt#.exe", b"good.txt\0.exe"))
    refused(archive, tmp_path / "out", "holds the name")


@pytest.mark.parametrize("kind", [".zip", ".tar"])
@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("\u00e9", "e\u0301"), ("a", "a/b"), ("a/b", "a"), ("a/b", "A/c"), ("a/b", "A")]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")  # what this test is about
def test_two_names_that_some_file_system_takes_for_one_are_refused(tmp_path, kind, names):
    archive = write_archive(tmp_path / f"a{kind}", [(n, b"x") for n in names])
    refused(archive, tmp_path / "out", "twice|is taken")


@pytest.mark.parametrize(
    "facts",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.SYMTYPE, "linkname": "b"},
        {"type": tarfile.LNKTYPE, "linkname": "../b"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.BLKTYPE},
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, facts):
    refused(write_member(tmp_path / "a.tar", **facts), tmp_path / "out", "a link, a device or a sparse file, 'a'")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o666, stat.S_IFCHR | 0o666])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode):
    refused(write_zip_with_mode(tmp_path / "a.zip", mode), tmp_path / "out", "a link or device, 'a'")


@pytest.mark.parametrize("kind", [*KINDS, ".tsv.gz"])
def test_a_bomb_is_refused(tmp_path, kind):
    archive, zeros = tmp_path / f"a{kind}", bytes(8 << 20)
    if kind == ".tsv.gz":
        archive.write_bytes(gzip.compress(zeros))
    else:
        write_archive(archive, [("zeros", zeros)])
    limits = Limits(ratio=0.9 if kind == ".tar" else 100, free_bytes=1 << 20)
    refused(archive, tmp_path / "out", "unpacks to more than", limits=limits)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        pytest.param(4_294_967_294, "unpacks to more than", id="4 GB behind 5 kB, refused before anything is read"),
        pytest.param(10, "is damaged", id="too small, so that more would get in"),
        pytest.param(5001, "'a' has 5000 bytes, its header says 5001", id="too large"),
    ],
)
def test_a_size_in_the_header_that_is_not_the_file_s_is_refused(tmp_path, size, said):
    archive = write_archive(tmp_path / "a.zip", [("a", b"x" * 5000)])
    raw = archive.read_bytes()
    directory = raw.index(b"PK\x01\x02")
    archive.write_bytes(raw[: directory + 24] + size.to_bytes(4, "little") + raw[directory + 28 :])
    refused(archive, tmp_path / "out", said)


def test_a_bomb_among_much_that_is_harmless_is_refused(tmp_path):
    noise = np.random.default_rng(0).bytes(200_000)
    archive = write_archive(tmp_path / "a.zip", [("noise", noise), ("zeros", bytes(1 << 20))])
    limits = Limits(ratio=100, free_bytes=1000)  # the whole is 6 times its size, the zeros are 1,000 times theirs
    refused(archive, tmp_path / "out", "unpacks to more than .* at 'zeros'", limits=limits)


def test_members_that_are_harmless_each_are_counted_together(tmp_path):
    archive = write_archive(
        tmp_path / "a.zip", [(f"{i:04d}", zlib.compress(bytes(range(256)) * 40)) for i in range(40)]
    )
    limits = Limits(ratio=0.5, free_bytes=1000)
    refused(archive, tmp_path / "out", "unpacks to more than", limits=limits)


def test_a_header_of_a_tar_that_is_a_bomb_is_refused(tmp_path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * (16 << 20)}
        file.addfile(info)
    refused(archive, tmp_path / "out", "unpacks to more than", limits=Limits(ratio=10, free_bytes=1 << 20))


@pytest.mark.parametrize("kind", [".zip", ".tar"])
def test_too_many_members_are_refused(tmp_path, kind):
    archive = write_archive(tmp_path / f"a{kind}", [(str(i), b"") for i in range(11)])
    refused(archive, tmp_path / "out", "holds over 10 members", limits=Limits(n_members=10))
    assert len(extract(archive, tmp_path / "out", limits=Limits(n_members=11))) == 11


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive_is_damaged_and_leaves_nothing(tmp_path, kind):
    content = bytes(i * 7 % 251 for i in range(30_000))
    archive = write_archive(tmp_path / f"a{kind}", [("a", content), ("b", content[::-1])])
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 3])
    refused(archive, tmp_path / "out", "a.*is damaged")


@pytest.mark.parametrize("kind", [*KINDS, ".tsv.gz"])
def test_something_else_under_the_name_of_an_archive_is_damaged(tmp_path, kind):
    (tmp_path / f"a{kind}").write_bytes(b"<html>please log in</html>" * 100)
    refused(tmp_path / f"a{kind}", tmp_path / "out", "is damaged")


def test_a_flipped_byte_is_found(tmp_path):
    archive = write_archive(tmp_path / "a.zip", [("a", bytes(i * 7 % 251 for i in range(3000)))])
    raw = bytearray(archive.read_bytes())
    raw[200] ^= 0xFF
    archive.write_bytes(raw)
    refused(archive, tmp_path / "out", "is damaged")


@pytest.mark.parametrize("kind", TAR_KINDS)
def test_a_tar_cut_between_two_members_is_damaged(tmp_path, kind):
    whole = write_archive(tmp_path / "whole.tar", [("a", b"x" * 5000), ("b", b"x" * 5000)]).read_bytes()
    cut = whole[: 512 + 5120]  # head and body of the first
    pack = {".tar": bytes, ".tgz": gzip.compress, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    archive = tmp_path / f"a{kind}"
    archive.write_bytes(pack[archive.suffix](cut))
    refused(archive, tmp_path / "out", "is damaged: it ends before its end mark")


@pytest.mark.parametrize("size", [5000, 9 * 1024, 100_000])
def test_a_flipped_byte_of_a_stored_tar_is_found_by_the_checksum_behind_it(tmp_path, size):
    tar = write_archive(tmp_path / "whole.tar", [("a", b"B" * size)]).read_bytes()
    raw = bytearray(gzip.compress(tar, compresslevel=0))
    raw[raw.index(b"BBBB") + 9] ^= 0xFF
    (tmp_path / "a.tar.gz").write_bytes(raw)
    refused(tmp_path / "a.tar.gz", tmp_path / "out", "is damaged: CRC")


def test_folders_that_a_path_implies_are_counted_and_a_path_has_a_length(tmp_path):
    archive = write_archive(tmp_path / "a.zip", [("a/b/c/d", b"x"), ("a/b/e", b"x")])
    refused(archive, tmp_path / "out", "holds over 4 members", limits=Limits(n_members=4))
    assert len(extract(archive, tmp_path / "out", limits=Limits(n_members=5))) == 2
    deep = write_archive(tmp_path / "deep.zip", [("a/" * 2000 + "b", b"x")])
    refused(deep, tmp_path / "deep", "over 1024 bytes long")


def test_an_encrypted_member_is_refused(tmp_path):
    archive = write_archive(tmp_path / "a.zip", [("a", b"x")])
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    refused(archive, tmp_path / "out", "an encrypted file")


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    archive = write_archive(tmp_path / "a.zip", [("a", b"x")])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        extract(archive, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_file_that_is_no_archive_and_one_that_is_not_there_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="is no archive"):
        extract(tmp_path / "a.h5", tmp_path / "out")
    with pytest.raises(DataAccessError, match="cannot be read"):
        extract(tmp_path / "a.zip", tmp_path / "out")


NAMES = st.text(alphabet=st.sampled_from("aAb./\\:\u00e9\u0301\x00 ~"), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=4), kind=st.sampled_from([".zip", ".tar"]))
@example(names=["a/b", "a"], kind=".tar")
@example(names=["a\x00b"], kind=".zip")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_the_names_all_is_inside_or_nothing_is_there(names, kind):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        archive = write_archive(root / f"x{kind}", [(n, str(i).encode()) for i, n in enumerate(names)])
        try:
            files = extract(archive, root / "out")
        except FormatError:
            assert sorted(p.name for p in root.iterdir()) == [archive.name]
            return
        # In a zip, a name that ends with a slash is a folder; a tar says it otherwise.
        content = [str(i).encode() for i, n in enumerate(names) if kind == ".tar" or not n.endswith("/")]
        assert [f.read_bytes() for f in files] == content
        assert all(f.is_relative_to(root / "out") and not f.is_symlink() for f in files)
        assert sorted(p.name for p in root.iterdir()) == sorted([archive.name, "out"])
