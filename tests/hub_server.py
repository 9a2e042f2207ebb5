"""A small Hub on this machine: repositories in memory, and answers that go wrong when told to.

It speaks what huggingface_hub asks for while it makes, writes and reads repositories of models.
Large files come by git-lfs's protocol, or, with `cas`, by Xet: the client then writes into that
folder, and `know` tells the server which hash a file has there.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_" + "a" * 34
LARGE = (".safetensors", ".pt", ".bin", ".pth")
DROP = -1
"""In `Hub.answers`: no answer, the connection ends."""


@dataclass
class Hub:
    """What the server holds; `answers` are [method, part of a path, status], the first counts."""

    url: str = ""
    owner: str = "me"
    repositories: dict[str, dict[str, bytes | str]] = field(default_factory=dict)
    """name -> path -> content, or the oid of a large file"""
    commits: list[dict[str, Any]] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    delay: float = 0.0
    cas: Path | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    branches: set[str] = field(default_factory=lambda: {"main"})

    def files(self, name: str) -> dict[str, bytes]:
        """Of a repository, with the content of large files that did not go by Xet."""
        held = self.repositories[name].items()
        return {
            path: content if isinstance(content, bytes) else self.large.get(content, b"")
            for path, content in held
        }

    def know(self, file: Path) -> None:
        """Tell what Xet calls `file`."""
        import hf_xet

        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.hashes[digest] = hf_xet.hash_files([str(file)])[0].hash
        self.sizes[digest] = file.stat().st_size


class _Handler(BaseHTTPRequestHandler):
    """One request. `hub` is set by `serve`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub, path = self.hub, self.path.split("?")[0]
        hub.requests.append(f"{self.command} {path}")
        time.sleep(hub.delay)
        for method, part, status in hub.answers:
            if self.command == method and part in path:
                self._fail(status)
                return
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split():
                answer(self, body, **found.groupdict())
                return
        self._fail(404)

    def _fail(self, status: int) -> None:
        if status == DROP:
            self.connection.close()
            self.close_connection = True
        else:
            names = {404: "RepoNotFound"}
            headers = {"X-Error-Code": names[status]} if status in names else {}
            self._send({"error": "no"}, status, headers)

    def _send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Answers

    def _who(self, body: bytes) -> None:
        self._send({"name": self.hub.owner, "type": "user", "orgs": [], "auth": {"type": "token"}})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._fail(401)
            return
        name = f"{asked.get('organization') or self.hub.owner}/{asked['name']}"
        if not name.startswith(f"{self.hub.owner}/"):
            self._fail(403)
            return
        exists = name in self.hub.repositories
        self.hub.repositories.setdefault(name, {})
        address = {"url": f"{self.hub.url}/{name}", "name": name}
        self._send(address, 409 if exists else 200)

    def _branch(self, body: bytes, name: str, revision: str) -> None:
        self.hub.branches.add(revision)
        self._send({})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        if name not in self.hub.repositories or revision not in self.hub.branches:
            self._fail(404)
            return
        files = [file["path"] for file in json.loads(body)["files"]]
        modes = [
            {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular"}
            | {"shouldIgnore": False}
            for path in files
        ]
        self._send({"files": modes})

    def _batch(self, body: bytes, name: str) -> None:
        objects = [
            {"oid": one["oid"], "size": one["size"]}
            | {"actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        self._send({"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        self.hub.large[oid] = body
        self._send({})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        commit: dict[str, Any] = {"repository": name, "revision": revision, "files": []}
        held = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                commit["message"] = value["summary"]
            elif line["key"] == "file":
                held[value["path"]] = base64.b64decode(value["content"])
                commit["files"].append(value["path"])
            elif line["key"] == "lfsFile":
                held[value["path"]] = value["oid"]
                commit["files"].append(value["path"])
            elif line["key"] == "deletedFile":
                held.pop(value["path"], None)
        self.hub.commits.append(commit)
        oid = f"{len(self.hub.commits):040d}"
        self._send({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _info(self, body: bytes, name: str, revision: str = "main") -> None:
        if name not in self.hub.repositories:
            self._fail(404)
            return
        siblings = [{"rfilename": path} for path in self.hub.repositories[name]]
        self._send({"id": name, "sha": self._sha(), "siblings": siblings, "private": False})

    def _tree(self, body: bytes, name: str, revision: str, path: str | None = None) -> None:
        held = self.hub.files(name)
        rows = [
            {"type": "file", "path": file, "size": len(content), "oid": "0"}
            for file, content in held.items()
            if path is None or file.startswith(path)
        ]
        if path is not None and not rows:
            self._send({}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            self._send(rows)

    def _resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        held = self.hub.repositories.get(name, {})
        if path not in held:
            self._send({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self._sha()})
            return
        content = held[path]
        oid = content if isinstance(content, str) else hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": self._sha(), "ETag": f'"{oid}"'}
        if oid in self.hub.hashes:
            size = str(self.hub.sizes[oid])
            headers |= {"X-Xet-Hash": self.hub.hashes[oid], "X-Linked-Size": size}
            route = f"{self.hub.url}/api/models/{name}/xet-read-token/main"
            headers |= {"X-Xet-Refresh-Route": route, "X-Linked-Etag": f'"{oid}"'}
        data = self.hub.files(name)[path]
        self._send(data, headers=headers | {"Content-Length": str(len(data))})

    def _xet_token(self, body: bytes, name: str, revision: str) -> None:
        place, ends = f"local://{self.hub.cas}", int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": place, "X-Xet-Access-Token": "x"}
        told = {"casUrl": place, "accessToken": "x", "exp": ends}
        self._send(told, headers=headers | {"X-Xet-Token-Expiration": str(ends)})

    def _sha(self) -> str:
        return f"{len(self.hub.commits):040d}"


_NAME, _REVISION = r"(?P<name>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler._who),
    ("POST", r"/api/repos/create", _Handler._create),
    ("POST", r"/api/validate-yaml", lambda self, body: self._send({"errors": [], "warnings": []})),
    ("POST", rf"/api/models/{_NAME}/branch/{_REVISION}", _Handler._branch),
    ("POST", rf"/api/models/{_NAME}/preupload/{_REVISION}", _Handler._preupload),
    ("POST", rf"/api/models/{_NAME}/commit/{_REVISION}", _Handler._commit),
    ("GET", rf"/api/models/{_NAME}/xet-(read|write)-token/{_REVISION}", _Handler._xet_token),
    ("GET", rf"/api/models/{_NAME}/tree/{_REVISION}(/(?P<path>.+))?", _Handler._tree),
    ("GET", rf"/api/models/{_NAME}/revision/{_REVISION}", _Handler._info),
    ("GET", rf"/api/models/{_NAME}", _Handler._info),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    ("PUT", r"/large/(?P<oid>\w+)", _Handler._put),
    ("GET HEAD", rf"/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", _Handler._resolve),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """A running Hub, empty."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def go_online(monkeypatch, hub: Hub, cache: Path, xet: bool = False) -> None:
    """Let huggingface_hub talk to `hub`, and keep what it downloads in `cache`."""
    import transformers.utils.hub
    from huggingface_hub import constants

    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    # what is kept there asks the server of an earlier test, for a minute
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(cache / "xet"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
