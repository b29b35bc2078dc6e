"""A Hub on this machine for tests: real HTTP on a loopback port, as much of the API as reading a model or a data set
needs.

Info with file sizes, of data sets the tree too, `resolve` with HEAD, ranges, commit and etag headers, a redirect of large files to a
"CDN" of another origin, access errors with the headers the Hub sends. Counts every byte of body it sends.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repo:
    """One repository. access: open | gated | private | forbidden | disabled. revisions: name -> folder."""

    revisions: dict[str, Path]
    access: str = "open"
    extra_names: tuple[str, ...] = ()

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        for name, folder in self.revisions.items():
            sha = hashlib.sha1(f"{name} {folder}".encode()).hexdigest()
            if revision in (name, sha):
                return sha
        return None

    def folder(self, revision: str) -> Path | None:
        """The files at a branch, tag or commit."""
        return next((f for n, f in self.revisions.items() if self.commit(revision) == self.commit(n)), None)


@dataclass
class LoopbackHub:
    """`with LoopbackHub({"owner/name": Repo(...)}) as hub:` serves at `hub.endpoint` until the block ends."""

    repos: dict[str, Repo]
    honours_ranges: bool = True
    lfs_above: int = 100_000
    delay: float = 0.0  # seconds before every answer
    stall_resolve: float = 0.0  # seconds before every answer about a file's content
    drip: bool = False  # bodies arrive a byte at a time, for ever
    no_hub: bool = False  # answers every question with a web page: a captive portal, a wrong HF_ENDPOINT
    body_bytes: int = 0
    requests: list[tuple[str, str, str, bool]] = field(default_factory=list)  # method, path, range, with a token
    writers: dict[str, str] = field(default_factory=dict)  # token -> owner whose data sets it may write
    written: dict[str, bytes] = field(default_factory=dict)  # `owner/name/path` -> content
    private: dict[str, bool] = field(default_factory=dict)  # data sets that were made here

    def __enter__(self) -> LoopbackHub:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn = f"http://localhost:{self.server.server_port}/cdn"  # another host name: another origin
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self, part: str) -> list[tuple[str, str, str, bool]]:
        """Requests whose path contains `part`."""
        return [r for r in self.requests if part in r[1]]


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create" or path.startswith("/api/datasets/") and ("/preupload/" in path or "/commit/" in path):
            self.hub.requests.append((self.command, path, "", "authorization" in self.headers))
            return self._write(path, body)
        return self._answer()

    def _write(self, path: str, body: bytes) -> None:
        """A data set made, and files committed to it, as `create_repo` and `upload_file` ask for it."""
        owner = self.hub.writers.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if owner is None:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo_id = f"{asked.get('organization') or owner}/{asked['name']}"
            if repo_id.split("/")[0] != owner:
                return self._refuse(403, "", "You don't have the rights to create a dataset under this namespace")
            self.hub.private.setdefault(repo_id, asked.get("visibility") == "private" or bool(asked.get("private")))
            made = {"url": f"{self.hub.endpoint}/datasets/{repo_id}", "name": repo_id, "id": "0" * 24}
            return self._send(200, json.dumps(made).encode(), "application/json")
        repo_id, _, rest = path.removeprefix("/api/datasets/").partition("/preupload/" if "/preupload/" in path else "/commit/")
        if "/preupload/" in path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for f in json.loads(body)["files"]]  # fmt: skip
            return self._send(200, json.dumps({"files": files}).encode(), "application/json")
        for line in body.decode().splitlines():
            value = json.loads(line)
            if value["key"] == "file":
                self.hub.written[f"{repo_id}/{value['value']['path']}"] = base64.b64decode(value["value"]["content"])
        commit = {"success": True, "commitOid": "1" * 40, "commitUrl": f"{self.hub.endpoint}/datasets/{repo_id}/commit/{'1' * 40}"}
        return self._send(200, json.dumps(commit).encode(), "application/json")

    def _answer(self) -> None:
        hub, url = self.hub, urlsplit(self.path)
        path = unquote(url.path)
        hub.requests.append((self.command, path, self.headers.get("Range", ""), "authorization" in self.headers))
        time.sleep(hub.delay)
        if hub.no_hub:
            return self._send(200, b"<html>Please log in to the wireless network</html>", "text/html")
        for api in ("/api/models/", "/api/datasets/"):
            if path.startswith(api):
                return self._info(path.removeprefix(api), parse_qs(url.query))
        time.sleep(hub.stall_resolve)
        if path.startswith("/cdn/"):
            sha, _, name = path.removeprefix("/cdn/").partition("/")
            folder = next((f for r in hub.repos.values() if (f := r.folder(sha)) is not None), None)
            return self._file(folder / name, {}) if folder else self._refuse(404, "EntryNotFound")
        return self._resolve(path.removeprefix("/datasets").lstrip("/"))

    def _repo(self, repo_id: str) -> Repo | None:
        repo = self.hub.repos.get(repo_id)
        known = "authorization" in self.headers
        if repo is None or (repo.access == "private" and not known):
            self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
            return None
        if repo.access == "forbidden":
            self._refuse(403, "", "your token has no read permission")
            return None
        if repo.access == "disabled":
            self._refuse(403, "", "Access to this resource is disabled.")
            return None
        return repo

    def _info(self, rest: str, query: dict[str, list[str]]) -> None:
        for listing in ("/tree/", "/paths-info/"):
            if listing in rest:
                return self._tree(*rest.split(listing, 1))
        repo_id, _, revision = rest.partition("/revision/")
        repo = self._repo(repo_id)
        if repo is None:
            return None
        commit, folder = repo.commit(revision or "main"), repo.folder(revision or "main")
        if commit is None or folder is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        names = [(str(p.relative_to(folder)), p.stat().st_size) for p in sorted(folder.rglob("*")) if p.is_file()]
        siblings = [
            {"rfilename": n, **({"size": size} if "blobs" in query else {})}
            for n, size in [*names, *((n, 10) for n in repo.extra_names)]
        ]
        gated = "manual" if repo.access == "gated" else False
        info = {"id": repo_id, "sha": commit, "private": repo.access == "private", "gated": gated,
                "siblings": siblings, "tags": []}  # fmt: skip
        return self._send(200, json.dumps(info).encode(), "application/json")

    def _tree(self, repo_id: str, rest: str) -> None:
        """What lies directly in a folder of a revision."""
        repo = self._repo(repo_id)
        revision, _, inside = rest.partition("/")
        folder = repo.folder(revision) if repo is not None else None
        if folder is None:
            return None if repo is None else self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if not (folder / inside).is_dir():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        found = [
            {
                "type": "directory" if path.is_dir() else "file",
                "path": str(path.relative_to(folder)),
                "size": path.stat().st_size,
                "oid": "0" * 40,
            }
            for path in sorted((folder / inside).iterdir())
        ]
        return self._send(200, json.dumps(found).encode(), "application/json")

    def _resolve(self, path: str) -> None:
        repo_id, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        repo = self._repo(repo_id)
        if repo is None:
            return None
        if repo.access == "gated":
            return self._refuse(403, "GatedRepo", f"Access to model {repo_id} is restricted.")
        commit, folder = repo.commit(revision), repo.folder(revision)
        if commit is None or folder is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        file = folder / name
        if not file.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        size = file.stat().st_size
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(f"{commit}{name}".encode()).hexdigest()}"'}
        if size > self.hub.lfs_above:
            place = {"Location": f"{self.hub.cdn}/{commit}/{name}"}
            linked = {"X-Linked-Size": str(size), "X-Linked-Etag": headers["ETag"]}
            return self._send(302, b"", "text/plain", {**headers, **linked, **place})
        return self._file(file, headers)

    def _file(self, file: Path, headers: dict[str, str]) -> None:
        size = file.stat().st_size
        start, end, status = 0, size, 200
        wanted = self.headers.get("Range", "")
        if wanted and self.hub.honours_ranges:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            start, end, status = int(low), min(int(high) + 1 if high else size, size), 206
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(end - start), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with open(file, "rb") as content:
            content.seek(start)
            left = end - start
            while left > 0:
                part = content.read(1 if self.hub.drip else min(left, 65536))
                try:
                    self.wfile.write(part)
                except OSError:  # the reader has seen enough and hung up
                    self.close_connection = True
                    return
                self.hub.body_bytes += len(part)
                left -= len(part)
                if self.hub.drip:
                    time.sleep(0.05)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.hub.body_bytes += len(body)
