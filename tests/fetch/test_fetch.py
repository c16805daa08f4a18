import hashlib
import json
import threading
import zipfile

import pytest
from tests.fetch.conftest import FILES
from typer.testing import CliRunner

from hescribe import progress
from hescribe.cli.data import app
from hescribe.data import fetch as fetching
from hescribe.data.catalogue import find_entry
from hescribe.data.dataset_card import Entry, Source, SourceFile
from hescribe.data.fetch import (
    check_terms,
    describe_terms,
    extract_fetched,
    fetch_dataset,
    fetch_files,
    find_fetched,
    plan_fetch,
)
from hescribe.data.fetched import Fetched
from hescribe.data.toml_file import read_toml
from hescribe.errors import DataAccessError, FormatError, InputError

TOKEN = "abc"  # noqa: S105 - of nobody


def checksum(content):
    return hashlib.sha256(content).hexdigest()


def make_entry(*sources, **changes):
    facts = {
        "id": "ours", "title": "t", "organism": "Homo sapiens", "organ": "skin", "technology": "visium",
        "licence": "CC0-1.0", "terms": "open", "citation": "Somebody", "donors_known": True, "source": sources,
    }  # fmt: skip
    return Entry(**{**facts, **changes})


def make_source(files, *, checked=True, kind="github", **facts):
    stated = tuple(
        SourceFile(path=p, size=len(c) if checked else None, sha256=checksum(c) if checked else None)
        for p, c in files.items()
    )
    return Source(**{"kind": kind, "record": "o/r", "version": "v", "page": "https://page.org", "file": stated} | facts)


@pytest.fixture
def run(hosts, patience, tmp_path):
    def fetch(entry, out=tmp_path / "out", **options):
        files = plan_fetch(entry, only=options.pop("only", "*"), hosts=hosts, patience=patience)
        return fetch_files(entry, files, out, patience=patience, **options)

    return fetch


def test_a_dataset_comes_whole_with_a_record_beside_it(run, out):
    report = run(make_entry(make_source(FILES)))
    assert {p: (out / p).read_bytes() for p in FILES} == FILES
    assert set(report.new) == set(FILES)
    assert report.n_bytes == sum(map(len, FILES.values()))
    record = read_toml(out / "fetched.toml", Fetched)
    assert {f.path: f.sha256 for f in record.file} == {p: checksum(c) for p, c in FILES.items()}
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["A.tsv", "B.tsv", "fetched.toml", "image.png"]


def test_what_is_there_is_kept_and_only_the_rest_is_fetched(run, out, host):
    entry = make_entry(make_source(FILES))
    run(entry)
    (out / "image.png").unlink()
    host.requests.clear()
    report = run(entry)
    assert report.new == ("image.png",)
    assert set(report.kept) == {"counts/A.tsv", "counts/B.tsv"}
    assert [path for path, _ in host.requests] == ["/o/r/v/image.png"]


def test_a_pattern_chooses_files(run, out):
    assert run(make_entry(make_source(FILES)), only="counts/*").new == ("counts/A.tsv", "counts/B.tsv")
    assert not (out / "image.png").exists()
    with pytest.raises(InputError, match=r"3 files, none of which fits 'x\*'; the first are counts/A.tsv"):
        run(make_entry(make_source(FILES)), only="x*")


def test_a_file_that_fails_does_not_take_the_others_with_it(run, out, host):
    host.serve("/o/r/v/image.png", b"pixelz")
    with pytest.raises(FormatError, match=r"image.png from .*: expected sha256 .*, got"):
        run(make_entry(make_source(FILES)))
    assert {p.name for p in out.rglob("*") if p.is_file()} == {"A.tsv", "B.tsv", "fetched.toml"}


def test_after_three_failures_the_rest_is_not_begun(run, host):
    files = {f"{i:02d}": b"x" for i in range(40)}
    host.replies.clear()
    with pytest.raises(DataAccessError, match=r"files failed, the others are kept; the first: .*404"):
        run(make_entry(make_source(files)), jobs=1)
    assert len(host.requests) == 3


def test_a_file_that_changed_on_this_machine_is_not_taken_and_not_replaced(run, out):
    entry = make_entry(make_source(FILES, checked=False))
    run(entry)
    (out / "image.png").write_bytes(b"edited")
    with pytest.raises(FormatError, match=r"image.png is not what it should be: expected .*move it away"):
        run(entry)
    assert (out / "image.png").read_bytes() == b"edited"


def test_a_file_of_unknown_origin_is_taken_only_if_its_checksum_fits(run, out):
    out.mkdir()
    (out / "image.png").write_bytes(FILES["image.png"])
    assert run(make_entry(make_source(FILES))).kept == ("image.png",)


def test_a_file_of_which_nothing_is_known_is_not_taken(run, out):
    out.mkdir()
    (out / "image.png").write_bytes(b"mine")
    with pytest.raises(FormatError, match="nothing says what it should be"):
        run(make_entry(make_source(FILES, checked=False)))
    assert (out / "image.png").read_bytes() == b"mine"


