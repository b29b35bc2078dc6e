"""Requests to endpoints, a bounded number at once, each sent again until it is answered or can't be.

One thread with an event loop, so that a cancelled request is closed at once and its server stops generating. What is
sent again: 429 (after the time the server asks for), 5xx, broken connections, timeouts, streams that break off,
replies that are no replies. A request is given up only when the server has answered another one since it was sent;
where it has not, a request of one token says whose fault it is, and after a while without an answer `EndpointGone`
ends the run.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pipeline.candidates.candidate import Note
from pipeline.candidates.completion_reply import BrokenReply, ErrorReply, Reply, read_reply
from pipeline.candidates.endpoint import CONFIG, Answer, Ask, Endpoint, EndpointGone, estimated_tokens, said_by
from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    import httpx2

JOIN_SECONDS = 2.0
_LIMITED = (429,)
_FATAL = (401, 402)  # key or credit: nothing else will be answered either
_AGAIN = (408, 409, 425)
_UNKNOWN_FIELD = re.compile(
    r"unrecogni[sz]ed|unsupported|unknown|unexpected|extra|invalid|forbidden"
    r"|not (?:permitted|allowed|supported|valid|known)",
    re.IGNORECASE,
)

_Kind = Literal["again", "limited", "refused", "too_long", "fatal"]


class RequestFailed(Exception):
    """One request has no answer. problem: `endpoint_failed` or `prompt_too_long`, as of a Candidate."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem, self.detail = problem, detail


class _Failed(Exception):
    def __init__(self, kind: _Kind, detail: str, wait: float | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.wait = kind, detail, wait


class RequestPool:
    """Sends requests while it is entered; leaving it closes those in flight.

    concurrency: requests in flight at once, of all endpoints together; those that wait to be sent again don't count.
    note: gets a line where a server refuses a field.
    """

    def __init__(self, concurrency: int, *, note: Note | None = None, lang: str = "en") -> None:
        most = load_config(CONFIG)["most_concurrency"]
        if not 1 <= concurrency <= most:
            raise Refused("endpoint_concurrency", value=concurrency, most=most)
        self.concurrency, self._note, self._lang = concurrency, note, lang
        self.slots = asyncio.Semaphore(concurrency)
        self._servers: dict[int, _Server] = {}
        self._thread = threading.Thread(target=self._run, name="endpoint requests", daemon=True)
        self.spent = 0.0  # by answers that broke off; those that came whole are the caller's to count

    def __enter__(self) -> RequestPool:
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(JOIN_SECONDS)

    def submit(self, endpoint: Endpoint, ask: Ask) -> Future[Answer]:
        """The answer, or RequestFailed, or EndpointGone."""
        return asyncio.run_coroutine_threadsafe(self._answer(endpoint, ask), self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=JOIN_SECONDS / 2))
            for server in self._servers.values():
                self._loop.run_until_complete(server.client.aclose())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _answer(self, endpoint: Endpoint, ask: Ask) -> Answer:
        if id(endpoint) not in self._servers:
            self._servers[id(endpoint)] = _Server(endpoint, self)
        return await self._servers[id(endpoint)].answer(ask)

    def say(self, entry: str, **params: Any) -> None:
        if self._note is not None:
            self._note(Sentence(entry, params, words="candidates").said(self._lang))


