"""What becomes of each attempt at reasoning: kept, or why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.duplicates import is_gold_sql, normal_form
from pipeline.chain_of_thought.final_answers import Kind, agrees, kind_of, parts_of, right_answer
from pipeline.chain_of_thought.prompts import CONFIG, language, marker
from pipeline.config_files import load_config
from pipeline.script_of_text import script_of

Verdict = Literal[
    "right", "wrong", "no_final_answer", "several_answers", "cut_off", "no_reasoning", "tells_hint", "duplicate",
    "failed",
]  # fmt: skip
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

SqlFacts = Callable[[SourceRow, str, str], Mapping[str, Any]]
"""(row, right query, query) -> `parses`, `equal_canonical`, `same_result`, ... as pipeline.sql measures them."""

_SEARCHED = 20_000  # characters of reasoning looked through for signs
_SECONDS = 1.0  # for one such search


@dataclass(frozen=True)
class Judging:
    """answers: the kind of all right answers, `auto` tells it row by row. sql: None compares queries as texts only.
    keep: `first` right attempt of a row, or `all` of them. think: reasoning goes into <think></think>."""

    answers: Kind | Literal["auto"] = "auto"
    sql: SqlFacts | None = None
    keep: Literal["first", "all"] = "first"
    think: bool = False

    def kind(self, row: SourceRow) -> Kind:
        return kind_of(row.gold or "") if self.answers == "auto" else self.answers

    def judge(self, row: SourceRow, attempts: Sequence[Candidate]) -> None:
        """Write what was found into every attempt: `verdict`, `final_answer`, `answer_kind` and for SQL its facts into
        `measures`, an entry of words/*/candidates.yaml into `why`, and `choice` "chosen" for what is kept."""
        kept: set[str] = set()
        for attempt in sorted(attempts, key=lambda one: one.number):
            attempt.choice, attempt.why = None, []
            verdict, shown = self._verdict(row, attempt)
            if verdict == "right" and (same := normal_form(self.reasoning(row, attempt))) in kept:
                verdict = "duplicate"
            elif verdict == "right":
                kept.add(same)
                if self.keep == "all" or len(kept) == 1:
                    attempt.choice = "chosen"
            attempt.measures["verdict"] = verdict
            attempt.why = [{"entry": f"cot_{verdict}", **shown}]

    def _verdict(self, row: SourceRow, attempt: Candidate) -> tuple[Verdict, dict[str, str]]:
        kind = self.kind(row)
        attempt.measures["answer_kind"] = kind
        if attempt.problem is not None:
            return "failed", {"problem": attempt.problem}
        parts = parts_of(attempt.text, kind)
        attempt.measures["final_answer"] = parts.final
        if attempt.ended is False:
            return "cut_off", {}
        if parts.final is None:
            return "no_final_answer", {"marker": marker(language(row))}
        wanted = right_answer(row.gold or "", kind)
        if not self._right(row, parts.final, wanted, kind, attempt):
            return "wrong", {"said": _short(parts.final), "right": _short(wanted)}
        if parts.several:
            return "several_answers", {}
        if _weight(parts.reasoning) < load_config(CONFIG)["least_reasoning"]:
            return "no_reasoning", {}
        if hinted(attempt) and (sign := tells_hint(parts.reasoning, row.question)):
            return "tells_hint", {"sign": sign}
        return "right", {}

    def _right(self, row: SourceRow, final: str, wanted: str, kind: Kind, attempt: Candidate) -> bool:
        if kind != "sql":
            return agrees(final, wanted, kind)
        same = " ".join(final.split()).rstrip("; ") == " ".join(wanted.split()).rstrip("; ")
        if self.sql is None or same:
            return same
        facts = dict(self.sql(row, wanted, final))
        attempt.measures["sql"] = facts
        return is_gold_sql(attempt.measures)

    def reasoning(self, row: SourceRow, attempt: Candidate) -> str:
        """What stands before the final answer."""
        return parts_of(attempt.text, self.kind(row)).reasoning

    def answer(self, row: SourceRow, attempt: Candidate) -> str:
        """The answer to learn: the reasoning, then the right answer as the data has it. Of a query that only gives the
        same result the attempt's own stays, as the reasoning leads to it."""
        kind = self.kind(row)
        parts = parts_of(attempt.text, kind)
        gold = row.gold or ""
        facts = attempt.measures.get("sql") or {}
        own = kind == "sql" and bool(facts) and facts.get("equal_canonical") is not True
        final = parts.final or "" if own else right_answer(gold, kind)
        if self.think:
            return f"<think>\n{parts.reasoning}\n</think>\n\n{final if own else gold.strip()}"
        if kind == "sql":
            return f"{parts.reasoning}\n\n{marker(language(row))}\n```sql\n{final}\n```"
        words = marker(language(row))
        return f"{parts.reasoning}\n\n{words}{'' if words.endswith('：') else ' '}{final}"


def hinted(attempt: Candidate) -> bool:
    """Whether the right answer was shown to whoever wrote this."""
    return attempt.parameters.get("hint") is True


def tells_hint(reasoning: str, question: str) -> str | None:
    """The words by which reasoning says that its answer was given, None where it doesn't. What the question says itself
    is no sign."""
    looked = reasoning[:_SEARCHED]
    asked = normal_form(question)
    for pattern in _signs():
        try:
            for found in pattern.finditer(looked, timeout=_SECONDS):
                if normal_form(found.group()) not in asked:
                    return str(found.group())
        except TimeoutError:
            return "…"
    return None


@cache
def _signs() -> tuple[Any, ...]:
    import regex

    return tuple(regex.compile(pattern) for pattern in load_config(CONFIG)["tells_the_answer_was_given"])


def _weight(text: str) -> int:
    """Letters and digits, a Han character counted as two."""
    return sum((2 if script_of(char) == "han" else 1) for char in text if char.isalnum())


def _short(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= 120 else f"{line[:80]}…{line[-30:]}"
