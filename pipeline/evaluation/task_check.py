"""Whether answers are right by what the data says is right, without a model: the checks of a comparison.

`auto` chooses row by row, as a replay does: sql where the right answer is a query, number where it is a number or names
one as its result, exact where it is a word or two. A sentence or longer has many right wordings: no check judges it.
`demo` knows every right wording of the built-in demo's questions; `auto` takes it where the prompt is one of them.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reward_functions import NAMES, REGEX, reward_function
from pipeline.candidates.row_databases import RowDatabases
from pipeline.demo.instructions import Question, all_questions, is_right
from pipeline.evaluation.replay_cases import ReplayCase
from pipeline.evaluation.replay_judging import CaseJudge
from pipeline.evaluation.said_answers import right_by_one, says
from pipeline.evaluation.said_numbers import says_number
from pipeline.pairs.pair import Pair, text_of
from pipeline.refusal import Refused

AUTO, NONE, DEMO = "auto", "none", "demo"
_CHECKS = {"exact_answer": "exact", "number": "number", "sql": "sql"}
_EMPTY = Pair([], None, None)


class TaskCheck:
    """asked: auto, none, demo, one of NAMES or regex:PATTERN. used: rows by the check that judged them; `text` are
    right answers that can't be checked. Raises Refused for a name or pattern that is none."""

    def __init__(self, asked: str = AUTO, *, databases: RowDatabases | None = None, dialect: str = "sqlite") -> None:
        self.asked, self.databases, self.dialect = asked, databases, dialect
        self.used: Counter[str] = Counter()
        self._pattern = reward_function(asked) if asked.startswith(REGEX) else None
        self._sql = reward_function("sql")
        self._suits = CaseJudge()
        self._questions = _questions() if asked in (AUTO, DEMO) else {}
        if asked not in (AUTO, NONE, DEMO, *NAMES) and self._pattern is None:
            names = [AUTO, NONE, DEMO, *NAMES, "regex:PATTERN"]
            near = difflib.get_close_matches(asked, names, n=1, cutoff=0.0)[0]
            raise Refused("reward_unknown", value=asked, near=near, all=", ".join(names))

    def check_of(self, pair: Pair | None, references: Sequence[str]) -> str:
        """How this row is judged: exact, number, sql, pattern; `text` and `no_reference` can't be."""
        if self._pattern is not None:
            return "pattern"
        if self.asked == DEMO:
            return DEMO if _prompt(pair) in self._questions else "no_reference"
        if self.asked == NONE:
            return "text"
        if self.asked == AUTO and _prompt(pair) in self._questions:
            return DEMO
        if not references:
            return "no_reference"
        if self.asked != AUTO:
            return _CHECKS[self.asked]
        found = self._suits.check_of(ReplayCase(SourceRow(0, pair or _EMPTY), "", tuple(references)))
        return "text" if found == "repetition" else found

    def right(
        self, check: str, pair: Pair | None, references: Sequence[str], answers: Sequence[str]
    ) -> list[bool | None]:  # fmt: skip
        """Of each answer to one row: right, wrong, or None where it can't be told. An empty answer is wrong."""
        found: list[bool | None] = []
        for answer in answers:
            if not answer.strip():
                found.append(False)
            elif check == DEMO:
                found.append(is_right(self._questions[_prompt(pair)], answer))
            elif check == "sql":
                found.append(right_by_one([self._same_query(pair, gold, answer) for gold in references]))
            elif check == "number":
                found.append(right_by_one([says_number(answer, gold) for gold in references]))
            elif check == "pattern":
                assert self._pattern is not None
                found.append(right_by_one([self._pattern.judge(answer, gold, {}) for gold in references or (None,)]))
            else:
                found.append(right_by_one([says(answer, gold) for gold in references]))
        return found

    def _same_query(self, pair: Pair | None, gold: str, answer: str) -> bool | None:
        from pipeline.sql.measure_sql import measure_sql

        database = self.databases.of(SourceRow(0, pair)) if self.databases is not None and pair is not None else None
        facts = measure_sql(gold, [answer], database, self.dialect)[0].facts()
        assert self._sql is not None
        if facts.get("runs") is False:  # the same as no result, as a replay has it
            return False
        return self._sql.judge(answer, gold, {"sql": facts})


@cache
def _questions() -> Mapping[str, Question]:
    return {one.prompt: one for one in all_questions()}


def _prompt(pair: Pair | None) -> str:
    return "" if pair is None else text_of(pair.prompt)
