"""A host on this machine that behaves as badly as the hosts out there."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hescribe.data.sources import Hosts
from hescribe.data.web import Patience

FILES = {"counts/A.tsv": b"counts of A" * 200_000, "counts/B.tsv": b"counts of B", "image.png": b"pixels"}


@dataclass
class Reply:
    """What the host sends for a path; ``faults`` are used up, one a request."""

    content: bytes = b""
    etag: str = '"v1"'
    last_modified: str = ""
    status: int = 200
    headers: dict = field(default_factory=dict)
    claim: int | None = None  # Content-Length, if not the truth
    cut_at: int | None = None  # the connection ends after so many bytes of the body
    ranges: bool = True
    ignores_if_range: bool = False
    most: int | None = None  # bytes of a range that are given at once
    close_delimited: bool = False
    faults: list = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        host = self.server.host
        with host.lock:
            host.requests.append((self.path, dict(self.headers)))
            reply = host.replies.get(self.path) or Reply(status=404)
            if reply.faults:
                reply = reply.faults.pop(0)
        self.close_connection = True
        start = self._start(reply)
        body = reply.content[start : None if reply.most is None else start + reply.most]
        self.send_response(206 if start and reply.status == 200 else reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.etag:
            self.send_header("ETag", reply.etag)
        if reply.last_modified:
            self.send_header("Last-Modified", reply.last_modified)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(reply.content)}")
        if not reply.close_delimited:
            self.send_header("Content-Length", str(reply.claim if reply.claim is not None else len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body if reply.cut_at is None else body[: max(0, reply.cut_at - start)])

    def _start(self, reply):
        asked = self.headers.get("Range")
        if not asked or not reply.ranges or reply.status != 200:
            return 0
        condition = self.headers.get("If-Range")
        if condition and condition not in {reply.etag, reply.last_modified} and not reply.ignores_if_range:
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def log_message(self, *_):
        pass


class Host:
    """The host: what it serves, and what it was asked."""

    def __init__(self):
        self.replies, self.requests, self.lock = {}, [], threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.host = self
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def serve(self, path, content=b"", **behaviour):
        """Serve a reply at a path and return its address."""
        self.replies[path] = Reply(content=content, **behaviour)
        return f"{self.url}{path}"

    def asked(self, path, header="Range"):
        """Return a header of every request for a path."""
        return [headers.get(header) for p, headers in self.requests if p == path]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def host():
    one = Host()
    yield one
    one.close()


@pytest.fixture
def other_host():
    one = Host()
    yield one
    one.close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def patience(waits):
    """Wait in a list and not in time."""
    return Patience(attempts=3, first_s=1.0, longest_s=8.0, timeout_s=5.0, sleep=waits.append)


@pytest.fixture
def reply():
    return Reply


@pytest.fixture(autouse=True)
def _no_token_and_no_proxy(monkeypatch):
    for name in ("HF_TOKEN", "HESCRIBE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def hosts(host):
    for path, content in FILES.items():
        host.serve(f"/o/r/v/{path}", content)
    return Hosts(**dict.fromkeys(Hosts.__dataclass_fields__, host.url))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"
