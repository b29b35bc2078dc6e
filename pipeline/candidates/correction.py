"""A model's own answer as the rejected side, what it should have said as the chosen one.

The corrected answer comes of replacement rules ("我是 Llama" becomes "我是 Athene") or of another model that is shown
question and answer. An answer that needs no correction makes no pair.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pipeline.candidates.candidate import Cancelled, Candidate, CandidateStrategy, Counter, Maker, Note, SourceRow
from pipeline.candidates.endpoint import CONFIG, Answer, Ask, Endpoint, field_names
from pipeline.candidates.endpoint_maker import ROWS_PER_REQUEST
from pipeline.candidates.open_rows import OpenRow, settled
from pipeline.candidates.request_pool import RequestFailed, RequestPool
from pipeline.config_files import load_config
from pipeline.pairs.pair import content_text
from pipeline.refusal import Refused
from pipeline.script_of_text import main_script

REGEX_MARK = "re:"


class NotCorrected(Exception):
    """There is no corrected answer, and that isn't because none is needed. problem, detail: as of a Candidate."""

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.problem, self.detail = problem, detail


class Corrector(Protocol):
    """Corrects one answer."""

    def corrected(self, row: SourceRow, answer: str) -> str | None:
        """None where there is nothing to correct. Raises NotCorrected, EndpointGone."""
        ...

    def account(self) -> dict[str, Any]:
        """How it corrects, to be kept with the candidate."""
        ...


@dataclass(frozen=True)
class Rule:
    """old: a text, or a pattern of the `regex` package; new: what stands in its place, with \\1 or \\g<name> of a
    pattern's groups."""

    old: str
    new: str
    pattern: bool = False

    @classmethod
    def given(cls, text: str) -> Rule:
        """From `OLD=NEW`, or `re:PATTERN=NEW`; an equals sign of OLD is written `\\=`. Raises Refused."""
        pattern = text.startswith(REGEX_MARK)
        body = text.removeprefix(REGEX_MARK)
        place = next((n for n, char in enumerate(body) if char == "=" and body[n - 1 : n] != "\\"), None)
        if not place:  # none, or nothing before it
            raise Refused("rule_form", given=text)
        rule = cls(body[:place].replace("\\=", "="), body[place + 1 :], pattern)
        rule.check()
        return rule

    def check(self) -> None:
        """Raises Refused for a pattern that is none, or that finds an empty text: it would be everywhere."""
        if not self.pattern:
            return
        import regex

        try:
            compiled = regex.compile(self.old)
            empty = compiled.search("", timeout=1.0)
            # A replacement is read only where something is found: so by a pattern of the same groups that finds it all.
            names = {number: name for name, number in compiled.groupindex.items()}
            groups = (f"(?P<{names[n]}>)" if n in names else "()" for n in range(1, compiled.groups + 1))
            regex.sub("".join(groups), self.new, "")
        except (regex.error, RecursionError, OverflowError, MemoryError, ValueError, IndexError, TimeoutError) as wrong:
            raise Refused("rule_pattern", given=self.old, why=str(wrong)) from None
        if empty is not None:
            raise Refused("rule_matches_nothing", given=self.old)

    def __str__(self) -> str:
        old = self.old.replace("=", "\\=")
        return f"{REGEX_MARK if self.pattern else ''}{old}={self.new}"