def test_a_file_that_changed_at_its_source_is_kept_aside_and_told(run, out, host):
    entry = make_entry(make_source(FILES, checked=False))
    run(entry)
    (out / "image.png").unlink()
    host.serve("/o/r/v/image.png", b"another picture", etag='"v2"')
    with pytest.raises(FormatError, match=r"image.png has changed at .*expected sha256 .*, got .*Take its entry out"):
        run(entry)
    assert not (out / "image.png").exists()
    assert (out / "image.png.changed").read_bytes() == b"another picture"


def test_a_new_checksum_on_the_card_is_reason_enough_for_new_content(run, out, host):
    run(make_entry(make_source(FILES)))
    (out / "image.png").unlink()
    new = FILES | {"image.png": b"another picture"}
    host.serve("/o/r/v/image.png", new["image.png"], etag='"v2"')
    assert run(make_entry(make_source(new))).new == ("image.png",)
    assert (out / "image.png").read_bytes() == b"another picture"


def test_a_folder_of_another_dataset_is_not_written_into(run):
    run(make_entry(make_source(FILES)))
    with pytest.raises(InputError, match="holds ours; give another folder for theirs"):
        run(make_entry(make_source(FILES), id="theirs"))


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "fetched.toml", "a.part", "COUNTS/b.tsv"]
)
def test_a_name_that_leaves_the_folder_or_is_taken_is_refused_before_the_first_byte(run, out, host, name):
    with pytest.raises(FormatError, match="holds"):
        run(make_entry(make_source({**FILES, name: b"x"})))
    assert host.requests == []
    assert not out.exists()


def test_a_path_that_is_not_wanted_cannot_keep_the_others_from_coming(run, out):
    files = FILES | {"a:b.txt": b"x"}
    assert run(make_entry(make_source(files)), only="*.png").new == ("image.png",)