class _Server:
    """What is known of an endpoint while requests are sent to it. Lives in the pool's loop."""

    def __init__(self, endpoint: Endpoint, pool: RequestPool) -> None:
        import httpx2

        self.endpoint, self.pool, self.limits = endpoint, pool, endpoint.limits
        timeout = httpx2.Timeout(None, connect=self.limits.connect)  # of reading: see _post
        self.client: httpx2.AsyncClient = httpx2.AsyncClient(
            headers=endpoint.headers(),
            timeout=timeout,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=pool.concurrency),
            trust_env=endpoint.trust_env,
        )
        self.answered = -math.inf  # when it last gave an answer
        self.sign = time.monotonic()  # when it last gave a piece of one
        self.resume_at = 0.0  # until when it asked for a pause
        self.paused = 0.0  # of the time since `sign`, what it asked for
        self.gone: EndpointGone | None = None
        self.probing: asyncio.Task[_Kind | None] | None = None

    async def answer(self, ask: Ask) -> Answer:
        attempts = limited = 0
        while True:
            await self._wait_out(ask, attempts + limited)
            sent = math.inf
            try:
                async with self.pool.slots:
                    sent = time.monotonic()
                    if self.gone is not None:
                        raise self.gone
                    answer = await self._once(ask)
                self.answered = time.monotonic()
                return answer
            except _Failed as failed:
                if failed.kind == "too_long":
                    raise RequestFailed("prompt_too_long", failed.detail) from None
                if failed.kind == "fatal":
                    raise self._end("endpoint_refuses", failed.detail) from None
                if failed.kind == "limited":
                    limited += 1
                    self._pause(failed)
                else:
                    attempts += 1
                spent = attempts >= self.limits.attempts or limited >= self.limits.rate_limited_attempts
                if failed.kind == "refused" or spent:
                    other = None if self.answered > sent else await self._probed(ask)
                    if other is None:
                        raise RequestFailed("endpoint_failed", failed.detail) from None
                    if failed.kind == other == "refused":
                        raise self._end("endpoint_refuses", failed.detail) from None
                # Pieces without an answer keep a slow server alive, but not one that breaks off every time.
                silent = time.monotonic() - self.sign - self.paused > self.limits.gone_after
                if silent or attempts >= 3 * self.limits.attempts or limited >= 3 * self.limits.rate_limited_attempts:
                    raise self._end("endpoint_gone", failed.detail) from None
                if failed.kind != "limited" or failed.wait is None:
                    await asyncio.sleep(self._backoff(ask, attempts + limited))

    async def _wait_out(self, ask: Ask, attempts: int) -> None:
        """Until the pause that the server asked for is over; then the requests come one after the other."""
        while self.gone is None and (left := self.resume_at - time.monotonic()) > 0:
            spread = Random(f"{ask.seed} {attempts} pause").random() * min(1.0, self.limits.base)
            await asyncio.sleep(left + spread)

    def _pause(self, failed: _Failed) -> None:
        if failed.wait is None:
            return
        if failed.wait > self.limits.most_retry_after:
            raise self._end("endpoint_pause", failed.detail, minutes=math.ceil(failed.wait / 60)) from None
        now = time.monotonic()
        self.paused += max(0.0, now + failed.wait - max(now, self.resume_at))
        self.paused = min(self.paused, self.limits.most_retry_after)
        self.resume_at = max(self.resume_at, now + failed.wait)

    def _backoff(self, ask: Ask, attempt: int) -> float:
        whole = min(self.limits.most, self.limits.base * 2.0 ** min(attempt - 1, 40))
        return whole * (1 - self.limits.jitter * Random(f"{ask.seed} {attempt}").random())

    def _end(self, entry: str, detail: str, **params: Any) -> EndpointGone:
        self.gone = self.gone or EndpointGone(entry, url=self.endpoint.url, detail=detail, **params)
        return self.gone

    async def _probed(self, ask: Ask) -> _Kind | None:
        """What a request of one token with the same fields fails of, None where it is answered. Sent once for all that
        wait for it."""
        if self.probing is None or self.probing.done():
            prompt: Any = "Hi" if isinstance(ask.prompt, str) else [{"role": "user", "content": "Hi"}]
            short = replace(ask, prompt=prompt, fields={**ask.fields, "max_tokens": 1})
            self.probing = asyncio.create_task(self._probe(short))
        return await asyncio.shield(self.probing)

    async def _probe(self, ask: Ask) -> _Kind | None:
        try:
            async with self.pool.slots:
                await self._once(ask)
        except _Failed as failed:
            return failed.kind
        self.answered = time.monotonic()
        return None

    async def _once(self, ask: Ask) -> Answer:
        """One request; again at once without a field that the server refuses by name."""
        while True:
            before, reply = self.endpoint.unknown, Reply()
            try:
                await self._post(ask, reply)
                return self._finished(ask, reply, before)
            except ErrorReply as said:
                if not self._left_out(ask, said, before):
                    self._count_broken(ask, reply)
                    raise self._judged(said) from None
            except (BrokenReply, _Failed) as failed:
                self._count_broken(ask, reply)
                raise (failed if isinstance(failed, _Failed) else _Failed("again", str(failed))) from None

    async def _post(self, ask: Ask, reply: Reply) -> None:
        import httpx2

        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.connect + self.limits.first) as deadline:

                def waited() -> None:
                    now = time.monotonic()
                    self.sign, self.paused = now, 0.0
                    left = min(self.limits.between, started + self.limits.total - now)
                    deadline.reschedule(loop.time() + left)

                async with self.client.stream(
                    "POST",
                    self.endpoint.url + ask.route,
                    content=self.endpoint.body(ask),
                    headers={"content-type": "application/json"},
                ) as response:
                    wait = retry_after(response.headers)
                    await read_reply(response, reply, waited=waited, most_bytes=self.limits.most_bytes, wait=wait)
        except TimeoutError:
            seconds = round(time.monotonic() - started)
            raise _Failed("again", f"no answer within {seconds} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise _Failed("again", self.endpoint.one_line(said_by(error))) from None

    def _left_out(self, ask: Ask, said: ErrorReply, before: frozenset[str]) -> bool:
        """Whether the request goes again without a field. before: what this one was sent without."""
        if said.status not in (400, 422) or _too_long(said):
            return False
        config = load_config(CONFIG)
        sent = {*ask.fields, "stream_options", *(("seed",) if ask.seed is not None else ())} - before
        for name in sent & {*config["droppable"], *config["renamed"]}:
            named = re.search(rf"\b{name}\b", said.message) and _UNKNOWN_FIELD.search(f"{said.message} {said.code}")
            if not named and said.param != name:
                continue
            if name in config["renamed"]:
                if config["renamed"][name] not in said.message:
                    continue
                self.endpoint.without(name)
            elif self.endpoint.without(name):
                self.pool.say("endpoint_field_left_out", url=self.endpoint.url, name=name)
            return True
        return False

    def _judged(self, said: ErrorReply) -> _Failed:
        message = self.endpoint.one_line(said.message)
        detail = f"HTTP status {said.status}" + (f": {message}" if message else "")
        if said.status in _FATAL or "insufficient_quota" in said.code:
            return _Failed("fatal", detail)
        if said.status not in _LIMITED and _too_long(said):
            return _Failed("too_long", detail)
        if said.status in _LIMITED or (said.status == 503 and said.wait is not None):
            return _Failed("limited", detail, said.wait)
        if said.status in _AGAIN or said.status >= 500:
            return _Failed("again", detail)
        return _Failed("refused", detail)

    def _finished(self, ask: Ask, reply: Reply, before: frozenset[str]) -> Answer:
        if reply.finish not in (None, "stop", "length", "eos", "eos_token", "stop_sequence"):
            raise _Failed("refused", f"finish_reason {self.endpoint.one_line(str(reply.finish))}")
        text, thinking = reply.text_and_thinking()
        prompt, answer, details = _usage(reply.usage)
        thought = estimated_tokens(thinking) if thinking else 0
        if details is not None and thinking:
            thought = details
        estimated = prompt is None or answer is None
        if answer is None:
            answer = estimated_tokens(text) + thought
        return Answer(
            text,
            "stop" if reply.finish in ("eos", "eos_token", "stop_sequence") else reply.finish,
            estimated_tokens(ask.sent) if prompt is None else prompt,
            max(0, answer - min(thought, answer)),
            min(thought, answer),
            estimated,
            tuple(sorted(before - {*load_config(CONFIG)["renamed"], "stream_options"})),
        )

    def _count_broken(self, ask: Ask, reply: Reply) -> None:
        price = self.endpoint.price
        if price is not None and (reply.content_seen or reply.thoughts):
            came = estimated_tokens("".join(reply.parts)) + estimated_tokens("".join(reply.thoughts))
            self.pool.spent += price.of(estimated_tokens(ask.sent), came)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that `Retry-After` (seconds or a date) or `retry-after-ms` asks for; None without one that can be read.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        elif (value := headers.get("retry-after")) is None:
            return None
        elif re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            seconds = float(value)
        else:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _too_long(said: ErrorReply) -> bool:
    text = f"{said.message} {said.code}".lower()
    return any(sign in text for sign in load_config(CONFIG)["too_long"])


def _usage(usage: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Tokens of prompt, answer and reasoning as the server counted them."""

    def count(holder: Any, name: str) -> int | None:
        value = holder.get(name) if isinstance(holder, Mapping) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    thought = count(usage.get("completion_tokens_details"), "reasoning_tokens")
    return count(usage, "prompt_tokens"), count(usage, "completion_tokens"), thought
