"""Answers that people judged, judged by the rules: nothing wrong counts as right, nothing right as wrong."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from judged_answers import NUMBERS, QUERIES, WORDS

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.row_databases import RowDatabases
from pipeline.evaluation.replay_cases import ReplayCase
from pipeline.evaluation.replay_judging import Answered, CaseJudge
from pipeline.evaluation.said_answers import says
from pipeline.evaluation.said_numbers import says_number
from pipeline.evaluation.task_check import TaskCheck
from pipeline.pairs.pair import Pair

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
