"""A model hub on this machine: the endpoints that huggingface_hub pushes to, and those a pull reads."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def blob_of(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """Commits by name, each a dict of files; ``main`` is the last."""

    commits: dict = field(default_factory=dict)
    main: str = ""
    private: bool = True

    def add(self, files):
        commit = hashlib.sha1(repr((self.main, sorted(files.items()))).encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = {**self.commits.get(self.main, {}), **files}
        self.main = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        hub, body = self.server.hub, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._passes(hub):
            return
        if self.path == "/api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in hub.repositories:
                self._send({"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, 409)
                return
            private = asked.get("visibility", "public") == "private" or bool(asked.get("private"))
            hub.repositories[name] = Repository(private=private)
            self._send({"url": f"{hub.url}/{name}"})
        elif "/preupload/" in self.path:
            files = [f["path"] for f in json.loads(body)["files"]]
            modes = [
                {"path": f, "uploadMode": "lfs" if f.endswith(".safetensors") else "regular", "shouldIgnore": False}
                for f in files
            ]
            self._send({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{hub.url}/lfs/{o['oid']}"}}} for o in json.loads(body)["objects"]
            ]
            self._send({"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self._commit(hub, found[1], body)
        else:
            self._send({"error": "unknown"}, 404)

    def _commit(self, hub, name, body):
        files = {}
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = hub.objects[value["oid"]]
        commit = hub.repositories[name].add(files)
        self._send({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit, "hookOutput": ""})

    def do_PUT(self):
        hub, content = self.server.hub, self.rfile.read(int(self.headers["Content-Length"]))
        name = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(content).hexdigest() == name
        hub.objects[name] = content
        self._send({})

    def do_GET(self):
        hub = self.server.hub
        if not self._passes(hub):
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^?]+)\?blobs=true", self.path):
            self._list(hub, *found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", self.path):
            name, commit, path = found.groups()
            self._send_file(hub, hub.repositories[name].commits[commit][path], path)
        else:
            self._send({"error": "Repository not found"}, 404)

    def _list(self, hub, name, revision):
        repository = hub.repositories.get(name)
        commit = repository and (repository.main if revision == "main" else revision)
        if repository is None or commit not in repository.commits:
            self._send({"error": "Repository not found"}, 404)
            return
        rows = []
        for path, content in repository.commits[commit].items():
            row = {"rfilename": path, "size": len(content), "blobId": blob_of(content)}
            if path.endswith(".safetensors"):
                row["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            rows.append(row)
        self._send({"sha": commit, "siblings": rows, **hub.lies})

    def _send_file(self, hub, content, path):
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        content = hub.tampered.get(path, content)
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{blob_of(content)}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        cut = hub.cuts.get(path, 0)
        hub.cuts[path] = max(0, cut - 1)
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = True

    def _passes(self, hub):
        """Note the request, and send what the hub is to answer instead."""
        hub.requests.append((self.path, self.headers.get("Authorization")))
        if hub.faults:
            status, headers = hub.faults.pop(0)
            self._send({"error": "no"}, status, headers)
            return False
        return True

    def _send(self, answer, status=200, headers=()):
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Hub:
    """The hub: what it holds, what it was asked, and how it misbehaves."""

    def __init__(self):
        self.repositories, self.objects, self.requests = {}, {}, []
        self.faults, self.lies, self.tampered, self.cuts = [], {}, {}, {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
