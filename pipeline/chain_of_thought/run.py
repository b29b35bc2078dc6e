"""One run: the rows are asked, attempts judged and kept on disk as they come, then the supervised rows written.

Passes, journal, shards and progress are those of reject candidates (pipeline/candidates/run.py); a row's attempts take
the place of its candidates.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.candidates import candidate as made
from pipeline.candidates.candidate import Candidate, CandidateStrategy, Maker, SourceRow
from pipeline.candidates.choose import ChosenPair
from pipeline.candidates.journal import Journal
from pipeline.candidates.open_makers import OpenMakers
from pipeline.candidates.plan import Group, Plan, Source
from pipeline.candidates.run import Measure, Opened, Place
from pipeline.candidates.write_candidates import MeasuredRow, from_record, read_candidates
from pipeline.chain_of_thought.attempts import Judging
from pipeline.chain_of_thought.final_answers import right_answer
from pipeline.chain_of_thought.prompts import CONFIG, asking
from pipeline.config_files import CONFIGS, load_config
from pipeline.pairs.pair import Pair

Hint = Literal["never", "failed", "always"]
"""When the right answer is shown: never, to rows of which no attempt without it was right, or to all."""

_ATTEMPTS = "attempts"  # the pass before that of the hints


@dataclass(frozen=True)
class AskingMaker:
    """Asks another maker for reasoning and gives the rows back as they were. Rows without a right answer get no
    attempts, nor do those that `wanted` leaves out; such a row comes back without its text. judges: attempts are judged
    here, as the run doesn't see their row again."""

    maker: Maker
    judging: Judging
    hint: bool
    judges: bool = False
    wanted: Callable[[SourceRow], bool] = lambda row: True

    def make(
        self, rows: Iterable[SourceRow], *, cancel: threading.Event, counter: made.Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        """As of Maker."""
        taken: dict[int, SourceRow] = {}
        skipped = array("q")  # their numbers alone: there may be a million of them in a row

        def asked() -> Iterator[SourceRow]:
            for row in rows:
                if has_answer(row) and self.wanted(row):
                    taken[row.index] = row
                    yield asking(row, answers=self.judging.answers, hint=self.hint)
                else:
                    skipped.append(row.index)

        for row, attempts in self.maker.make(asked(), cancel=cancel, counter=counter):
            yield from ((_unasked(index), []) for index in skipped)
            del skipped[:]
            for attempt in attempts if self.hint else ():
                attempt.parameters["hint"] = True
            own = taken.pop(row.index)
            if self.judges:
                self.judging.judge(own, attempts)
            yield own, attempts
        yield from ((_unasked(index), []) for index in skipped)


def _unasked(index: int) -> SourceRow:
    return SourceRow(index, Pair([], None, None))


def has_answer(row: SourceRow) -> bool:
    """Whether the data gives a right answer."""
    return bool((row.gold or "").strip())


@dataclass
class AskingMakers:
    """Opens makers that ask for reasoning. place, rank: of the run, whose first pass is read where hints are only given
    to rows that failed in it."""

    opened: OpenMakers
    judging: Judging
    hint: Hint
    place: Place
    rank: int = 0

    @contextmanager
    def open(self, group: Group) -> Iterator[Opened]:
        """As of Makers. Raises Refused."""
        hints = self.hint == "always" or (self.hint == "failed" and group.name != _ATTEMPTS)
        # under another name, as the main pass of rejects measures likelihoods
        with self.opened.open(replace(group, name=_ATTEMPTS)) as inner:
            assert inner.maker is not None
            if self.hint != "failed" or group.name == _ATTEMPTS:
                yield Opened(AskingMaker(inner.maker, self.judging, hints, judges=self.hint == "failed"))
                return
            journal = Journal(self.place.work, _ATTEMPTS, self.rank)
            try:
                yield Opened(
                    AskingMaker(inner.maker, self.judging, hints, wanted=lambda row: _failed(journal.read(row.index)))
                )
            finally:
                journal.close()

    def scorer(self, name: str) -> Any:
        """There is none."""
        raise KeyError(name)

    def close(self) -> None:
        """Lets go of the model in memory."""
        self.opened.close()


def _failed(records: Any) -> bool:
    return all(from_record(record).measures.get("verdict") != "right" for record in records or ())


def make_plan(source: Source, hint: Hint, attempts: int, parameters: Mapping[str, Any]) -> Plan:
    """source: `model` or `endpoint`. attempts: a row, and as many again with the hint where it is for failed rows."""
    kind: made.Kind = "endpoint" if source == "endpoint" else "sampling" if parameters.get("temperature") else "greedy"
    given = dict(parameters)
    if kind == "greedy":
        given = {name: value for name, value in given.items() if name not in ("temperature", "top_p")}
    first = CandidateStrategy("hinted" if hint == "always" else "reasoning", kind, attempts, given)
    if hint != "failed":
        return Plan((first,), (), Group("main", source, (first,)))
    second = replace(first, name="hinted", first=attempts)
    return Plan((first, second), (Group(_ATTEMPTS, source, (first,)),), Group("main", source, (second,)))


def judged(judging: Judging) -> Measure:
    """What the run measures of every row; one that was not asked again has been judged."""

    def measure(held: MeasuredRow) -> None:
        if held.row.pair.prompt:
            judging.judge(held.row, held.candidates)

    return measure


def kept_rows(judging: Judging) -> Callable[[MeasuredRow], list[ChosenPair]]:
    """The answers to learn, each a chosen one alone."""

    def choose(held: MeasuredRow) -> list[ChosenPair]:
        return [
            ChosenPair(held.row.index, judging.answer(held.row, one), None, one.number, one.number)
            for one in held.candidates
            if one.choice == "chosen"
        ]

    return choose


def instructions_digest() -> str:
    """Of configs/chain_of_thought.yaml: a run that goes on has to ask and judge in the same words."""
    return hashlib.sha256((CONFIGS / CONFIG).read_bytes()).hexdigest()[:16]


# --- the account ---


@dataclass
class Account:
    """rows: read. without_answer: of those, without a right answer, so not asked. kept: rows with reasoning; written:
    supervised rows made of them; hinted: of those, with the answer shown. verdicts: attempts by kind of the right
    answer and what became of them. problems: of attempts that failed. long_answers: rows whose right answer is a long
    text."""

    rows: int = 0
    without_answer: int = 0
    asked: int = 0
    kept: int = 0
    written: int = 0
    hinted: int = 0
    long_answers: int = 0
    attempts: int = 0
    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)

    @property
    def of_all(self) -> Counter[str]:
        return sum(self.verdicts.values(), Counter[str]())

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows, "rows_without_answer": self.without_answer, "rows_asked": self.asked,
            "rows_kept": self.kept, "written": self.written, "written_hinted": self.hinted,
            "rows_with_long_answer": self.long_answers, "attempts": self.attempts,
            "verdicts": dict(self.of_all.most_common()),
            "by_kind": {kind: dict(counts.most_common()) for kind, counts in sorted(self.verdicts.items())},
            "problems": dict(self.problems.most_common()),
        }  # fmt: skip


def account_of(candidates: Path, rows: int) -> Account:
    """Counted from the file of all attempts. rows: that were read. Raises Refused."""
    found = Account(rows, rows)
    if not candidates.exists() or not candidates.stat().st_size:  # stopped before anything could be written
        return found
    longest = load_config(CONFIG)["long_answer"]
    for _, attempts, line in read_candidates(candidates):
        found.asked += 1
        found.attempts += len(attempts)
        kept = [one for one in attempts if one.choice == "chosen"]
        found.kept += bool(kept)
        found.written += len(kept)
        found.hinted += sum(one.parameters.get("hint") is True for one in kept)
        for one in attempts:
            kind, verdict = one.measures.get("answer_kind", "text"), one.measures.get("verdict", "failed")
            found.verdicts.setdefault(str(kind), Counter())[str(verdict)] += 1
            if one.problem is not None:
                found.problems[one.problem] += 1
        gold = line.get("chosen")
        if isinstance(gold, str) and attempts[0].measures.get("answer_kind") == "text":
            found.long_answers += len(right_answer(gold, "text")) > longest
    found.without_answer = rows - found.asked
    return found


