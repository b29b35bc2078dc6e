"""Answers that people judged, judged by the rules: nothing wrong counts as right, nothing right as wrong."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

import pytest
from judged_answers import NUMBERS, QUERIES, WORDS

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reward_functions import reward_function
from pipeline.candidates.row_databases import RowDatabases
from pipeline.evaluation.replay_cases import ReplayCase
from pipeline.evaluation.replay_judging import Answered, CaseJudge
from pipeline.evaluation.said_answers import SENTENCES, says
from pipeline.evaluation.said_numbers import _sentences_from_end, is_one_number, says_number
from pipeline.evaluation.task_check import TaskCheck
from pipeline.pairs.pair import Pair
from pipeline.training.training_rewards import right_answer

UNDECIDED = {"number": 0.25, "exact": 0.32}
"""Share of these answers, most of them traps, that may be left to a reader."""


@pytest.mark.parametrize(("check", "rows"), [("number", NUMBERS), ("exact", WORDS)])
def test_no_false_rights_and_no_false_wrongs(check: str, rows: list[tuple[str, str, bool]]) -> None:
    judge, comparison = CaseJudge(check=check), TaskCheck("none")
    wrong, undecided = [], 0
    for right, answer, meant in rows:
        pair = Pair([{"role": "user", "content": "q"}], right, None)
        found = judge.judge(ReplayCase(SourceRow(0, pair), "q", (right,)), Answered(answer, (), True, 3), "m").right
        undecided += found is None
        if found is not None and found is not meant:
            wrong.append((right, answer, found))
        assert comparison.right(check, pair, [right], [answer]) == [found]  # compare judges as replay does
        reward = reward_function("number" if check == "number" else "exact_answer")
        assert reward is not None and reward.judge(answer, right, {}) is found  # generate too
    assert not wrong
    assert undecided / len(rows) < UNDECIDED[check]


def test_queries_by_their_results(tmp_path: Path) -> None:
    place = tmp_path / "users.sqlite"
    with sqlite3.connect(place) as made:
        made.execute("create table users (id, name, age)")
        made.executemany("insert into users values (?, ?, ?)", [(1, "a", 25), (2, "b", 31), (3, "c", 40), (4, "d", 19)])
    databases = RowDatabases(str(place))
    databases.check()
    judge = CaseJudge(check="sql", databases=databases)
    comparison = TaskCheck("sql", databases=databases)
    for right, answer, meant in QUERIES:
        pair = Pair([{"role": "user", "content": "q"}], right, None)
        found = judge.judge(ReplayCase(SourceRow(0, pair), "q", (right,)), Answered(answer, (), True, 3), "m").right
        assert found is meant, (right, answer)
        assert comparison.right("sql", pair, [right], [answer]) == [found], (right, answer)


def test_right_answers_are_right_by_themselves() -> None:
    for right, _, _ in WORDS:
        assert says(right, right) is True, right
    for right, _, _ in NUMBERS:
        assert says_number(right, right) is True, right
    assert says("", "Paris") is False and says("Paris", "") is None
    assert says_number("5", "no number") is None


@pytest.mark.parametrize(("right", "kind"), [
    ("5", "number"), ("二十五", "number"), ("1e5", "number"), ("$1,200", "number"), ("5 apples", "number"),
    ("#### 72", "number"), ("负三", "number"), ("H2O", "exact"), ("x5", "exact"), ("5 6", "exact"), ("一个苹果", "exact"),
    ("三国", "exact"), ("苹果", "exact"),
])  # fmt: skip
def test_what_is_one_number_is_one_everywhere(right: str, kind: str) -> None:
    """25 for 二十五 was wrong in a replay and right in GRPO, 5 apples the other way round."""
    case = ReplayCase(SourceRow(0, Pair([], None, None)), "q", (right,))
    assert CaseJudge().check_of(case) == kind and is_one_number(right) is (kind == "number")
    for answer in ("5", "25", "100000", "It is not 5.", "答案是 -3", "I have 5 apples", "H2O", "苹果。", "1,200 dollars"):
        judged = CaseJudge().judge(case, Answered(answer, (), True, 1), "m").right
        assert right_answer(answer, right) is judged, answer


def test_sentences_from_the_end() -> None:
    draw = random.Random(3)
    pieces = ["a. ", "b", "。", "\n", "! ", "?", "5", " ", ".", "!", "x" * 50, "x" * 2500]
    for _ in range(600):
        text = "".join(draw.choices(pieces, k=draw.choice([1, 5, 60, 300])))
        assert list(filter(None, _sentences_from_end(text))) == list(filter(None, reversed(SENTENCES.split(text))))


@pytest.mark.parametrize("piece", [
    " ", "\n", "not ", "(", "- ", "1 ", "one and ", "是", "A, ", "A) x\n", "answer is ", "\\boxed{", "5 or ", "**", "10^",
    "is the ", "twenty-", "选", "B",
])  # fmt: skip
def test_hostile_texts_take_no_time(piece: str) -> None:
    text = piece * (100_000 // len(piece)) + "x"
    began = time.perf_counter()
    for right in ("B", "yes", "Paris"):
        says(text, right)
    says_number(text, "5")
    assert time.perf_counter() - began < 10  # cubic patterns took minutes
