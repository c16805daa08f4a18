import hashlib
import re
import shutil
import time
from email.utils import formatdate

import pytest

from hescribe.data.download import RemoteFile, download
from hescribe.data.web import Patience, read_page
from hescribe.errors import DataAccessError, FormatError

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TOKEN = "abc"  # noqa: S105 - of nobody
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "file.bin"


@pytest.fixture
def get(target, patience):
    """Download ``/file``-like addresses with what a source states about them."""

    def run(url, **stated):
        token = stated.pop("token", None)
        return download(RemoteFile(url=url, path="file.bin", **stated), target, token=token, patience=patience)

    return run


def nothing_is_left(target):
    return not target.parent.exists() or list(target.parent.iterdir()) == []


def test_a_file_comes_whole_and_its_checksum_is_returned(host, get, target):
    assert get(host.serve("/f", CONTENT), sha256=SHA256, size=len(CONTENT)) == SHA256
    assert target.read_bytes() == CONTENT
    assert [p.name for p in target.parent.iterdir()] == ["file.bin"]


def test_a_cut_connection_is_resumed_where_it_was_cut(host, get, target, reply, waits):
    url = host.serve("/f", CONTENT, faults=[reply(CONTENT, cut_at=4000), reply(CONTENT, cut_at=9000)])
    get(url, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert host.asked("/f") == [None, "bytes=4000-", "bytes=9000-"]
    assert host.asked("/f", "If-Range") == [None, '"v1"', '"v1"']
    assert len(waits) == 2


def test_a_download_that_was_killed_is_resumed_by_the_next(host, get, target, reply):
    url = host.serve("/f", CONTENT, faults=[reply(CONTENT, cut_at=4000)] * 3)
    with pytest.raises(DataAccessError, match=r"failed 3 times.*cut.*is kept"):
        get(url)
    assert target.with_name("file.bin.part").stat().st_size == 4000
    get(url)
    assert target.read_bytes() == CONTENT
    assert host.asked("/f")[-1] == "bytes=4000-"


def test_a_server_that_gives_less_than_it_was_asked_for_is_asked_again(host, target, reply):
    piece = reply(CONTENT, most=3000)
    url = host.serve("/f", CONTENT, faults=[reply(CONTENT, cut_at=4000), piece, piece])
    download(RemoteFile(url=url, path="f"), target, patience=Patience(sleep=lambda _: None))
    assert target.read_bytes() == CONTENT
    assert host.asked("/f") == [None, "bytes=4000-", "bytes=7000-", "bytes=10000-"]


def test_a_server_that_starts_anew_and_is_cut_each_time_is_given_up(host, get, reply):
    content = bytes(4 << 20)
    cuts = [reply(content, cut_at=n << 20, ranges=False) for n in (1, 3)] * 6
    url = host.serve("/f", content, faults=cuts)
    with pytest.raises(DataAccessError, match="failed 3 times"):
        get(url)
    assert len(host.asked("/f")) == 4  # the 1 MiB of the first and the 2 MiB more of the second are progress


def test_a_server_that_ignores_ranges_starts_the_file_anew(host, get, target, reply):
    url = host.serve("/f", CONTENT, ranges=False, faults=[reply(CONTENT, cut_at=4000)])
    get(url)
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_between_two_parts_is_never_glued(host, get, target, reply):
    new = CONTENT[::-1]
    url = host.serve("/f", new, etag='"v2"', faults=[reply(CONTENT, cut_at=4000)])
    get(url)
    assert target.read_bytes() == new


def test_a_piece_from_another_place_is_never_glued(host, get, target, reply):
    rest = {"Content-Range": "bytes 3000-9239/10240"}  # as long as what was asked for, from 4000
    other = reply(CONTENT[3000:9240], status=206, headers=rest)
    url = host.serve("/f", CONTENT, faults=[reply(CONTENT, cut_at=4000), other])
    get(url)
    assert target.read_bytes() == CONTENT
    assert host.asked("/f") == [None, "bytes=4000-", None]


def test_a_changed_file_is_found_even_if_the_server_ignores_the_condition(host, get, target, reply):
    new = CONTENT[::-1]
    url = host.serve("/f", new, etag='"v2"', ignores_if_range=True, faults=[reply(CONTENT, cut_at=4000)])
    get(url)
    assert target.read_bytes() == new
    assert host.asked("/f") == [None, "bytes=4000-", None]


def test_without_anything_that_shows_a_change_the_file_starts_anew(host, get, target, reply):
    url = host.serve("/f", CONTENT, etag="", faults=[reply(CONTENT, etag="", cut_at=4000)])
    get(url)
    assert target.read_bytes() == CONTENT
    assert host.asked("/f") == [None, None]


def test_a_date_shows_a_change_where_there_is_no_strong_tag(host, get, target, reply):
    date = formatdate(0, usegmt=True)
    weak = {"etag": 'W/"1"', "last_modified": date}
    url = host.serve("/f", CONTENT, **weak, faults=[reply(CONTENT, cut_at=4000, **weak)])
    get(url)
    assert target.read_bytes() == CONTENT
    assert host.asked("/f", "If-Range") == [None, date]


def test_a_beginning_of_another_address_is_not_continued(host, get, target, reply):
    with pytest.raises(DataAccessError):
        get(host.serve("/old", CONTENT, faults=[reply(CONTENT[::-1], cut_at=4000)] * 3))
    get(host.serve("/new", CONTENT))
    assert target.read_bytes() == CONTENT
    assert host.asked("/new") == [None]


@pytest.mark.parametrize("kept", [b"x" * 4000, b"x" * 20_000, CONTENT + b"x"])
def test_a_damaged_or_too_long_beginning_is_thrown_away(host, get, target, reply, kept):
    url = host.serve("/f", CONTENT, faults=[reply(CONTENT, cut_at=4000)] * 3)
    with pytest.raises(DataAccessError):
        get(url)
    target.with_name("file.bin.part").write_bytes(kept)
    host.replies["/f"].faults = [reply(status=416)] if len(kept) > len(CONTENT) else []
    get(url, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_download_killed_before_its_check_is_checked_and_not_fetched_again(host, get, target, reply):
    url = host.serve("/f", CONTENT, faults=[reply(CONTENT, cut_at=4000)] * 3)
    with pytest.raises(DataAccessError):
        get(url)
    target.with_name("file.bin.part").write_bytes(CONTENT)
    before = len(host.requests)
    get(url, sha256=SHA256, size=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert len(host.requests) == before


@pytest.mark.parametrize("stated", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_wrong_bytes_are_never_taken(host, get, target, stated):
    with pytest.raises(FormatError, match=f"file.bin from .*/f: expected .* 0000.*, got ({SHA256}|{MD5})"):
        get(host.serve("/f", CONTENT), **stated)
    assert nothing_is_left(target)


def test_an_md5_is_enough_where_the_source_publishes_no_more(host, get, target):
    assert get(host.serve("/f", CONTENT), md5=MD5) == SHA256
    assert target.exists()


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 5_000_000_000])
def test_a_wrong_length_is_refused_before_a_byte_is_taken(host, get, target, size):
    with pytest.raises(FormatError, match=f"announces {len(CONTENT)} bytes, its source states {size}"):
        get(host.serve("/f", CONTENT), size=size)
    assert nothing_is_left(target)


def test_five_gigabytes_behind_a_file_of_five_kilobytes_are_refused(host, get, target):
    with pytest.raises(FormatError, match="announces 5000000000 bytes, its source states 5000"):
        get(host.serve("/f", CONTENT[:5000], claim=5_000_000_000), size=5000)
    assert nothing_is_left(target)


def test_a_server_that_claims_five_gigabytes_and_sends_five_kilobytes_is_given_up(host, get, target, reply, waits):
    big = 5_000_000_000
    if shutil.disk_usage(target.anchor).free < big:
        pytest.skip("the disk of this machine has no 5 GB left")
    url = host.serve("/f", CONTENT[:5000], claim=big)
    with pytest.raises(DataAccessError, match="failed 3 times"):
        get(url)
    assert len(waits) == 2
    assert not target.exists()


def test_a_claim_that_no_disk_can_hold_is_refused(host, get, target):
    with pytest.raises(DataAccessError, match=r"needs \d+ bytes more, and the disk of .* left"):
        get(host.serve("/f", CONTENT, claim=10**18))
    assert not target.exists()


def test_a_body_longer_than_it_may_be_is_cut_off(host, get, target):
    with pytest.raises(FormatError, match="sends more than the 5000 bytes"):
        get(host.serve("/f", CONTENT, close_delimited=True), size=5000)
    assert nothing_is_left(target)


def test_a_body_without_length_and_checksum_is_refused(host, get, target):
    url = host.serve("/f", CONTENT, close_delimited=True)
    with pytest.raises(DataAccessError, match="nobody could tell if it is whole"):
        get(url)
    assert nothing_is_left(target)
    assert get(url, sha256=SHA256) == SHA256


def test_a_compressed_file_arrives_as_it_was_sent(host, get, target):
    # Some hosts label a .gz as encoded: unpacking it would change the file.
    url = host.serve("/f", b"\x1f\x8b not really", headers={"Content-Encoding": "gzip"})
    get(url)
    assert target.read_bytes() == b"\x1f\x8b not really"
    assert host.asked("/f", "Accept-Encoding") == ["identity"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_tried_again_ever_later(host, get, reply, waits, status):
    url = host.serve("/f", CONTENT, faults=[reply(status=status), reply(status=status)])
    assert get(url) == SHA256
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0


def test_a_failure_that_stays_is_named(host, get, target):
    with pytest.raises(DataAccessError, match=r"/f failed 3 times, at last because the server answered 500"):
        get(host.serve("/f", status=500))
    assert len(host.requests) == 3
    assert nothing_is_left(target)


def test_a_server_that_names_a_time_is_waited_for(host, get, reply, waits):
    busy = reply(status=429, headers={"Retry-After": "7"})
    get(host.serve("/f", CONTENT, faults=[busy]))
    assert waits == [7.0]


def test_a_server_that_names_a_date_is_waited_for(host, get, reply, waits):
    busy = reply(status=503, headers={"Retry-After": formatdate(time.time() + 6, usegmt=True)})
    get(host.serve("/f", CONTENT, faults=[busy]))
    assert waits[0] == pytest.approx(5.5, abs=1.0)


def test_a_server_that_names_no_sense_is_waited_for_as_usual(host, get, reply, waits):
    get(host.serve("/f", CONTENT, faults=[reply(status=429, headers={"Retry-After": "soon"})]))
    assert 0.5 <= waits[0] <= 1.0


def test_a_server_that_wants_an_hour_is_told_of_and_not_waited_for(host, get, waits):
    url = host.serve("/f", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(DataAccessError, match=r"fewer requests \(429\), and it asks to wait 3600 s"):
        get(url)
    assert waits == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_gate_is_named_with_its_page_and_not_tried_twice(host, get, target, status):
    with pytest.raises(DataAccessError, match=rf"\({status}\): accept the terms at https://gate\.org/terms"):
        get(host.serve("/f", status=status), page="https://gate.org/terms")
    assert len(host.requests) == 1
    assert nothing_is_left(target)


@pytest.mark.parametrize("status", [404, 410, 418])
def test_a_file_that_is_not_there_is_not_tried_twice(host, get, status):
    with pytest.raises(DataAccessError, match=f"the server answered {status}"):
        get(host.serve("/f", status=status))
    assert len(host.requests) == 1


def test_a_token_goes_to_its_host_and_not_along_a_redirect(host, other_host, get, target):
    elsewhere = other_host.serve("/data", CONTENT).replace("127.0.0.1", "localhost")
    url = host.serve("/f", status=302, headers={"Location": elsewhere})
    get(url, token=TOKEN, with_token=True, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert host.asked("/f", "Authorization") == [f"Bearer {TOKEN}"]
    assert other_host.asked("/data", "Authorization") == [None]


def test_a_token_stays_on_its_host_when_the_port_changes(host, other_host, get):
    url = host.serve("/f", status=307, headers={"Location": other_host.serve("/data", CONTENT)})
    get(url, token=TOKEN, with_token=True)
    assert other_host.asked("/data", "Authorization") == [None]


def test_a_token_is_sent_only_where_it_belongs(host, get):
    get(host.serve("/f", CONTENT), token=TOKEN)
    assert host.asked("/f", "Authorization") == [None]


def test_a_resumed_download_asks_for_the_rest_behind_a_redirect(host, other_host, get, target, reply):
    elsewhere = other_host.serve("/data", CONTENT, faults=[reply(CONTENT, cut_at=4000)])
    get(host.serve("/f", status=302, headers={"Location": elsewhere}))
    assert target.read_bytes() == CONTENT
    assert other_host.asked("/data") == [None, "bytes=4000-"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/f"])
def test_a_redirect_to_nowhere_is_an_error(host, get, target, location):
    with pytest.raises(DataAccessError, match="leads nowhere"):
        get(host.serve("/f", status=302, headers={"Location": location}))
    assert nothing_is_left(target)


def test_a_host_that_is_not_there_is_given_up(get, waits, host):
    url = f"{host.url}/f"
    host.close()
    with pytest.raises(DataAccessError, match=r"failed 3 times.*cannot be reached"):
        get(url)
    host.__init__()  # the fixture closes it


def test_an_answer_that_never_comes_is_given_up(tmp_path):
    import socket  # noqa: PLC0415 - a port that listens and stays silent

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        file = RemoteFile(url=f"http://127.0.0.1:{silent.getsockname()[1]}/f", path="f")
        with pytest.raises(DataAccessError, match="failed 1 times"):
            download(file, tmp_path / "f", patience=Patience(attempts=1, timeout_s=0.2))


def test_a_page_is_tried_again_like_a_file(host, patience, reply):
    url = host.serve("/list", b"[1]", faults=[reply(status=500), reply(b"[1]", cut_at=1)])
    assert read_page(url, patience=patience)[0] == b"[1]"
    assert len(host.requests) == 3


def test_a_full_disk_is_said_and_not_tried_again(host, get, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 100, 100))
    with pytest.raises(DataAccessError, match=re.escape(f"needs {len(CONTENT)} bytes more")):
        get(host.serve("/f", CONTENT))
    assert len(host.requests) == 1
