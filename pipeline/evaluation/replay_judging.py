"""Whether an answer to a case is right, and whether it is broken: two things, since a bad case may be either.

Broken, whatever the case asks for: no answer (`failed`), nothing but white space (`empty`), saying one thing over and
over (`repeats`), cut off at the limit (`unended`). Where the standard answer repeats itself too, repeating is no fault.

Right, by the check of the case:

- exact: the answer is the standard one but for white space, case, width, quotes and marks at its ends, or names it as
  its result ("the answer is", 答案是), or is one short statement that says it is that ("The opposite of big is
  small."). Letters of options and yes and no are known in the forms that models give them. An answer that denies it is
  wrong, one that holds it elsewhere can't be told (None); any other is wrong. See said_answers.
- number: the number it names as its result, or the last one of its last sentence with numbers, is the standard
  answer's; denied numbers, bounds and ranges are no results. See said_numbers.
- sql: equal text, equal normal form, or the same result on the database; without a database only equal ones are known.
- pattern: the case's own pattern, or --pattern, is found; with a group, the group says what the standard answer's does.
- similarity: the character similarity reaches --similarity.
- repetition: nothing beyond being broken; `right` is True where it is exactly the standard answer, never False.

`auto` takes what the row says: its `pattern`; sql where the standard answer is a query; number where it is a number or
names one as its result; exact where it is a word or two (a name, a label, a letter); repetition where it is a sentence
or longer, or isn't there, since such answers have many right wordings and similarity alone tells nobody that one is
bad.

A case is good where the answer isn't broken and, but for `repetition`, is right. It is None where that can't be told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from pipeline.candidates.duplicates import normal_form
from pipeline.candidates.reward_functions import Judge, reward_function
from pipeline.candidates.row_databases import RowDatabases
from pipeline.candidates.text_measures import loop_in, text_units, width
from pipeline.config_files import load_config
from pipeline.evaluation.replay_cases import ReplayCase
from pipeline.evaluation.results import Replayed
from pipeline.evaluation.said_answers import CLOSERS, right_by_one, says
from pipeline.evaluation.said_numbers import is_one_number, says_number
from pipeline.refusal import Refused
from pipeline.repetition import ngrams, repeated_share
from pipeline.sql.parse_sql import sql_in

REP = (2, 3, 4)
MOST_CHARACTERS = 20_000  # of one text that similarity and chrF look at
_PLACES = 4
_INNER_MARKS = re.compile(r"[\n。！？!?;；、，：]|[,.:](?!\d)")
_SENTENCE_END = re.compile(r"[。.!?！？]$")


@dataclass(frozen=True)
class Answered:
    """What a model made of a case. ids: tokens without the one that ended it. ended: None where nobody knows. problem:
    why there is no answer."""

    text: str
    ids: tuple[int, ...] = ()
    ended: bool | None = None
    tokens: int | None = None
    problem: str = ""


@dataclass
class RepeatCounts:
    """n-grams of all answers of a model, whole and different ones, for the pooled rep-n."""

    total: dict[int, int]
    unique: dict[int, int]

    @classmethod
    def none(cls) -> RepeatCounts:
        return cls(dict.fromkeys(REP, 0), dict.fromkeys(REP, 0))

    def add(self, ids: Sequence[int]) -> None:
        for n in REP:
            found = ngrams(ids, n)
            self.total[n] += len(found)
            self.unique[n] += len(set(found))

    @property
    def shares(self) -> dict[str, float]:
        return {f"rep_{n}": round(1 - self.unique[n] / self.total[n], _PLACES) for n in REP if self.total[n]}


class CaseJudge:
    """Judges answers. check: for cases that name none, `auto` or one of CHECKS. pattern: for cases without their own.
    least: similarity from which --check similarity calls an answer right. Raises Refused for a pattern that is none."""

    def __init__(
        self, *, check: str = "auto", pattern: str = "", least: float | None = None,
        databases: RowDatabases | None = None, dialect: str = "sqlite",
    ) -> None:  # fmt: skip
        self.check, self.pattern, self.databases, self.dialect = check, pattern, databases, dialect
        self.least = float(_limits()["similarity_least"]) if least is None else least
        self._patterns: dict[str, Judge] = {}
        if pattern:
            self._pattern(pattern)
        if check == "pattern" and not pattern:
            raise Refused("replay_pattern_needed")

    def check_of(self, case: ReplayCase) -> str:
        """How this case is judged. Raises Refused for a pattern of its row that is none."""
        if case.pattern:
            self._pattern(case.pattern)
        if case.check:
            if case.check == "pattern" and not (case.pattern or self.pattern):
                raise Refused("replay_pattern_needed")
            return case.check
        if self.check != "auto":
            return self.check
        if case.pattern:
            return "pattern"
        return self._suited(case)

    def judge(self, case: ReplayCase, answer: Answered, model: str) -> Replayed:
        """change is None: who knows the base's answer sets it."""
        check = self.check_of(case)
        if answer.problem:
            return Replayed(
                case.index, model, case.text, case.standard_answer, "", "failed", None, checked_by=check,
                category=case.category, problem=answer.problem,
            )  # fmt: skip
        text = answer.text
        empty = not text.strip()
        loop = loop_in(text)
        rep = {f"rep_{n}": round(repeated_share(answer.ids, n), _PLACES) for n in REP} if answer.ids else {}
        meant = any(loop_in(one) is not None for one in case.answers)
        repeats = not empty and not meant and (loop is not None or _repeats(answer.ids))
        facts = self._sql(case, text) if check == "sql" and not empty else None
        near = similarity(text, case.answers)
        right = None if empty else self._right(case, check, text, facts, near)
        unended = answer.ended is False
        broken = "empty" if empty else "repeats" if repeats else "unended" if unended else ""
        told = {True: "right", False: "wrong", None: "unchecked"}[right]
        good = False if broken else True if check == "repetition" else right
        return Replayed(
            case.index, model, case.text, case.standard_answer, text, broken or told, good,
            checked_by=check, right=right, repeats=repeats, stopped=answer.ended, tokens=answer.tokens,
            exact=_exact(text, case.answers), similarity=near, chrf=chrf(text, case.answers), sql=facts,
            rep=rep, loop=loop["text"] if loop is not None and repeats else "", category=case.category,
        )  # fmt: skip

    # --- right ---

    def _right(
        self, case: ReplayCase, check: str, text: str, facts: dict[str, Any] | None, near: float | None
    ) -> bool | None:  # fmt: skip
        if check == "pattern":
            judge = self._pattern(case.pattern or self.pattern)
            return right_by_one([judge(text, gold, {}) for gold in case.answers or (None,)])
        if not case.answers:
            return None
        if check == "sql":
            sql = reward_function("sql")
            assert sql is not None
            if facts is not None and facts["runs"] is False:  # the same as no result
                return False
            return sql.judge(text, case.standard_answer, {"sql": facts or {}})
        if check == "number":
            return right_by_one([says_number(text, gold) for gold in case.answers])
        if check == "similarity":
            return None if near is None else near >= self.least
        said = right_by_one([says(text, gold) for gold in case.answers])
        return said or None if check == "repetition" else said

    def _pattern(self, pattern: str) -> Judge:
        if pattern not in self._patterns:
            found = reward_function(f"regex:{pattern}")
            assert found is not None
            self._patterns[pattern] = found.judge
        return self._patterns[pattern]

    def _sql(self, case: ReplayCase, text: str) -> dict[str, Any] | None:
        from pipeline.sql.measure_sql import measure_sql

        if not case.answers:
            return None
        database = None if self.databases is None else self.databases.of(case.row)
        best: dict[str, Any] | None = None
        for gold in case.answers:
            measured = measure_sql(gold, [text], database, self.dialect)[0]
            if best is None or measured.is_no_reject:
                best = {"sql": measured.sql, **measured.facts()}
            if measured.is_no_reject:
                break
        return best

    def _suited(self, case: ReplayCase) -> str:
        if not case.answers:
            return "repetition"
        kinds = {_kind(one) for one in case.answers}
        return next((kind for kind in ("sql", "number", "exact") if kinds == {kind}), "repetition")


