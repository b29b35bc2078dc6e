"""A model behind HTTP that judges pairs of answers, each asked in both orders.

Both orders must name the same answer; a verdict that turns with the order is a tie (Zheng et al. 2023,
https://arxiv.org/abs/2306.05685, section 3.4). Answers are data: they stand between lines with a mark that occurs in
no text, and of the reply only the last verdict is read. configs/judge.yaml has the wording.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.candidates.candidate import Note
from pipeline.candidates.completion_reply import without_thinking
from pipeline.candidates.endpoint import CONFIG as ENDPOINTS
from pipeline.candidates.endpoint import Answer, Ask, Endpoint, EndpointGone, field_names
from pipeline.candidates.open_rows import POLL_SECONDS
from pipeline.candidates.request_pool import RequestFailed, RequestPool
from pipeline.config_files import load_config
from pipeline.evaluation.results import Share
from pipeline.pairs.pair import Message, content_text
from pipeline.refusal import Refused, Sentence
from pipeline.script_of_text import main_script

CONFIG = "judge.yaml"
Outcome = Literal["win", "tie", "loss"]
PROBLEMS = (
    "no_answer", "too_long", "prompt_too_long", "no_verdict", "cut_off", "refused", "endpoint_failed", "not_asked",
)  # fmt: skip
"""Why a pair has no outcome: a side is absent; a text is longer than configs/judge.yaml allows; than the judge's
context; the reply holds no verdict; it broke off at the token limit; it was withheld by the server's filter; no reply;
not asked any more (interrupted, budget spent, server gone)."""

# [[A]] as asked for, in whatever brackets and emphasis models put it; or JSON with one of these keys.
_BRACKETS = re.compile(r"[\[【［]{2}\s*(?:\*\*)?\s*([ABCＡＢＣ]|tie|平局)\s*(?:\*\*)?\s*[\]】］]{2}", re.IGNORECASE)
_JSON = re.compile(
    r"[\"'](?:verdict|winner|better|choice|判定|结果)[\"']\s*[:：]\s*[\"'](?:\[\[)?\s*([ABC]|tie)\s*(?:\]\])?[\"']",
    re.IGNORECASE,
)
_PLACES = {"A": "A", "B": "B", "C": "C", "Ａ": "A", "Ｂ": "B", "Ｃ": "C", "TIE": "C", "平局": "C"}


@dataclass(frozen=True)
class Judged:
    """One prompt. outcome: of the after model. first_order: what the judge said with `before` as answer A;
    second_order: with `after` as answer A; both as the outcome of after. reason: the judge's words in the first order.
    problem: why there is no outcome, of PROBLEMS; detail says more."""

    outcome: Outcome | None
    first_order: Outcome | None = None
    second_order: Outcome | None = None
    reason: str = ""
    problem: str = ""
    detail: str = ""

    @property
    def asked(self) -> bool:
        """False for equal answers, and where no verdict came of either order."""
        return self.first_order is not None or self.second_order is not None

    @property
    def turned(self) -> bool:
        """The verdict depended on the order."""
        return None not in (self.first_order, self.second_order) and self.first_order != self.second_order


@dataclass(frozen=True)
class PositionBias:
    """Of n prompts with a verdict in both orders: agreed, the rest turned with the order. first_won, second_won: the
    same place won both times."""

    n: int
    agreed: int
    first_won: int
    second_won: int

    @property
    def dependent(self) -> float | None:
        """Share of verdicts that turned with the order."""
        return (self.n - self.agreed) / self.n if self.n else None


@dataclass
class JudgeAccount:
    """What judging took; filled while it goes on. equal: pairs that needed no judge. remembered: replies taken from the
    journal. cost: by the endpoint's price, 0 without one. stopped: why not every prompt was asked."""

    requests: int = 0
    remembered: int = 0
    equal: int = 0
    tokens: int = 0
    cost: float = 0.0
    stopped: Sentence | None = None
    problems: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Reply:
    place: str | None
    reason: str = ""
    problem: str = ""
    detail: str = ""


