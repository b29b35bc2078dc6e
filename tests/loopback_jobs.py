"""A Hub on this machine that runs jobs, for tests: real HTTP on a loopback port, as huggingface_hub asks for it.

Account, repositories (made, looked at, committed to, read), and jobs: hardware, start, list by label, look, cancel,
metrics, output as server-sent events from the beginning each time. Faults are queued by path: `hub.fail("/api/jobs/me",
500)` answers the next such request so. Nothing is run: a test moves `hub.jobs[...]` on by hand.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

FINE = {"role": "fineGrained", "fineGrained": {"global": [], "scoped": [{"entity": {"name": "me"}, "permissions": ["repo.write", "job.write"]}]}}
HARDWARE = [
    {"name": "t4-small", "prettyName": "Nvidia T4 - small", "cpu": "4 vCPU", "ram": "15 GB", "ephemeralStorage": "50 GB",
     "accelerator": {"type": "gpu", "model": "T4", "quantity": "1", "vram": "16 GB", "manufacturer": "Nvidia"},
     "unitCostMicroUSD": 6667, "unitCostUSD": 0.006667, "unitLabel": "minute"},
    {"name": "l4x4", "prettyName": "4x Nvidia L4", "cpu": "48 vCPU", "ram": "186 GB", "ephemeralStorage": "3200 GB",
     "accelerator": {"type": "gpu", "model": "L4", "quantity": "4", "vram": "96 GB", "manufacturer": "Nvidia"},
     "unitCostMicroUSD": 63333, "unitCostUSD": 0.063333, "unitLabel": "minute"},
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "ephemeralStorage": "50 GB",
     "accelerator": None, "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute"},
]  # fmt: skip


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Job:
    """spec: as it was asked for, secrets included. lines: its output so far. cut: of the next stream, how many events it
    sends before the connection breaks; None: it ends well."""

    id: str
    namespace: str
    spec: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    running: int | None = None
    started: str | None = None
    finished: str | None = None
    lines: list[str] = field(default_factory=list)
    cut: int | None = None
    created: str = field(default_factory=now)

    def begin(self) -> None:
        self.stage, self.started, self.running = "RUNNING", now(), 0

    def end(self, stage: str = "COMPLETED", message: str | None = None, running: int = 90) -> None:
        self.stage, self.message, self.running, self.finished = stage, message, running, now()

    def info(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "id": self.id, "createdAt": self.created, "startedAt": self.started, "finishedAt": self.finished,
            "dockerImage": spec.get("dockerImage"), "command": spec["command"], "arguments": [],
            "environment": spec["environment"], "secrets": dict.fromkeys(spec.get("secrets", {}), "***"),
            "flavor": spec["flavor"], "labels": spec.get("labels"), "owner": {"id": "1", "name": self.namespace, "type": "user"},
            "status": {"stage": self.stage, "message": self.message},
            "durations": {"schedulingSecs": 1, "runningSecs": self.running, "totalSecs": 2},
        }  # fmt: skip


@dataclass
class LoopbackJobs:
    """`with LoopbackJobs() as hub:` serves at `hub.endpoint` until the block ends. tokens: token -> owner."""

    tokens: dict[str, str]
    auth: dict[str, Any] = field(default_factory=lambda: FINE)
    hardware: list[dict[str, Any]] = field(default_factory=lambda: HARDWARE)
    jobs: dict[str, Job] = field(default_factory=dict)
    repos: dict[str, bool] = field(default_factory=dict)  # `models/owner/name` -> private
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # the same -> path -> content
    faults: list[tuple[str, str, int | Callable[[], None], str, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    delay: float = 0.0
    streams: int = 0  # open ones
    over: bool = False

    def fail(self, part: str, status: int | Callable[[], None], message: str = "", *, method: str = "", **headers: str) -> None:
        """The next request whose path contains `part` gets `status`; a callable is called, and the job starts all the same
        before the connection is dropped."""
        self.faults.append((method, part, status, message, headers))

    def asked(self, part: str, method: str = "") -> int:
        return sum(1 for m, path in self.requests if part in path and m.startswith(method))

    def __enter__(self) -> LoopbackJobs:
        class Handler(_Handler):
            hub = self

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.server.shutdown()
        self.server.server_close()


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted((name, hashlib.sha1(content).hexdigest()) for name, content in files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackJobs
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: 40 ms each time otherwise

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        body = self._body()
        self.hub.bodies.append(body)
        self._answer(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _answer(self, body: bytes) -> None:
        hub, url = self.hub, urlsplit(self.path)
        path = unquote(url.path)
        hub.requests.append((self.command, path))
        time.sleep(hub.delay)
        for fault in hub.faults:
            method, part, status, message, headers = fault
            if part in path and self.command.startswith(method):
                hub.faults.remove(fault)
                if callable(status):
                    status()
                    self._jobs(path.removeprefix("/api/jobs/").split("/"), {}, body, silent=True)
                    self.close_connection = True
                    return None
                return self._refuse(status, message, headers)
        if path == "/api/jobs/hardware":
            return self._json(hub.hardware)
        owner = hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if owner is None:
            return self._refuse(401, "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            auth = {"type": "access_token", "accessToken": {"displayName": "test", **hub.auth}}
            return self._json({"type": "user", "name": owner, "orgs": [{"name": "team"}], "auth": auth})
        if path == "/api/validate-yaml":  # of a model card
            return self._json({"errors": [], "warnings": []})
        if path.startswith("/api/jobs/"):
            return self._jobs(path.removeprefix("/api/jobs/").split("/"), parse_qs(url.query), body)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if "/resolve/" in path:
            return self._resolve(path)
        return self._repo(path.removeprefix("/api/"), body)

    # repositories

    def _create(self, asked: dict[str, Any]) -> None:
        kind = asked.get("type") or "model"
        name = f"{asked.get('organization')}/{asked['name']}"
        key = f"{kind}s/{name}"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if key in self.hub.repos:
            return self._send(409, json.dumps({"error": "You already created this repo", "url": url}).encode(), "application/json")
        self.hub.repos[key] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.files[key] = {}
        return self._json({"url": url, "name": name, "id": "0" * 24})

    def _repo(self, path: str, body: bytes) -> None:
        parts = path.split("/")
        key, rest = "/".join(parts[:3]), parts[3:]
        if key not in self.hub.repos:
            return self._refuse(404, "Repository not found", {"X-Error-Code": "RepoNotFound"})
        files = self.hub.files[key]
        if rest[:1] == ["preupload"]:
            told = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in json.loads(body)["files"]]
            return self._json({"files": told})
        if rest[:1] == ["commit"]:
            for line in body.decode().splitlines():
                value = json.loads(line)
                if value["key"] == "file":
                    files[value["value"]["path"]] = base64.b64decode(value["value"]["content"])
            sha = commit_of(files)
            return self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{key}/commit/{sha}"})
        if rest[:1] == ["tree"]:
            return self._json([{"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in files.items()])
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        info = {"id": "/".join(parts[1:3]), "sha": commit_of(files), "private": self.hub.repos[key], "siblings": siblings, "tags": []}
        return self._json(info)

    def _resolve(self, path: str) -> None:
        repo, _, rest = path.partition("/resolve/")
        key = repo.strip("/") if repo.startswith("/datasets/") else f"models{repo}"
        content = self.hub.files.get(key, {}).get(rest.partition("/")[2])
        if content is None:
            return self._refuse(404, "Entry not found", {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": commit_of(self.hub.files[key]), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        return self._send(200, content, "application/octet-stream", headers)

    # jobs

    def _jobs(self, parts: list[str], query: dict[str, list[str]], body: bytes, silent: bool = False) -> None:
        hub, namespace = self.hub, parts[0]
        if len(parts) == 1 and self.command == "POST":
            job = Job(f"{len(hub.jobs) + 1:024x}", namespace, json.loads(body))
            hub.jobs[job.id] = job
            return None if silent else self._json(job.info())
        if len(parts) == 1:
            wanted = [label.partition("=")[::2] for label in query.get("label", [])]
            found = [j for j in hub.jobs.values() if all((j.spec.get("labels") or {}).get(k) == v for k, v in wanted)]
            return self._json([j.info() for j in found if j.namespace == namespace])
        job = hub.jobs.get(parts[1])
        if job is None or job.namespace != namespace:
            return self._refuse(404, "Job not found")
        what = parts[2] if len(parts) > 2 else ""
        if what == "cancel":
            if job.finished:
                return self._refuse(400, "Job is not running")
            job.end("CANCELED", running=job.running or 0)
            return self._json(job.info())
        if what == "logs":
            return self._stream(job)
        if what == "metrics":
            if job.stage != "RUNNING":
                return self._refuse(406, "Job is not running")
            return self._send(200, b'data: {"cpu_usage_pct": 7, "gpus": {}}\n\n', "text/event-stream")
        return self._json(job.info())

    def _stream(self, job: Job) -> None:
        """All of the output from its beginning, then what comes, until the job is over."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        cut, job.cut = job.cut, None
        sent = 0
        self.hub.streams += 1
        try:
            self._event("===== Job started at 2026-11-27 =====")
            while not self.hub.over:
                over = bool(job.finished)
                while sent < len(job.lines):
                    if cut is not None and sent >= cut:
                        self.close_connection = True
                        self.wfile.flush()
                        self.connection.shutdown(2)  # in the middle of a chunked body
                        return
                    self._event(job.lines[sent])
                    sent += 1
                if over:
                    self.wfile.write(b"0\r\n\r\n")
                    return
                time.sleep(0.02)
        except OSError:  # the reader hung up
            self.close_connection = True
        finally:
            self.hub.streams -= 1

    def _event(self, text: str) -> None:
        block = b"data: " + json.dumps({"timestamp": now(), "data": text}).encode() + b"\n\n"
        self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.wfile.flush()

    # answers

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        held = {"X-Error-Message": message.encode("ascii", "replace").decode(), **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), "application/json", held)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:  # the one who asked has gone
            self.close_connection = True
