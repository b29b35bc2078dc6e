"""A server of the OpenAI protocol as vLLM speaks it, on this machine, with the faults that servers have.

`with openai_server(faults=Faults(0.4)) as server:` serves `server.url` (it ends in /v1). The same prompt and seed get
the same answer, whatever failed before. Which request fails is decided by its prompt, seed and how often it came, so
that it is the same in every run and at any concurrency.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

STATUSES = {"500": 500, "502": 502, "503": 503, "504": 504}
RETRIED = ("429", "429_date", *STATUSES, "reset", "cut", "cut_early", "json", "empty", "null", "html", "inline", "slow")
"""Faults that another try can mend. 429_date: Retry-After is a date; cut, cut_early: the stream breaks off, before or
after its first piece; json: an event is no JSON; empty: no choices; null: content null; html: a web page with status
200; inline: an error object inside the stream; slow: `slow_seconds` before the first byte."""
_PIECE = re.compile(r"\s*\S{1,4}|\s+")
_WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "seven",
    "苹果",
    "河流",
    "石头",
    "three",
    "green",
    "window",
    "十二",
    "paper",
    "light",
    "north",
    "北方",
]


@dataclass(frozen=True)
class Faults:
    """share of the requests fail, in one of `kinds`, but at most `in_a_row` times with the same prompt and seed."""

    share: float
    kinds: Sequence[str] = tuple(kind for kind in RETRIED if kind != "slow")
    in_a_row: int = 5
    seed: int = 0

    def __call__(self, key: str, attempt: int) -> str | None:
        drawn = Random(f"{self.seed} {key} {attempt}")
        return drawn.choice(self.kinds) if attempt < self.in_a_row and drawn.random() < self.share else None


@dataclass
class OpenAIServer:
    """requests: the bodies of all completions asked for, in order, with `route`, `key`, `attempt` and `fault`.
    most_at_once: of answers being made. abandoned: clients that hung up before the end."""

    models: Sequence[str]
    answer: Callable[[Mapping[str, Any]], str]
    fault: Callable[[str, int], str | None]
    api_key: str | None
    delay: float
    slow_seconds: float
    retry_after: float
    thinking: str | None
    refuses: Sequence[str]
    context: int | None
    usage: bool
    streams: bool
    models_status: int
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    abandoned: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def faults(self) -> Counter[str]:
        return Counter(request["fault"] for request in self.requests if request["fault"])

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def noted(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        key = hashlib.sha256(json.dumps([prompt_of(body), body.get("seed")]).encode()).hexdigest()[:16]
        with self._lock:
            attempt = sum(request["key"] == key for request in self.requests)
            request = {**body, "route": route, "key": key, "attempt": attempt, "fault": self.fault(key, attempt)}
            self.requests.append(request)
        return request


def prompt_of(body: Mapping[str, Any]) -> str:
    """The prompt, or the messages as one text."""
    if "prompt" in body:
        return str(body["prompt"])
    return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in body.get("messages", []))


def drawn_answer(body: Mapping[str, Any]) -> str:
    """Words drawn by the prompt and the seed, by the prompt alone at temperature 0."""
    seed = body.get("seed") if body.get("temperature", 1.0) else None
    drawn = Random(json.dumps([prompt_of(body), seed]))  # ASCII: a seed can't be half a surrogate pair
    return " ".join(drawn.choice(_WORDS) for _ in range(drawn.randint(1, 12)))


@contextlib.contextmanager
def openai_server(
    *,
    faults: Callable[[str, int], str | None] | Sequence[str | None] | None = None,
    models: Sequence[str] = ("demo",),
    answer: Callable[[Mapping[str, Any]], str] = drawn_answer,
    api_key: str | None = None,
    delay: float = 0.0,
    slow_seconds: float = 0.5,
    retry_after: float = 0.0,
    thinking: str | None = None,
    refuses: Sequence[str] = (),
    context: int | None = None,
    usage: bool = True,
    streams: bool = True,
    models_status: int = 200,
) -> Iterator[OpenAIServer]:
    """faults: Faults, a function of a request's key and number, or kinds for the first requests one by one. delay:
    seconds an answer takes. thinking: `field` (reasoning_content) or `tag` (<think>), unless the request switches it
    off. refuses: fields that get status 400. context: characters of prompt beyond which it is too long. usage,
    streams: whether the server can do that. models_status: what the list of models is answered with."""
    if faults is None or callable(faults):
        fault = faults or (lambda key, attempt: None)
    else:
        script = iter(faults)
        fault = lambda key, attempt: next(script, None)  # noqa: E731
    served = OpenAIServer(models, answer, fault, api_key, delay, slow_seconds, retry_after, thinking, refuses, context,
                          usage, streams, models_status)  # fmt: skip
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": served}))
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # many small writes, each waiting 40 ms for the client's delayed acknowledgement
    served: OpenAIServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self._denied():
            return None
        if self.path != "/v1/models":
            return self._json(404, {"detail": "Not Found"})
        if self.served.models_status != 200:
            return self._json(self.served.models_status, {"detail": "no list"})
        listed = [{"id": name, "object": "model", "owned_by": "vllm"} for name in self.served.models]
        return self._json(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._denied():
            return None
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            return self._json(404, {"detail": "Not Found"})
        self.served.connections.add(self.client_address)
        self.served.headers.append({key.lower(): value for key, value in self.headers.items()})
        try:
            return self._complete(self.served.noted(self.path, body))
        except OSError:
            self.served.abandoned += 1
            raise

    def _denied(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.served.api_key is None or given == f"Bearer {self.served.api_key}":
            return False
        message = f"Incorrect API key provided: {given}. You can find your key in your account."
        self._json(401, {"error": {"message": message, "code": "invalid_api_key"}})
        return True

    def _complete(self, body: dict[str, Any]) -> None:
        served, fault = self.served, body["fault"]
        if body.get("model") not in served.models:
            return self._json(
                404, {"error": {"message": f"The model `{body.get('model')}` does not exist.", "code": 404}}
            )
        for name in served.refuses:
            if name in body:
                message = f"Unrecognized request argument supplied: {name}"
                if name == "max_tokens":
                    message = (
                        "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
                    )
                return self._json(400, {"error": {"message": message, "type": "invalid_request_error", "param": None}})
        if served.context is not None and len(prompt_of(body)) > served.context:
            message = (
                f"This model's maximum context length is {served.context} tokens. However, your request has "
                f"{len(prompt_of(body))} input tokens. Please reduce the length of the input messages."
            )
            return self._json(400, {"object": "error", "message": message, "type": "BadRequestError", "code": 400})
        if fault in STATUSES:
            return self._json(STATUSES[fault], {"error": {"message": "the engine is unwell", "code": STATUSES[fault]}})
        if fault in ("429", "429_date"):
            date = email.utils.formatdate(time.time() + served.retry_after, usegmt=True)
            wait = date if fault == "429_date" else f"{served.retry_after:g}"
            return self._json(429, {"error": {"message": "Too many requests"}}, {"Retry-After": wait})
        if fault == "400":
            return self._json(400, {"error": {"message": "this can't be answered", "code": 400}})
        if fault == "reset":
            return self._reset()
        if fault == "html":
            return self._send(200, b"<html><body>Welcome</body></html>", "text/html")
        with served.counted():
            time.sleep(served.slow_seconds if fault == "slow" else served.delay)
        return self._answer(body, fault)

    def _answer(self, body: dict[str, Any], fault: str | None) -> None:
        served = self.served
        text = served.answer(body)
        thought = ""
        switched = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        if served.thinking and switched:
            thought = "Let me think about it. 让我想想。"
            if served.thinking == "tag":
                text, thought = f"<think>\n{thought}\n</think>\n\n{text}", ""
        pieces = [("reasoning_content", piece) for piece in _PIECE.findall(thought)]
        pieces += [("content", piece) for piece in _PIECE.findall(text)]
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10_000
        finish = "length" if len(pieces) > limit else "stop"
        pieces = pieces[:limit]
        counts = {"prompt_tokens": len(_PIECE.findall(prompt_of(body))), "completion_tokens": len(pieces) + 1}
        if finish == "length":
            counts["completion_tokens"] -= 1
        counts["total_tokens"] = sum(counts.values())
        chat = body["route"].endswith("/chat/completions")
        if fault == "null":
            pieces = []
            counts["completion_tokens"] = 7
        if not (body.get("stream") and served.streams):
            message = {"role": "assistant", "content": None if fault == "null" else _joined(pieces, "content")}
            if thought:
                message["reasoning_content"] = _joined(pieces, "reasoning_content")
            choice = {"message": message} if chat else {"text": message["content"]}
            whole = {"choices": [] if fault == "empty" else [{"index": 0, **choice, "finish_reason": finish}]}
            return self._json(200, {**whole, "model": body["model"], **({"usage": counts} if served.usage else {})})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fault == "cut_early":
            return self._cut()
        events: list[Any] = []
        if chat:
            events.append(_event({"delta": {"role": "assistant", "content": None}}))
        events += [_event({"delta": {kind: piece}} if chat else {"text": piece}) for kind, piece in pieces]
        if fault == "empty":
            events = []
        else:
            events.append(_event({"delta": {}} if chat else {"text": "" if fault != "null" else None}, finish))
        if served.usage and (body.get("stream_options") or {}).get("include_usage"):
            events.append({"choices": [], "usage": counts})
        for number, event in enumerate(events):
            if fault == "cut" and number == len(events) // 2:
                return self._cut()
            if fault == "inline" and number == len(events) // 2:
                return self._chunks(
                    'data: {"error": {"message": "the engine died", "code": 500}}\n\n', "data: [DONE]\n\n", ""
                )
            if fault == "json" and number == len(events) // 2:
                return self._chunks('data: {"choices": [{"delta": {"con\n\n', "data: [DONE]\n\n", "")
            self._chunks(f"data: {json.dumps({'model': body['model'], **event}, ensure_ascii=False)}\n\n")
        return self._chunks("data: [DONE]\n\n", "")

    def _chunks(self, *texts: str) -> None:
        for text in texts:
            data = text.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _cut(self) -> None:
        """Hang up without the end of the body."""
        self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def _json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


def _event(choice: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, **choice, "finish_reason": finish}]}


def _joined(pieces: Sequence[tuple[str, str]], kind: str) -> str:
    return "".join(piece for one, piece in pieces if one == kind)