def test_a_link_out_of_the_folder_is_not_followed(run, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "counts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="is a link out of"):
        run(make_entry(make_source(FILES)))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_two_sources_lie_in_a_folder_each(run, out, host):
    for path, content in FILES.items():
        host.serve(f"/o/s/v/{path}", content)
    run(make_entry(make_source(FILES), make_source(FILES, record="o/s")))
    assert (out / "o_r/image.png").read_bytes() == (out / "o_s/image.png").read_bytes() == b"pixels"


def test_files_come_at_the_same_time(run, host):
    barrier = threading.Barrier(3, timeout=5)  # breaks unless three are asked for at once

    class Waiting(list):
        def pop(self, _):
            barrier.wait()
            return super().pop(0)

        def __bool__(self):
            return len(self) > 0

    for path in FILES:
        reply = host.replies[f"/o/r/v/{path}"]
        reply.faults = Waiting([reply])
    host.lock = threading.Semaphore(3)
    assert len(run(make_entry(make_source(FILES)), jobs=3).new) == 3


def test_the_progress_is_told_in_mebibytes(run):
    told = []

    class Listener:
        def start(self, label, total):
            told.append([label, total, 0])
            return len(told) - 1

        def advance(self, handle, n):
            told[handle][2] += n

        def stop(self, handle):
            pass

    with progress.listen(Listener()):
        run(make_entry(make_source(FILES)))
    assert told[-1] == ["downloading (MiB)", 2, 2]


def test_an_interrupt_stops_the_downloads_and_the_next_fetch_goes_on(run, out):
    class Impatient:
        def start(self, label, total):
            return label

        def advance(self, handle, n):
            if "downloading" in handle:
                raise KeyboardInterrupt

        def stop(self, handle):
            pass

    entry = make_entry(make_source(FILES))
    with pytest.raises(KeyboardInterrupt), progress.listen(Impatient()):
        run(entry)
    run(entry)
    assert {p: (out / p).read_bytes() for p in FILES} == FILES


def test_no_worker_is_no_way_to_fetch(run):
    with pytest.raises(InputError, match="jobs must be at least 1, got 0"):
        run(make_entry(make_source(FILES)), jobs=0)


def test_a_dataset_larger_than_the_disk_is_refused_before_the_first_byte(run, host):
    source = make_source(FILES)
    big = source.model_copy(update={"file": (source.file[0].model_copy(update={"size": 10**18}),)})
    with pytest.raises(DataAccessError, match=r"needs 1000000000\.0 GB"):
        run(make_entry(big))
    assert host.requests == []


class TestTerms:
    def test_an_open_licence_needs_no_word(self):
        check_terms(make_entry(make_source(FILES)), accept_licence=False, token=None)

    def test_a_licence_that_is_not_open_must_be_accepted(self):
        entry = make_entry(make_source(FILES), licence="CC-BY-NC-4.0", terms="restricted")
        with pytest.raises(
            DataAccessError, match=r"under CC-BY-NC-4.0: read https://page\.org, then .*--accept-licence"
        ):
            check_terms(entry, accept_licence=False, token=None)
        check_terms(entry, accept_licence=True, token=None)

    def test_an_unknown_licence_must_be_looked_at(self):
        entry = make_entry(make_source(FILES), licence="unknown", terms="unknown")
        with pytest.raises(DataAccessError, match="has no known licence"):
            check_terms(entry, accept_licence=False, token=None)

    def test_a_gate_needs_a_token(self):
        entry = make_entry(make_source(FILES, gated=True))
        with pytest.raises(DataAccessError, match=r"accept its terms at https://page.org, then run `hf auth login`"):
            check_terms(entry, accept_licence=True, token=None)
        check_terms(entry, accept_licence=True, token=TOKEN)

    def test_what_is_not_published_cannot_be_fetched(self):
        with pytest.raises(InputError, match="is not published for download"):
            check_terms(find_entry("hescape_human_skin_panel"), accept_licence=True, token=TOKEN)

    def test_licence_gate_and_citation_are_told(self):
        told = "\n".join(describe_terms(find_entry("hest_1k")))
        for word in ("CC-BY-NC-SA-4.0 (restricted", "huggingface.co/datasets/MahmoodLab/hest (gated", "Jaume et al."):
            assert word in told


class TestOffline:
    def test_what_was_fetched_is_found_without_the_network(self, run, out, host):
        entry = make_entry(make_source(FILES))
        run(entry)
        host.requests.clear()
        report = find_fetched(entry, out, only="counts/*")
        assert report.kept == ("counts/A.tsv", "counts/B.tsv")
        assert host.requests == []

    def test_what_was_never_fetched_is_said(self, out):
        with pytest.raises(DataAccessError, match="holds no fetched file of ours and the network is switched off"):
            find_fetched(make_entry(make_source(FILES)), out)
        assert not out.exists()

    def test_a_file_that_is_gone_is_said(self, run, out):
        run(make_entry(make_source(FILES)))
        (out / "image.png").unlink()
        with pytest.raises(DataAccessError, match=r"image.png was fetched once and is gone"):
            find_fetched(make_entry(make_source(FILES)), out)

    def test_a_file_that_changed_is_said(self, run, out):
        run(make_entry(make_source(FILES)))
        (out / "image.png").write_bytes(b"pixelz")
        with pytest.raises(FormatError, match=r"image.png is not what it should be"):
            find_fetched(make_entry(make_source(FILES)), out)


def test_archives_are_unpacked_beside_themselves_once_and_tables_stay(run, out, host, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("x/y.txt", "y")
    files = {"d/a.zip": (tmp_path / "a.zip").read_bytes(), "c.tsv.gz": b"no matter"}
    for path, content in files.items():
        host.serve(f"/o/r/v/{path}", content)
    report = run(make_entry(make_source(files)))
    assert extract_fetched(report) == (out / "d/a",)
    assert (out / "d/a/x/y.txt").read_text() == "y"
    assert extract_fetched(report) == ()
    assert (out / "c.tsv.gz").exists()


class TestCommand:
    @pytest.fixture
    def say(self, hosts, patience, monkeypatch):
        entry = make_entry(make_source(FILES), licence="CC-BY-NC-4.0", terms="restricted")
        monkeypatch.setattr(fetching, "find_entry", lambda _: entry)
        monkeypatch.setattr(fetching.fetch_dataset, "__kwdefaults__", fetch_dataset.__kwdefaults__ | {"hosts": hosts})
        return lambda *words: CliRunner().invoke(app, ["fetch", "ours", *map(str, words)])

    def test_it_refuses_until_the_licence_is_accepted_and_then_fetches(self, say, out):
        refused = say("--out", out)
        assert refused.exit_code == 1
        assert "licence CC-BY-NC-4.0 (restricted" in refused.stderr
        assert "--accept-licence" in refused.stderr
        assert refused.stdout == ""
        done = say("--out", out, "--accept-licence", "--jobs", 2)
        assert done.exit_code == 0, done.stderr
        assert "3 files fetched, 0 were there, 2.2 MB" in done.stdout
        assert done.stderr.index("cite: Somebody") < done.stderr.index("3 files: 2.2 MB")

    def test_json_is_one_object_and_offline_takes_what_is_there(self, say, out):
        say("--out", out, "--accept-licence", "--only", "image*")
        result = json.loads(say("--out", out, "--offline", "--json").stdout)
        assert result["kept"] == ["image.png"]
        assert result["new"] == []


def test_a_target_that_is_a_file_is_told(run, host, out):
    out.write_text("a file")
    with pytest.raises(DataAccessError, match=r"out cannot be written: File exists; give another folder"):
        run(make_entry(make_source(FILES)))
    assert out.read_text() == "a file"