def judge_answers(
    prompts: Sequence[str | Sequence[Message]],
    before: Sequence[str | None],
    after: Sequence[str | None],
    endpoint: Endpoint,
    *,
    references: Sequence[str | None] | None = None,
    lang: str | None = None,
    journal: Path | None = None,
    concurrency: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    most_cost: float | None = None,
    cancel: threading.Event | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    note: Note | None = None,
    note_lang: str = "en",
    account: JudgeAccount | None = None,
) -> list[Judged]:
    """What the judge says of each prompt, in order; equal answers are a tie without asking.

    lang: of the instructions; None: zh where the prompt is mostly Chinese, else en. journal: JSON lines that replies
    are kept in, so that a run that ended goes on where it was. parameters: of sampling, over those of
    configs/judge.yaml. most_cost: by the endpoint's price; nothing more is asked beyond it. progress: prompts done and
    all. When `cancel` is set, the budget is spent or the server gone, what is there is returned and the rest has the
    problem `not_asked`; account.stopped says why.

    Raises Refused for a server, model or key that can't be used, and a journal that can't be written.
    """
    if not len(prompts) == len(before) == len(after) or (references is not None and len(references) != len(prompts)):
        raise ValueError("prompts, answers and references must be as many")
    counted = account if account is not None else JudgeAccount()
    judging = _Judging(endpoint, parameters, lang, counted)
    memory = _Journal(journal)
    made: list[Judged | None] = [None] * len(prompts)
    replies: dict[int, dict[bool, _Reply]] = {}
    done = 0

    def settle(row: int, judged: Judged) -> None:
        nonlocal done
        made[row] = judged
        done += 1
        if judged.problem:
            counted.problems[judged.problem] += 1
        progress(done, len(prompts))

    def take(row: int, swapped: bool, reply: _Reply) -> None:
        both = replies.setdefault(row, {})
        both[swapped] = reply
        if len(both) == 2:
            del replies[row]
            settle(row, _judged(both[False], both[True]))

    def waiting() -> Iterator[tuple[int, bool, Ask, str]]:
        for row, prompt in enumerate(prompts):
            old, new = before[row], after[row]
            reference = references[row] if references is not None else None
            if old is None or new is None:
                settle(row, Judged(None, problem="no_answer"))
            elif old.split() == new.split():
                counted.equal += 1
                settle(row, Judged("tie"))
            elif judging.too_long(prompt, old, new, reference):
                settle(row, Judged(None, problem="too_long"))
            else:
                for swapped in (False, True):
                    ask = judging.ask(prompt, *((new, old) if swapped else (old, new)), reference)
                    key = judging.key(ask)
                    known = memory.get(key)
                    if known is None:
                        yield row, swapped, ask, key
                    else:
                        counted.remembered += 1
                        take(row, swapped, known)

    try:
        judging.run(waiting(), take, memory, concurrency, most_cost, cancel or threading.Event(), note, note_lang)
    finally:
        memory.close()
    for row, found in enumerate(made):
        if found is None:
            half = replies.get(row, {})
            missing = _Reply(None, problem="not_asked")
            settle(row, _judged(half.get(False, missing), half.get(True, missing)))
    return [one for one in made if one is not None]


def position_bias(judged: Sequence[Judged]) -> PositionBias:
    """How far the verdicts depended on the order of the answers."""
    both = [one for one in judged if one.first_order is not None and one.second_order is not None]
    return PositionBias(
        len(both),
        sum(not one.turned for one in both),
        sum(one.first_order == "loss" and one.second_order == "win" for one in both),
        sum(one.first_order == "win" and one.second_order == "loss" for one in both),
    )


def judging_fields(judged: Sequence[Judged], endpoint: Endpoint, account: JudgeAccount) -> dict[str, Any]:
    """Plain figures about the judging for a result: the judge, what it took, and its position bias. `too_dependent`:
    the verdicts turned with the order more often than configs/judge.yaml takes for judging."""
    from pipeline.evaluation.intervals import share_of

    bias = position_bias(judged)
    turned: Share | None = share_of(bias.n - bias.agreed, bias.n) if bias.n else None
    most = float(load_config(CONFIG)["position_dependent_most"])
    return {
        "model": endpoint.model, "endpoint": endpoint.url, "prompts": len(judged), "equal": account.equal,
        "requests": account.requests, "remembered": account.remembered, "tokens": account.tokens,
        "cost": round(account.cost, 6), "both_orders": bias.n, "agreed": bias.agreed, "first_won": bias.first_won,
        "second_won": bias.second_won, "position_dependent": turned,
        "too_dependent": turned is not None and turned.value > most, "problems": dict(account.problems),
        "stopped": "" if account.stopped is None else account.stopped.entry,
    }  # fmt: skip


def read_verdict(text: str) -> str | None:
    """A, B or C (tie) of the last verdict in a reply, its reasoning apart; None where there is none."""
    shown = without_thinking(text)[0]
    found = max((*_BRACKETS.finditer(shown), *_JSON.finditer(shown)), key=lambda match: match.start(), default=None)
    return None if found is None else _PLACES[found[1].upper()]


