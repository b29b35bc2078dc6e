"""What an OpenAI-compatible server sends back: a stream of events or one JSON object, whole or broken.

https://platform.openai.com/docs/api-reference/chat-streaming and what vLLM, llama.cpp and TGI make of it: an error
inside a stream, a stream that ends without `finish_reason`, one object where a stream was asked for, reasoning beside
the content (`reasoning_content`, `reasoning`) or in it (`<think>`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

MAX_ERROR_BYTES = 65_536
DRAIN_SECONDS = 0.5  # what follows [DONE] is the end of the body; reading it lets the connection be used again
# A template may open the block in the prompt, so that the answer holds its end alone.
_THINKING = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)
_OPEN_THINKING = re.compile(r"\A\s*<think>(.*)\Z", re.DOTALL)


class BrokenReply(Exception):
    """The reply breaks off or is no reply of this protocol. Carries one line."""


class ErrorReply(Exception):
    """The server says why not. status: of HTTP, or the one inside a stream. code, param: as OpenAI names them."""

    def __init__(
        self, status: int, message: str, *, code: str = "", param: str = "", wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.wait = status, message, code, param, wait


@dataclass
class Reply:
    """One completion as it grows. finish: `stop`, `length`, another word of the server, None while it is open."""

    parts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    finish: str | None = None
    done: bool = False
    content_seen: bool = False
    usage: Mapping[str, Any] = field(default_factory=dict)

    def add(self, piece: Any) -> None:
        """Take in one event or the whole object. Raises BrokenReply, ErrorReply."""
        if not isinstance(piece, Mapping):
            raise BrokenReply("a piece of the answer is no JSON object")
        if piece.get("error") is not None or piece.get("object") == "error":
            raise error_reply(500, piece)
        if isinstance(piece.get("usage"), Mapping):
            self.usage = piece["usage"]
        choices = piece.get("choices")
        if not isinstance(choices, list):
            raise BrokenReply("a piece of the answer has no choices")
        if not choices:  # the event with the usage has none
            return
        choice = choices[0]
        if not isinstance(choice, Mapping):
            raise BrokenReply("a choice is no JSON object")
        holder = next((choice[name] for name in ("delta", "message") if isinstance(choice.get(name), Mapping)), choice)
        text = holder.get("text" if holder is choice else "content")
        if isinstance(text, list):
            text = "".join(
                part["text"] for part in text if isinstance(part, Mapping) and isinstance(part.get("text"), str)
            )
        if isinstance(text, str):
            self.parts.append(text)
            self.content_seen = True
        thought = holder.get("reasoning_content") or holder.get("reasoning")
        if isinstance(thought, str):
            self.thoughts.append(thought)
        if choice.get("finish_reason") is not None:
            self.finish = str(choice["finish_reason"])

    def check(self) -> None:
        """Raise BrokenReply where this is no finished answer."""
        if not self.content_seen and not self.thoughts and self.finish is None:
            raise BrokenReply(
                "the answer has no choices" if self.done else "the stream broke off before its first piece"
            )
        if self.finish is None and not self.done:
            raise BrokenReply("the stream broke off")
        # An end token at once is an answer without a piece; it is told from none by the one token that was counted.
        empty = self.usage.get("completion_tokens") in (0, 1) and self.finish == "stop"
        if not self.content_seen and not self.thoughts and not empty:
            raise BrokenReply(f"the answer has no content (finish_reason {self.finish})")

    def text_and_thinking(self) -> tuple[str, str]:
        """The answer without its reasoning, and the reasoning."""
        text, thinking = without_thinking("".join(self.parts))
        return text, "".join(self.thoughts) + thinking


def without_thinking(text: str) -> tuple[str, str]:
    """An answer without the reasoning written in front of it, and the reasoning."""
    if (match := _THINKING.match(text)) or (match := _OPEN_THINKING.match(text)):
        return text[match.end() :], match[1]
    return text, ""


def error_reply(status: int, body: Any, wait: float | None = None) -> ErrorReply:
    """From any of the shapes in use: {"error": {...}}, {"error": "..."}, {"message": ...}, {"detail": [...]}."""
    if not isinstance(body, Mapping):
        return ErrorReply(status, str(body), wait=wait)
    error = body.get("error") if body.get("error") is not None else body
    if not isinstance(error, Mapping):
        return ErrorReply(status, str(error), code=str(body.get("error_type") or ""), wait=wait)
    message = error.get("message") or error.get("detail") or error.get("type") or json.dumps(error)[:MAX_ERROR_BYTES]
    code, param = error.get("code"), error.get("param")
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    said = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    code = " ".join(str(word) for word in (error.get("code"), error.get("type")) if word)
    return ErrorReply(status, said, code=code, param=str(param or ""), wait=wait)


async def read_reply(
    response: httpx2.Response, reply: Reply, *, waited: Callable[[], None], most_bytes: int, wait: float | None
) -> None:
    """Read a response to its end into `reply`, which has what came also where this fails. waited: called at each
    piece. wait: what Retry-After says, for ErrorReply.

    Raises BrokenReply, ErrorReply, and what httpx2 raises where the connection breaks.
    """
    if response.status_code != 200:
        raise error_reply(response.status_code, await _error_body(response), wait)
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream":
        await _read_stream(response, reply, waited, most_bytes)
    else:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            waited()
            body += chunk
            if len(body) > most_bytes:
                raise BrokenReply(f"the answer has more than {most_bytes} bytes")
        reply.add(_parsed(body.decode("utf-8", "replace")))
        reply.done = True
    reply.check()


async def _read_stream(response: httpx2.Response, reply: Reply, waited: Callable[[], None], most_bytes: int) -> None:
    import httpx2

    size = 0
    async with contextlib.aclosing(_events(httpx2.EventSource(response))) as events:
        async for event in events:
            waited()
            size += len(event.data)
            if size > most_bytes:
                raise BrokenReply(f"the answer has more than {most_bytes} bytes")
            if event.data.strip() == "[DONE]":
                reply.done = True
                with contextlib.suppress(TimeoutError, httpx2.HTTPError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        async for _ in events:
                            pass
                break
            reply.add(_parsed(event.data))


async def _events(source: httpx2.EventSource) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
    async for event in source:
        yield event


async def _error_body(response: httpx2.Response) -> Any:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if "<html" in text[:1000].lower():
            return "a web page"
        return text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenReply("the answer is no valid JSON") from None