@lru_cache(4096)  # asked for each answer of each model
def _kind(answer: str) -> str:
    if _is_query(answer):
        return "sql"
    if is_one_number(answer):
        return "number"
    return "exact" if is_short(answer) else "repetition"


def _repeats(ids: Sequence[int]) -> bool:
    limits = _limits()
    enough = len(ids) - 3 >= int(limits["rep_4_least_grams"])
    return enough and repeated_share(ids, 4) > float(limits["rep_4_most"])


def is_short(answer: str) -> bool:
    """Whether it is a name, a label or a letter, with no other right wording: few letters and no marks inside."""
    limits = _limits()
    answer = answer.strip()
    if not answer or width(answer) > int(limits["short_answer_width"]):
        return False
    inner = answer.strip(CLOSERS)
    if _INNER_MARKS.search(inner):
        return False
    return len(text_units(inner)) <= int(limits["short_answer_units"]) or not _SENTENCE_END.search(answer)


def _is_query(answer: str) -> bool:
    """Whether it is SQL: "Select one from the list" is none, though it would parse."""
    from pipeline.sql.normal_form import examined

    sql = sql_in(answer)
    if sql is None:
        return False
    code = sql.lstrip("( ")[:6] in ("SELECT", "WITH (") or sql.startswith("WITH ") or "```" in answer
    code = code or sql.rstrip().endswith(";") or re.search(r"[*=(]", sql) is not None
    return code and examined(sql, "sqlite", None).parses


# --- nearness ---


def _exact(text: str, answers: Sequence[str]) -> bool | None:
    return normal_form(text) in {normal_form(one) for one in answers} if answers else None


def similarity(text: str, answers: Sequence[str]) -> float | None:
    """1 - Levenshtein distance / longer length over characters, white space made one; the best of several."""
    from rapidfuzz.distance import Levenshtein

    said = " ".join(text.split())[:MOST_CHARACTERS]
    found = [Levenshtein.normalized_similarity(said, " ".join(one.split())[:MOST_CHARACTERS]) for one in answers]
    return round(max(found), _PLACES) if found else None


def chrf(text: str, answers: Sequence[str]) -> float | None:
    """chrF2 of sacrebleu between 0 and 100, character n-grams without white space (https://aclanthology.org/W15-3049);
    the best of several."""
    if not answers:
        return None
    score = _chrf().sentence_score(text[:MOST_CHARACTERS], [one[:MOST_CHARACTERS] for one in answers])
    return round(float(score.score), 2)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _limits() -> dict[str, Any]:
    return dict(load_config("evaluation.yaml")["replay"])