def _judged(first: _Reply, second: _Reply) -> Judged:
    """first: before is answer A. second: after is answer A."""
    one = _outcome(first.place, {"A": "loss", "B": "win", "C": "tie"})
    other = _outcome(second.place, {"A": "win", "B": "loss", "C": "tie"})
    failed = first if one is None else second if other is None else None
    if failed is not None:
        reason = first.reason or second.reason
        return Judged(None, one, other, reason, failed.problem or "no_verdict", failed.detail)
    return Judged(one if one == other else "tie", one, other, first.reason)


def _outcome(place: str | None, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    return None if place is None else outcomes[place]


class _Judging:
    """Requests to one judge."""

    def __init__(
        self, endpoint: Endpoint, parameters: Mapping[str, Any] | None, lang: str | None, account: JudgeAccount
    ) -> None:  # fmt: skip
        self.endpoint, self.lang, self.account = endpoint, lang, account
        self.words = load_config(CONFIG)
        self.fields = field_names({**self.words["parameters"], **(parameters or {})})

    def too_long(self, prompt: str | Sequence[Message], *texts: str | None) -> bool:
        most = self.words["most_characters"]
        return any(len(text or "") > most for text in (_written(prompt, self.words["roles"]["en"]), *texts))

    def ask(self, prompt: str | Sequence[Message], a: str, b: str, reference: str | None) -> Ask:
        lang = self.lang or ("zh" if main_script(_written(prompt, {})) == "han" else "en")
        words, fence = self.words, self.words["fence"][lang]
        question = _written(prompt, words["roles"][lang])
        mark = _mark(question, a, b, reference or "")
        sections = [("question", question), *([("reference", reference)] if reference else []), ("a", a), ("b", b)]
        parts = []
        for name, text in sections:
            # replace and not format: braces of the texts stay what they are
            begin, end = (fence[e].replace("{name}", fence[name]).replace("{mark}", mark) for e in ("begin", "end"))
            parts.append(f"{begin}\n{text}\n{end}")
        last = f"{words['with_reference'][lang]}\n" if reference else ""
        user = "\n\n".join([*parts, last + words["asked"][lang]])
        heading: Message = {"role": "system", "content": words["system"][lang]}
        return Ask([heading, {"role": "user", "content": user}], self.fields)

    def key(self, ask: Ask) -> str:
        """Of everything that decides on a reply."""
        whole = json.dumps([self.endpoint.url, self.endpoint.model, list(ask.prompt), dict(ask.fields)], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def run(
        self, waiting: Iterator[tuple[int, bool, Ask, str]], take: Callable[[int, bool, _Reply], None],
        memory: _Journal, concurrency: int | None, most_cost: float | None, cancel: threading.Event,
        note: Note | None, lang: str,
    ) -> None:  # fmt: skip
        at_once = concurrency or int(load_config(ENDPOINTS)["concurrency"])
        pool = RequestPool(at_once, note=note, lang=lang)
        if self.endpoint.model is None:  # the journal's keys name it
            self.endpoint.check()
        first = next(waiting, None)
        if first is None:
            return
        self.endpoint.check()
        flying: dict[Future[Answer], tuple[int, bool, str]] = {}
        base = 0.0
        with pool:
            upcoming: tuple[int, bool, Ask, str] | None = first
            while upcoming is not None or flying:
                while upcoming is not None and len(flying) < 2 * at_once and not self._over(cancel, most_cost):
                    if most_cost is not None and not self._affords(len(flying), most_cost):
                        if not flying:
                            self._spent()
                        break
                    row, swapped, ask, key = upcoming
                    flying[pool.submit(self.endpoint, ask)] = row, swapped, key
                    upcoming = next(waiting, None)
                if cancel.is_set() or not flying:
                    break
                done, _ = wait(flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    row, swapped, key = flying.pop(future)
                    try:
                        reply = self._read(future)
                    except EndpointGone as gone:
                        self.account.stopped = gone.sentence
                        continue
                    memory.put(key, reply)
                    take(row, swapped, reply)
                self.account.cost += pool.spent - base
                base = pool.spent
                if self.account.stopped is not None and self.account.stopped.entry != "judge_budget_spent":
                    break
            for future in [one for one in flying if one.done() and not one.cancelled()]:  # paid for like the others
                row, swapped, key = flying.pop(future)
                with suppress(EndpointGone):
                    reply = self._read(future)
                    memory.put(key, reply)
                    take(row, swapped, reply)
        if cancel.is_set() and (upcoming is not None or flying) and self.account.stopped is None:
            self.account.stopped = Sentence("judge_interrupted")

    def _affords(self, flying: int, most_cost: float) -> bool:
        """Whether one more request fits the budget beside those on their way, at the mean cost of those answered; the
        first is asked alone, since nothing tells what it costs."""
        asked = self.account.requests
        return self.account.cost * (1 + (flying + 1) / asked) <= most_cost if asked else not flying

    def _over(self, cancel: threading.Event, most_cost: float | None) -> bool:
        if most_cost is not None and self.account.cost >= most_cost:
            self._spent()
            return True
        return cancel.is_set()

    def _spent(self) -> None:
        self.account.stopped = Sentence("judge_budget_spent", {"cost": f"{self.account.cost:.2f}"})

    def _read(self, future: Future[Answer]) -> _Reply:
        """Raises EndpointGone."""
        try:
            answer = future.result()
        except RequestFailed as failed:
            self.account.requests += 1
            filtered = "content_filter" in failed.detail
            return _Reply(None, problem="refused" if filtered else failed.problem, detail=failed.detail)
        self.account.requests += 1
        tokens = answer.tokens + answer.thinking_tokens
        self.account.tokens += answer.prompt_tokens + tokens
        if (price := self.endpoint.price) is not None:
            self.account.cost += price.of(answer.prompt_tokens, tokens)
        shown = without_thinking(answer.text)[0].strip()
        if answer.ended is False:  # what stands last in it so far is no verdict
            return _Reply(None, problem="cut_off", detail=_tail(shown))
        place = read_verdict(shown)
        if place is None:
            return _Reply(None, problem="no_verdict", detail=_tail(shown))
        return _Reply(place, _tail(_without_verdict(shown), int(self.words["most_reason"])))


class _Journal:
    """Replies by key, in JSON lines. Failures of the connection aren't kept: they are asked for again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._held: dict[str, _Reply] = {}
        self._file: int | None = None
        if path is not None and path.is_file():
            self._load(path)

    def _load(self, path: Path) -> None:
        with open(path, "rb") as file:
            for line in file:
                try:
                    value = json.loads(line)
                    place, problem = value["place"], value["problem"]
                    if place in ("A", "B", "C") or (place is None and problem in PROBLEMS):
                        self._held[str(value["key"])] = _Reply(
                            place, str(value["reason"]), str(problem), str(value["detail"])
                        )  # fmt: skip
                except (ValueError, KeyError, TypeError, RecursionError):  # cut off by what ended the run
                    continue

    def get(self, key: str) -> _Reply | None:
        return self._held.get(key)

    def put(self, key: str, reply: _Reply) -> None:
        self._held[key] = reply
        if self.path is None or reply.problem in ("endpoint_failed", "not_asked"):
            return
        kept = {"key": key, "place": reply.place, "problem": reply.problem, "reason": reply.reason,
                "detail": reply.detail}  # fmt: skip
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
                size = os.fstat(self._file).st_size
                if size and os.pread(self._file, 1, size - 1) != b"\n":  # a broken last line stays one by itself
                    os.write(self._file, b"\n")
            os.write(self._file, json.dumps(kept).encode() + b"\n")
        except OSError as failed:
            raise Refused("output_failed", path=self.path, why=failed.strerror or failed) from None

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _written(prompt: str | Sequence[Message], roles: Mapping[str, str]) -> str:
    """A prompt as text: a single question by itself, turns each under its role."""
    if isinstance(prompt, str):
        return prompt
    turns = [(str(turn.get("role") or ""), content_text(turn.get("content"))) for turn in prompt]
    if len(turns) == 1 or not roles:
        return "\n".join(text for _, text in turns)
    return "\n\n".join(f"[{roles.get(role, role)}]\n{text}" for role, text in turns)


def _mark(*texts: str) -> str:
    """Eight characters that occur in none of the texts; the same for the same texts in any order of the answers."""
    whole = hashlib.sha256()
    for text in sorted(texts):
        whole.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    while True:
        mark = whole.hexdigest()[:8]
        if not any(mark in text for text in texts):
            return mark
        whole.update(b"again")


def _without_verdict(text: str) -> str:
    last = max(_BRACKETS.finditer(text), key=lambda match: match.start(), default=None)
    return text if last is None or text[last.end() :].strip(" *`.。\n") else text[: last.start()].rstrip(" *`\n")


def _tail(text: str, most: int = 200) -> str:
    """The end of a text in one line: what a judge concludes stands last."""
    line = " ".join(text.split())
    return line if len(line) <= most else "…" + line[-most:]
