"""What is right and what is broken, told apart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.row_databases import RowDatabases
from pipeline.evaluation.replay import change_of, listed_first, summary_of
from pipeline.evaluation.replay_cases import ReplayCase
from pipeline.evaluation.replay_judging import Answered, CaseJudge, chrf, is_short, similarity
from pipeline.evaluation.results import Replayed
from pipeline.evaluation.said_answers import says
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

LONG = "机器学习让计算机从数据中学习规律，而不是由人写下每一条规则；常见的任务有分类、回归和聚类。"
LOOP = "我每天早上都吃苹果。" * 6


def case(*answers: str, check: str = "", pattern: str = "", index: int = 0) -> ReplayCase:
    row = SourceRow(index, Pair([{"role": "user", "content": "q"}], answers[0] if answers else None, None))
    return ReplayCase(row, "q", answers, check, pattern)


def answered(text: str, *, ended: bool = True) -> Answered:
    return Answered(text, tuple(text.encode()), ended, len(text.encode()))


def judged(right: ReplayCase, text: str, *, ended: bool = True, **options: object) -> Replayed:
    return CaseJudge(**options).judge(right, answered(text, ended=ended), "m")  # type: ignore[arg-type]


@pytest.mark.parametrize(("answers", "check"), [
    (("Paris",), "exact"), (("B",), "exact"), (("小狗",), "exact"), (("New York City",), "exact"), (("Paris.",), "exact"),
    (("42",), "number"), (("3.5%",), "number"), (("1,234 元",), "number"), (("$12",), "number"),
    (("He pays 3 + 4 dollars.\n#### 7",), "number"), (("The sum is 7. So the answer is 7.",), "number"),
    (("SELECT name FROM shop WHERE id = 1",), "sql"), (("```sql\nselect count(*) from shop\n```",), "sql"),
    (("select one from the list",), "exact"), (("With great power comes great responsibility.",), "repetition"),
    ((LONG,), "repetition"), ((), "repetition"), (("I like it very much.",), "repetition"),
    (("苹果、香蕉、橘子",), "repetition"), (("apple, banana",), "repetition"), (("Paris", "42"), "repetition"),
    (("第一步：打开电源。",), "repetition"), (("2024-01-05",), "exact"),
])  # fmt: skip
def test_auto(answers: tuple[str, ...], check: str) -> None:
    assert CaseJudge().check_of(case(*answers)) == check


def test_a_check_of_the_case_goes_first() -> None:
    assert CaseJudge(check="number").check_of(case("Paris", check="exact")) == "exact"
    assert CaseJudge(check="number").check_of(case("Paris")) == "number"
    assert CaseJudge().check_of(case("Paris", pattern="a")) == "pattern"
    for wrong in ({"check": "pattern"}, {"pattern": "("}):
        with pytest.raises(Refused):
            CaseJudge(**wrong)
    with pytest.raises(Refused):
        CaseJudge().check_of(case(check="pattern"))


@pytest.mark.parametrize(("text", "right", "found"), [
    (" paris. ", "Paris", True), ("ＰＡＲＩＳ", "paris", True), ("The answer is Paris", "Paris", True),
    ("The capital of France is Paris.", "Paris", True), ("“大”的反义词是“小”。", "小", True),
    ("“橘子”的英文是orange。", "orange", True), ("yellow", "“黄色”的英文是yellow。", True),
    ("小狗是一种动物。", "动物", True), ("小", "大小", False), ("York", "New York", False),
    ("It is not Paris.", "Paris", False), ("不是苹果", "苹果", False), ("Paris is where I live", "Paris", None),
    ("London", "Paris", False), ("comparison", "Paris", False),
])  # fmt: skip
def test_exact(text: str, right: str, found: bool | None) -> None:
    assert says(text, right) is found


@pytest.mark.parametrize(("text", "ended", "status", "good"), [
    (LONG, True, "right", True), ("一句别的话，讲的是完全不同的事情。", True, "unchecked", True),
    (LOOP, False, "repeats", False), (LOOP, True, "repeats", False), (LONG, False, "unended", False),
    ("", True, "empty", False), (" \n\t", False, "empty", False), ("好" * 40, False, "repeats", False),
])  # fmt: skip
def test_a_repetition_bad_case(text: str, ended: bool, status: str, good: bool) -> None:
    """A long answer in other words is no bad case, however little it looks like the standard one."""
    row = judged(case(LONG), text, ended=ended)
    assert (row.status, row.good, row.checked_by) == (status, good, "repetition")
    assert row.repeats == (status == "repeats") and row.right in (True, None) and row.stopped is ended
    assert bool(row.loop) == (text == LOOP or "好好" in text)


def test_repeating_that_was_asked_for() -> None:
    chorus = "啦啦啦，我们一起唱。" * 8
    assert judged(case(chorus), chorus).status == "right"
    assert judged(case(LONG), chorus).status == "repeats"


def test_rep_n_is_over_token_ids() -> None:
    row = CaseJudge().judge(case(LONG), Answered("a b", (7, 8) * 20, True, 41), "m")
    assert row.rep == {"rep_2": round(1 - 2 / 39, 4), "rep_3": round(1 - 2 / 38, 4), "rep_4": round(1 - 2 / 37, 4)}
    assert row.status == "repeats"  # by its tokens, although its text is short


def test_both_axes_are_kept() -> None:
    right_but_loops = judged(case("7", check="number"), "The answer is 7. " * 12, ended=False)
    assert (right_but_loops.status, right_but_loops.right, right_but_loops.good) == ("repeats", True, False)
    assert judged(case("7"), "3 + 4 = 7").good is True
    assert (judged(case("7"), "It is 8.").status, judged(case("7"), "It is 8.").good) == ("wrong", False)
    assert judged(case("Paris"), "Paris is where I live").good is None


def test_other_checks() -> None:
    assert judged(case("id: 12", check="pattern"), "so id: 12 it is", pattern=r"id: (\d+)").right is True
    assert judged(case("id: 12", check="pattern"), "so id: 13 it is", pattern=r"id: (\d+)").right is False
    near = case(LONG, check="similarity")
    assert judged(near, LONG.replace("规律", "规则")).right is True and judged(near, LONG[:20]).right is False
    assert judged(near, LONG[:20], least=0.2).right is True
    assert judged(case("a", "b", check="exact"), "B").right is True
    failed = CaseJudge().judge(case("a"), Answered("", problem="prompt_too_long: 9"), "m")
    assert (failed.status, failed.good, failed.problem) == ("failed", None, "prompt_too_long: 9")


def test_sql_by_its_result(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.sqlite") as shop:
        shop.execute("create table fruit (name text, price int)")
        shop.executemany("insert into fruit values (?, ?)", [("apple", 3), ("pear", 5), ("plum", 9)])
    gold = case("SELECT name FROM fruit WHERE price > 4")
    found = {"databases": RowDatabases(tmp_path / "shop.sqlite")}
    for text, right in (
        ("```sql\nselect name from fruit where not price <= 4\n```", True), ("SELECT name FROM fruit", False),
        ("SELECT nme FROM fruit", False), ("I can't say", False), ("DROP TABLE fruit", False),
    ):  # fmt: skip
        row = judged(gold, text, **found)
        assert (row.checked_by, row.right) == ("sql", right), text
        assert row.sql is not None
    assert judged(gold, "SELECT name FROM fruit WHERE price > 4 ;").right is True  # equal, without a database
    assert judged(gold, "SELECT name FROM fruit WHERE price >= 5").right is None
    with sqlite3.connect(tmp_path / "shop.sqlite") as shop:
        assert shop.execute("select count(*) from fruit").fetchone() == (3,)


def test_nearness() -> None:
    assert similarity("kitten", ["sitting"]) == round(1 - 3 / 7, 4) and similarity("a  b", ["a b"]) == 1.0
    assert similarity("x", []) is None and chrf("x", []) is None
    assert chrf(LONG, [LONG]) == 100.0 and chrf("abc", ["xyz", "abc"]) == 100.0 and chrf("", ["abc"]) == 0.0
    assert is_short("Yes") and not is_short("") and not is_short("a" * 30)


def test_changes_and_summary() -> None:
    judge = CaseJudge(check="exact")
    right = [case("a", index=i) for i in range(5)]
    before = [judge.judge(c, answered(t), "base") for c, t in zip(right, ["a", "a", "b", "b", "so a it is"], strict=True)]
    after = [judge.judge(c, answered(t), "new") for c, t in zip(right, ["a", "b", "a", "b", "a"], strict=True)]
    changes = [change_of(one, other) for one, other in zip(before, after, strict=True)]
    assert changes == ["still_good", "broken", "fixed", "still_bad", None]
    assert change_of(None, after[0]) is None
    from dataclasses import replace

    rows = [replace(row, change=change) for row, change in zip(after, changes, strict=True)]
    told = summary_of("new", rows, base="base")
    assert (told.good, told.bad, told.fixed, told.broken, told.still_bad, told.still_good) == (3, 2, 1, 1, 1, 1)
    assert told.good_share is not None and told.good_share.value == pytest.approx(0.6)
    assert told.change is not None and (told.change.wins, told.change.ties, told.change.losses) == (1, 2, 1)
    assert summary_of("base", before, base="base").change is None
    assert [row.case for row in listed_first([*before, *rows])] == [1, 1, 2, 2, 3, 3, 0, 0, 4, 4]
