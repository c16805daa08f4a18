"""Each host's list of files, in the form its interface has, from a host on this machine."""

import json

import pytest

from hescribe.data import sources
from hescribe.data.dataset_card import Source, SourceFile
from hescribe.data.sources import Hosts, list_files
from hescribe.errors import DataAccessError, FormatError

SHA, MD5 = "a" * 64, "b" * 32


@pytest.fixture
def hosts(host):
    return Hosts(**dict.fromkeys(Hosts.__dataclass_fields__, host.url))


@pytest.fixture
def listed(hosts, patience):
    def run(kind, record, version="", *, token=None, **facts):
        source = Source(kind=kind, record=record, version=version, page="https://page.org", **facts)
        return list_files(source, token=token, hosts=hosts, patience=patience)

    return run


def serve(host, path, answer, **behaviour):
    return host.serve(path, json.dumps(answer).encode(), **behaviour)


def test_hugging_face_gives_the_files_of_all_pages_with_the_checksums_of_large_ones(host, listed):
    rows = [
        {"type": "directory", "path": "st", "oid": "1"},
        {"type": "file", "path": "st/A 1.h5ad", "size": 9, "oid": "1", "lfs": {"oid": SHA, "size": 9}},
    ]
    more = host.url + "/api/datasets/o/r/tree/v1?recursive=true&cursor=2"
    first = "/api/datasets/o/r/tree/v1?recursive=true"
    serve(host, first, rows, headers={"Link": f'<{more}>; rel="next"'})
    serve(host, first + "&cursor=2", [{"type": "file", "path": "README.md", "size": 3, "oid": "2"}])
    readme, table = listed("huggingface", "o/r", "v1", token="t")  # noqa: S106 - of nobody
    assert (table.path, table.size, table.sha256, table.with_token) == ("st/A 1.h5ad", 9, SHA, True)
    assert table.url == host.url + "/datasets/o/r/resolve/v1/st/A%201.h5ad"
    assert (readme.path, readme.sha256) == ("README.md", None)
    assert host.asked(first, "Authorization") == ["Bearer t"]


def test_hugging_face_is_not_followed_to_another_host_with_the_token(host, other_host, listed):
    first = "/api/datasets/o/r/tree/main?recursive=true"
    serve(host, first, [], headers={"Link": f'<{other_host.url}/steal>; rel="next"'})
    with pytest.raises(FormatError, match="another host"):
        listed("huggingface", "o/r", token="t")  # noqa: S106 - of nobody
    assert other_host.requests == []


def test_zenodo_gives_the_files_of_a_record_with_md5(host, listed):
    url = host.url + "/api/records/7/files/a.zip/content"
    serve(
        host,
        "/api/records/7",
        {"files": [{"key": "a.zip", "size": 5, "checksum": f"md5:{MD5}", "links": {"self": url}}]},
    )
    (file,) = listed("zenodo", "7")
    assert (file.url, file.path, file.size, file.md5, file.sha256) == (url, "a.zip", 5, MD5, None)


def test_mendeley_gives_the_files_of_every_folder_with_sha256(host, listed):
    def row(name):
        return {
            "filename": name,
            "size": 4,
            "content_details": {"sha256_hash": SHA, "download_url": f"https://x/{name}"},
        }

    base = "/public-api/datasets/abc"
    folders = [{"id": "1", "name": "images"}, {"id": "2", "name": "colon", "parent_id": "1"}]
    serve(host, f"{base}/folders/3", folders)
    for folder, name in (("root", "readme.txt"), ("1", "a.jpg"), ("2", "b.jpg")):
        serve(host, f"{base}/files?folder_id={folder}&version=3", [row(name)])
    files = listed("mendeley", "abc", "3")
    assert [f.path for f in files] == ["images/a.jpg", "images/colon/b.jpg", "readme.txt"]
    assert files[1].url == "https://x/b.jpg"
    assert files[1].sha256 == SHA


def test_mendeley_folders_that_are_each_others_parent_do_not_hang(host, listed):
    base = "/public-api/datasets/abc"
    serve(host, f"{base}/folders/1", [{"id": "1", "name": "a", "parent_id": "1"}])
    serve(host, f"{base}/files?folder_id=root&version=1", [])
    serve(host, f"{base}/files?folder_id=1&version=1", [])
    with pytest.raises(DataAccessError, match="lists no file"):
        listed("mendeley", "abc", "1")


def figshare_row(name):
    return {"name": name, "size": 5, "download_url": f"https://x/{name}", "computed_md5": "", "supplied_md5": MD5}


def test_figshare_gives_the_files_of_a_version_with_md5(host, listed):
    serve(host, "/v2/articles/22778920/versions/2/files?limit=1000&offset=0", [figshare_row("a.h5")])
    (file,) = listed("figshare", "22778920", "2")
    assert (file.path, file.md5, file.url) == ("a.h5", MD5, "https://x/a.h5")


def test_figshare_is_asked_for_every_page_and_not_for_the_ten_files_of_its_article(host, listed):
    names = [f"{i:04d}.h5" for i in range(1001)]
    rows = [figshare_row(n) for n in names]
    serve(host, "/v2/articles/7", {"files": rows[:10]})
    serve(host, "/v2/articles/7/files?limit=1000&offset=0", rows[:1000])
    serve(host, "/v2/articles/7/files?limit=1000&offset=1000", rows[1000:])
    assert [f.path for f in listed("figshare", "7")] == names