class Replacements:
    """Corrects by rules, one after the other."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        if not rules:
            raise Refused("rule_needed")
        for rule in rules:
            rule.check()
        self.rules = list(rules)
        self._config = load_config(CONFIG)["correction"]

    def account(self) -> dict[str, Any]:
        return {"rules": [str(rule) for rule in self.rules]}

    def corrected(self, row: SourceRow, answer: str) -> str | None:
        """Raises NotCorrected where a pattern takes too long, the text grows beyond all measure or nothing is left."""
        text = answer
        for rule in self.rules:
            text = self._replaced(rule, text)
            if len(text) > max(self._config["most_characters"], len(answer)):
                raise NotCorrected("correction_too_long", str(rule))
        if text == answer:
            return None
        if not text.strip():
            raise NotCorrected("correction_empty")
        return text

    def _replaced(self, rule: Rule, text: str) -> str:
        if not rule.pattern:
            grown = len(text) + text.count(rule.old) * (len(rule.new) - len(rule.old))
            if grown > max(self._config["most_characters"], len(text)):
                raise NotCorrected("correction_too_long", str(rule))
            return text.replace(rule.old, rule.new)
        import regex

        try:
            return str(regex.sub(rule.old, rule.new, text, timeout=self._config["pattern_seconds"]))
        except TimeoutError:
            raise NotCorrected("correction_too_slow", str(rule)) from None
        except (regex.error, RecursionError, OverflowError, MemoryError, ValueError, IndexError) as wrong:
            raise NotCorrected("correction_failed", str(wrong)) from None


class EndpointCorrector:
    """Corrects by a model behind HTTP, with the prompt of configs/endpoints.yaml in the language of question and
    answer."""

    def __init__(self, endpoint: Endpoint, *, seed: int = 0, parameters: Mapping[str, Any] | None = None) -> None:
        self.endpoint, self.seed = endpoint, seed
        self._config = load_config(CONFIG)["correction"]
        self._fields = field_names({**self._config["parameters"], **(parameters or {})}, thinking=False)

    def account(self) -> dict[str, Any]:
        return {"corrector": self.endpoint.model, "endpoint": self.endpoint.url, **self._fields}

    def ask(self, row: SourceRow, answer: str) -> Ask:
        """The request; one turn, as a corrector needs the last question and no more of the talk."""
        question = "\n".join(content_text(turn.get("content")) for turn in row.pair.prompt) or row.question
        lang = "zh" if main_script(question + answer) == "han" else "en"
        # Not str.format: braces of the texts stay what they are, and neither can stand in for the other.
        before, _, rest = str(self._config["prompt"][lang]).partition("{question}")
        between, _, after = rest.partition("{answer}")
        prompt = f"{before}{question}{between}{answer}{after}"
        system = {"role": "system", "content": self._config["system"][lang]}
        return Ask([system, {"role": "user", "content": prompt}], self._fields, self.seed)

    def read(self, answer: str, reply: Answer) -> str | None:
        """The corrected answer of a reply. Raises NotCorrected."""
        if reply.ended is False:
            raise NotCorrected("correction_cut_off")
        text = reply.text.strip()
        if not text:
            raise NotCorrected("correction_empty")
        return None if text.split() == answer.split() else text

    def corrected(self, row: SourceRow, answer: str) -> str | None:
        """Raises NotCorrected, EndpointGone, Refused."""
        self.endpoint.check()
        with RequestPool(1) as pool:
            try:
                reply = pool.submit(self.endpoint, self.ask(row, answer)).result()
            except RequestFailed as failed:
                raise NotCorrected(failed.problem, failed.detail) from None
        return self.read(answer, reply)


class CorrectionMaker:
    """Another maker's answers, each with its correction as `chosen`.

    strategy: of the kind correction, with as many candidates as `own` makes for a row; its first number is that of
    own's first. concurrency: corrections at once where an endpoint makes them.
    """

    def __init__(
        self,
        strategy: CandidateStrategy,
        own: Maker,
        corrector: Corrector,
        *,
        concurrency: int | None = None,
        note: Note | None = None,
        lang: str = "en",
    ) -> None:
        self.strategy, self.own, self.corrector = strategy, own, corrector
        self.concurrency = concurrency or int(load_config(CONFIG)["concurrency"])
        self._note, self._lang = note, lang

    def make(
        self, rows: Iterable[SourceRow], *, cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        """As of Maker. Raises EndpointGone as EndpointMaker does."""
        corrector = self.corrector
        if isinstance(corrector, EndpointCorrector):
            yield from self._by_endpoint(corrector, rows, cancel, counter)
            return
        for row, own in self.own.make(rows, cancel=cancel, counter=counter):
            made = [self._candidate(number, candidate) for number, candidate in enumerate(own)]
            for candidate in made:
                if candidate.problem is None:
                    self._correct(candidate, corrector, row, counter)
            yield row, made

    def _correct(self, candidate: Candidate, corrector: Corrector, row: SourceRow, counter: Counter) -> None:
        try:
            _take(candidate, corrector.corrected(row, candidate.text), counter)
        except NotCorrected as problem:
            _refuse(candidate, problem.problem, problem.detail, counter)

    def _by_endpoint(
        self, corrector: EndpointCorrector, rows: Iterable[SourceRow], cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        corrector.endpoint.check()
        source = self.own.make(rows, cancel=cancel, counter=counter)
        flying: dict[Future[Answer], tuple[OpenRow, Candidate]] = {}
        waiting = 0
        more = True

        def read(opened: OpenRow, candidate: Candidate, future: Future[Answer]) -> None:
            self._read(candidate, corrector, future, counter)

        with _closed(source), RequestPool(self.concurrency, note=self._note, lang=self._lang) as pool:
            while True:
                while more and len(flying) < 2 * self.concurrency and waiting < ROWS_PER_REQUEST * self.concurrency:
                    if (taken := next(source, None)) is None:
                        more = False
                        break
                    opened = OpenRow(taken[0], [self._candidate(n, own) for n, own in enumerate(taken[1])])
                    for candidate in opened.made:
                        if candidate.problem is None:
                            opened.left += 1
                            ask = replace(
                                corrector.ask(opened.row, candidate.text), seed=candidate.seed or corrector.seed
                            )
                            flying[pool.submit(corrector.endpoint, ask)] = opened, candidate
                    if opened.left:
                        waiting += 1
                    else:
                        yield opened.row, opened.made
                    # What is corrected by now goes out before the next row is waited for.
                    if any(future.done() for future in flying):
                        break
                if not flying:
                    if more:
                        continue
                    return
                whole, gone = settled(flying, read)
                for opened in whole:
                    waiting -= 1
                    yield opened.row, opened.made
                if gone is not None:
                    raise gone
                if cancel.is_set():
                    raise Cancelled

    def _read(
        self, candidate: Candidate, corrector: EndpointCorrector, future: Future[Answer], counter: Counter
    ) -> None:
        try:
            reply = future.result()
            counter.tokens += reply.tokens + reply.thinking_tokens
            if (price := corrector.endpoint.price) is not None:
                counter.cost += price.of(reply.prompt_tokens, reply.tokens + reply.thinking_tokens)
            _take(candidate, corrector.read(candidate.text, reply), counter)
        except RequestFailed as failed:
            _refuse(candidate, failed.problem, failed.detail, counter)
        except NotCorrected as problem:
            _refuse(candidate, problem.problem, problem.detail, counter)

    def _candidate(self, number: int, own: Candidate) -> Candidate:
        made_by = {"strategy": own.strategy, "number": own.number, **own.parameters}
        return replace(
            own,
            number=self.strategy.first + number,
            strategy=self.strategy.name,
            parameters={**self.strategy.parameters, **self.corrector.account(), "own": made_by},
            measures=dict(own.measures),
            why=list(own.why),
        )


@contextlib.contextmanager
def _closed(source: Iterator[Any]) -> Iterator[None]:
    """A generator that holds requests of its own lets go of them at once, not when it is forgotten."""
    try:
        yield
    finally:
        if isinstance(source, Generator):
            source.close()


def _take(candidate: Candidate, corrected: str | None, counter: Counter) -> None:
    if corrected is None:
        _refuse(candidate, "nothing_to_correct", "", counter)
    else:
        candidate.chosen = corrected


def _refuse(candidate: Candidate, problem: str, detail: str, counter: Counter) -> None:
    candidate.text, candidate.problem, candidate.problem_detail = "", problem, detail
    counter.problems += 1
