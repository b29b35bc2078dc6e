"""Candidates from a model behind HTTP, one request each, so that a request that is sent again duplicates nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from pipeline.candidates.candidate import (
    SEED_STEP,
    Cancelled,
    Candidate,
    CandidateStrategy,
    Counter,
    Note,
    SourceRow,
)
from pipeline.candidates.endpoint import CONFIG, Answer, Ask, Endpoint, field_names
from pipeline.candidates.open_rows import OpenRow, settled
from pipeline.candidates.request_pool import RequestFailed, RequestPool
from pipeline.config_files import load_config
from pipeline.pairs.pair import Message
from pipeline.refusal import Refused

ROWS_PER_REQUEST = 4  # rows taken and not yet given back, for each request at once
_MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")
_KINDS = ("endpoint", "sampling", "greedy")


class EndpointMaker:
    """Strategies of the kinds endpoint, sampling and greedy, by requests to an endpoint.

    endpoints: one for all strategies, or one for each `model` of theirs, the run's own under None. `#NAME` in a
    strategy's model, or its adapter, is another name that the same server serves, such as a LoRA. prompt_text: makes
    the prompt of /completions; None: the turns go to /chat/completions and the server puts its template around them.
    system: stands in for the rows' own. thinking: False or True to ask the template for it, None to leave it to the
    server; what is thought is no part of the text.

    Raises Refused for parameters that the protocol doesn't have, an endpoint or model that isn't there.
    """

    def __init__(
        self,
        strategies: Sequence[CandidateStrategy],
        endpoints: Endpoint | Mapping[str | None, Endpoint],
        *,
        seed: int,
        concurrency: int | None = None,
        system: str | None = None,
        prompt_text: Callable[[SourceRow], str] | None = None,
        thinking: bool | None = False,
        note: Note | None = None,
        lang: str = "en",
    ) -> None:
        self.strategies, self.seed = list(strategies), seed
        self.concurrency = concurrency or int(load_config(CONFIG)["concurrency"])
        self._system, self._prompt_text, self._note, self._lang = system, prompt_text, note, lang
        named: dict[tuple[str | None, str | None], Endpoint] = {}
        for strategy in self.strategies:
            named.setdefault((strategy.model, strategy.adapter), _endpoint_of(strategy, endpoints))
        self._endpoints = [named[strategy.model, strategy.adapter] for strategy in self.strategies]
        self._fields = [
            field_names(_parameters(strategy), thinking=None if prompt_text else thinking)
            for strategy in self.strategies
        ]
        RequestPool(self.concurrency)  # refuses a number it can't do before a row is taken

    def check(self) -> None:
        """Ask each server for its models. Raises Refused."""
        for endpoint in self._endpoints:
            endpoint.check()

    def make(
        self, rows: Iterable[SourceRow], *, cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        """As of Maker. Raises EndpointGone where nothing is answered any more; rows that are open then aren't given."""
        self.check()
        source = iter(rows)
        flying: dict[Future[Answer], tuple[OpenRow, tuple[int, int]]] = {}
        taken = 0
        counted = 0.0
        more = True

        def read(opened: OpenRow, asked: tuple[int, int], future: Future[Answer]) -> None:
            opened.made.append(self._candidate(opened.row, *asked, future, counter))

        with RequestPool(self.concurrency, note=self._note, lang=self._lang) as pool:
            while True:
                while more and len(flying) < 2 * self.concurrency and taken < ROWS_PER_REQUEST * self.concurrency:
                    if cancel.is_set():
                        raise Cancelled
                    if (row := next(source, None)) is None:
                        more = False
                        break
                    asked = self._submit(row, pool)
                    if not asked:  # no strategy, or nothing to ask
                        yield row, self._unasked(row, counter)
                        continue
                    taken += 1
                    flying |= asked
                if not flying:
                    return
                whole, gone = settled(flying, read)
                counter.cost += pool.spent - counted
                counted = pool.spent
                for opened in whole:
                    taken -= 1
                    yield opened.row, sorted(opened.made, key=lambda candidate: candidate.number)
                if gone is not None:
                    raise gone
                if cancel.is_set():
                    raise Cancelled

    def _submit(self, row: SourceRow, pool: RequestPool) -> dict[Future[Answer], tuple[OpenRow, tuple[int, int]]]:
        prompt = self._prompt(row)
        if not prompt:
            return {}
        opened = OpenRow(row, left=sum(strategy.candidates for strategy in self.strategies))
        return {
            pool.submit(self._endpoints[place], Ask(prompt, self._fields[place], self._seed_of(row, number))): (
                opened,
                (place, number),
            )
            for place, strategy in enumerate(self.strategies)
            for number in strategy.numbers
        }

    def _seed_of(self, row: SourceRow, number: int) -> int:
        return self.seed + SEED_STEP * row.index + number

    def _prompt(self, row: SourceRow) -> Sequence[Message] | str:
        if self._prompt_text is not None:
            return self._prompt_text(row)
        system = row.pair.system if self._system is None else self._system
        return chat_messages(row.pair.prompt, system)

    def _unasked(self, row: SourceRow, counter: Counter) -> list[Candidate]:
        made = []
        for place, strategy in enumerate(self.strategies):
            for number in strategy.numbers:
                made.append(self._bare(row, place, number))
                made[-1].problem = "prompt_empty"
                counter.candidates += 1
                counter.problems += 1
        return made

    def _bare(self, row: SourceRow, place: int, number: int) -> Candidate:
        endpoint = self._endpoints[place]
        return Candidate(
            row=row.index,
            number=number,
            strategy=self.strategies[place].name,
            text="",
            parameters={"endpoint": endpoint.url, **self._fields[place]},
            seed=self._seed_of(row, number),
            model=endpoint.model,
            prompt_format="chat completions" if self._prompt_text is None else "completions",
        )

    def _candidate(
        self, row: SourceRow, place: int, number: int, future: Future[Answer], counter: Counter
    ) -> Candidate:
        """Raises EndpointGone."""
        candidate = self._bare(row, place, number)
        candidate.prompt = Ask(self._prompt(row)).sent
        try:
            answer = future.result()
        except RequestFailed as failed:
            counter.candidates += 1
            candidate.problem, candidate.problem_detail = failed.problem, failed.detail
            counter.problems += 1
            return candidate
        counter.candidates += 1
        candidate.text, candidate.ended, candidate.tokens = answer.text, answer.ended, answer.tokens
        for name in answer.unknown:
            if name == "seed":
                candidate.seed = None
            candidate.parameters.pop(name, None)
        if answer.thinking_tokens:
            candidate.measures["thinking_tokens"] = answer.thinking_tokens
        if answer.estimated:
            candidate.measures["tokens_estimated"] = True
        if answer.thinking_tokens and not answer.text.strip() and answer.ended is False:
            candidate.text, candidate.problem = "", "only_thinking"
            counter.problems += 1
        tokens = answer.tokens + answer.thinking_tokens
        counter.tokens += tokens
        if (price := self._endpoints[place].price) is not None:
            counter.cost += price.of(answer.prompt_tokens, tokens)
        return candidate