def test_a_list_that_never_ends_is_given_up(host, listed, monkeypatch):
    monkeypatch.setattr(sources, "MAX_PAGES", 5)
    first = "/api/datasets/o/r/tree/main?recursive=true"
    serve(host, first, [], headers={"Link": f'<{host.url}{first}>; rel="next"'})
    with pytest.raises(FormatError, match="does not end its list"):
        listed("huggingface", "o/r")
    assert len(host.requests) == 5


@pytest.mark.parametrize("fact", [{"key": 3}, {"size": "5"}, {"size": -1}, {"links": {"self": 1}}])
def test_facts_about_a_file_of_the_wrong_type_are_refused(host, listed, fact):
    row = {"key": "a.zip", "size": 5, "checksum": f"md5:{MD5}", "links": {"self": "https://x"}}
    serve(host, "/api/records/7", {"files": [row | fact]})
    with pytest.raises(FormatError, match="something else than a list of files"):
        listed("zenodo", "7")


@pytest.mark.parametrize(
    ("record", "folder"),
    [
        ("GSE144240", "/geo/series/GSE144nnn/GSE144240/suppl/"),
        ("GSM5213483", "/geo/samples/GSM5213nnn/GSM5213483/suppl/"),
    ],
)
def test_geo_gives_the_files_of_its_folder_and_no_other_link(host, listed, record, folder):
    page = (
        '<a href="../">up</a><a href="?C=N">by name</a><a href="https://nih.gov/x.gz">x</a><a href="sub/">sub</a>'
        '<a href="/etc/y.gz">y</a><a href="P2%20rep1.tsv.gz">P2</a> 12M <A HREF="RAW.tar">RAW</A>'
    )
    host.serve(folder, page.encode())
    files = listed("geo", record)
    assert [f.path for f in files] == ["P2 rep1.tsv.gz", "RAW.tar"]
    assert files[0].url == f"{host.url}{folder}P2%20rep1.tsv.gz"
    assert files[0].size is None


def test_tenx_gives_the_three_files_that_a_reader_needs(host, listed):
    files = listed("tenx", "V1_Human_Brain_Section_1", "1.1.0")
    base = f"{host.url}/samples/spatial-exp/1.1.0/V1_Human_Brain_Section_1/V1_Human_Brain_Section_1"
    assert [f.url for f in files] == [
        f"{base}_{n}" for n in ("filtered_feature_bc_matrix.h5", "image.tif", "spatial.tar.gz")
    ]
    assert host.requests == []


def test_github_gives_the_files_of_a_commit(host, listed):
    tree = [{"type": "blob", "path": "data/a b.tsv", "size": 3}, {"type": "tree", "path": "data"}]
    serve(host, "/repos/o/r/git/trees/abc?recursive=1", {"tree": tree, "truncated": False})
    (file,) = listed("github", "o/r", "abc")
    assert (file.url, file.path, file.size) == (f"{host.url}/o/r/abc/data/a%20b.tsv", "data/a b.tsv", 3)


def test_a_list_that_github_cut_is_refused(host, listed):
    serve(host, "/repos/o/r/git/trees/abc?recursive=1", {"tree": [], "truncated": True})
    with pytest.raises(FormatError, match="only a part"):
        listed("github", "o/r", "abc")


def test_files_that_the_card_states_are_not_asked_for(host, listed):
    (file,) = listed("github", "o/r", "abc", file=(SourceFile(path="d/a.tsv", size=3, sha256=SHA),))
    assert (file.url, file.sha256) == (f"{host.url}/o/r/abc/d/a.tsv", SHA)
    assert host.requests == []


def test_the_pattern_of_a_card_chooses_among_the_files_of_a_record(host, listed):
    names = ("images/MouseBrain/a.jpg", "mousebrain.tar.gz", "colon.tar.gz")
    rows = [{"key": n, "size": 1, "checksum": f"md5:{MD5}", "links": {"self": "https://x"}} for n in names]
    serve(host, "/api/records/7", {"files": rows})
    assert [f.path for f in listed("zenodo", "7", only=("*mousebrain*",))] == list(names[:2])
    with pytest.raises(DataAccessError, match="lists no file of this dataset"):
        listed("zenodo", "7", only=("*lung*",))


@pytest.mark.parametrize(
    "answer", ["[]", "{}", '{"files": 3}', '{"files": [{"key": "a"}]}', "null", "<html>", "\xff", "[" * 100_000]
)
def test_an_answer_that_is_no_list_of_files_is_refused(host, listed, answer):
    host.serve("/api/records/7", answer.encode("latin-1"))
    with pytest.raises(FormatError, match="something else than"):
        listed("zenodo", "7")


def test_a_gated_list_names_the_page_of_the_gate(host, listed):
    host.serve("/api/datasets/o/r/tree/main?recursive=true", status=401)
    with pytest.raises(DataAccessError, match=r"accept the terms at https://page\.org"):
        listed("huggingface", "o/r")


def test_the_token_is_sent_to_hugging_face_alone(host, listed):
    host.serve("/api/records/7", b'{"files": []}')
    with pytest.raises(DataAccessError):
        listed("zenodo", "7", token="t")  # noqa: S106 - of nobody
    assert host.asked("/api/records/7", "Authorization") == [None]