def chat_messages(turns: Sequence[Message], system: str | None) -> list[Message]:
    """Turns as the protocol has them: the system's first, no keys of the file's own. Empty where there is no turn."""
    if not turns:
        return []
    head = [{"role": "system", "content": system}] if system else []
    return head + [{key: _plain(turn[key]) for key in _MESSAGE_KEYS if turn.get(key) is not None} for turn in turns]


def _plain(value: Any) -> Any:
    """What JSON can hold, the rest as its text: a Parquet file may have dates and bytes in a turn."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _parameters(strategy: CandidateStrategy) -> dict[str, Any]:
    if strategy.kind not in _KINDS:
        raise Refused("endpoint_kind", name=strategy.name)
    greedy = {"do_sample": False} if strategy.kind == "greedy" else {}
    return {**strategy.parameters, **greedy}


def _endpoint_of(strategy: CandidateStrategy, given: Endpoint | Mapping[str | None, Endpoint]) -> Endpoint:
    if not isinstance(given, Endpoint):
        of_run = strategy.model is None or (strategy.model.startswith("#") and strategy.model not in given)
        place = None if of_run else strategy.model
        if place not in given:
            raise Refused("endpoint_not_given", name=strategy.name)
        given = given[place]
    name = strategy.adapter or (strategy.model or "").partition("#")[2]
    return given.serving(name) if name and name != given.model else given
