"""A comparison of answers: who judges, what decides, and that nothing is said where nothing judged."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from pipeline.evaluation.answer_file import read_answers
from pipeline.evaluation.compare_answers import Comparison, Contestant, deciding, disagreeing
from pipeline.evaluation.results import ComparisonResult, Contest, ModelNamed
from pipeline.evaluation.task_check import TaskCheck


def _compared(
    folder: Path, before: list[str], after: list[str], gold: str | None, check: str = "auto"
) -> ComparisonResult:
    contestants = []
    for name, answers in (("before", before), ("after", after)):
        path = folder / f"{name}.jsonl"
        rows = [{"prompt": f"question {i}", "response": text, "reference": gold} for i, text in enumerate(answers)]
        path.write_text("\n".join(map(json.dumps, rows)))
        contestants.append(Contestant(ModelNamed(name, str(path), name), read_answers(path)))
    made = Comparison(contestants[0], contestants[1:])
    made.measure()
    made.check(TaskCheck(check))
    made.write_rows(folder / "rows.jsonl")
    return made.result("rows.jsonl")


def test_the_task_decides_and_the_clearest_losses_are_cases(tmp_path: Path) -> None:
    result = _compared(tmp_path, ["42"] * 20, ["The answer is 42."] * 4 + ["41"] * 15 + [""], "42")
    [task] = result.contests
    assert (result.verdict, result.decided_by) == ("worse", "task")
    assert (task.wins, task.ties, task.losses) == (0, 4, 16)  # an empty answer is a wrong one
    assert {case.outcome["task"] for case in result.cases} == {"loss"}
    assert result.prompts["empty"] == {"before": 0, "after": 1}
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert rows[19]["answers"] == {"before": "42", "after": ""}


def test_without_a_judge_there_is_no_verdict_but_loops_are_worse(tmp_path: Path) -> None:
    sound = [f"An answer of its own, number {i}." for i in range(12)]
    result = _compared(tmp_path, sound, ["on and on " * 20] * 12, None)
    assert (result.verdict, result.decided_by, result.contests) == (None, None, ())
    verdicts = {one.name: one.verdict for one in result.measures}
    assert verdicts["rep_4"] == verdicts["loops"] == "worse"
    assert verdicts["characters"] == "changed"
    assert verdicts["empty"] == "no_difference"
    assert "ended" not in verdicts  # nobody knows


def test_sentences_are_no_reference_that_can_be_checked(tmp_path: Path) -> None:
    gold = "A long right answer that may be said in many other words as well."
    result = _compared(tmp_path, ["One way."] * 5, ["Another way."] * 5, gold)
    assert result.contests == ()
    assert result.decoding["task_checks"] == {"text": 5}
    assert _compared(tmp_path, ["One way."] * 6, [gold] * 6, gold, "exact_answer").verdict == "better"


def test_rows_of_the_same_prompt_are_one_prompt(tmp_path: Path) -> None:
    """Eight rows of three prompts are no eight independent ones, however the file spells them."""
    files = []
    for name, answers in (("before", "41"), ("after", "42")):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"prompt": f"question  {i % 3}" if i > 3 else f"question {i % 3}", "response": answers,
                 "reference": "42"} for i in range(8)]  # fmt: skip
        path.write_text("\n".join(map(json.dumps, rows)))
        files.append(Contestant(ModelNamed(name, str(path), name), read_answers(path)))
    made = Comparison(files[0], files[1:])
    made.measure()
    made.check(TaskCheck("auto"))
    result = made.result()
    [task] = result.contests
    assert (task.n, task.wins, task.verdict) == (3, 3, "no_difference")
    assert (result.prompts["matched"], result.prompts["prompts"]) == (8, 3)
    assert {one.difference.n for one in result.measures} == {3}


def test_all_say_the_same_judge_decides_where_prompts_repeat(tmp_path: Path) -> None:
    """Of 30 prompts, four rows each, the task judged 10: a fifth of the prompts, though less than one of the rows."""
    from pipeline.commands.compare_account import verdict_line
    from pipeline.evaluation.results import prompts_matched

    files = []
    for name, said in (("before", "41"), ("after", "42"), ("later", "42")):
        rows = [{"prompt": f"question {i}", "response": said, **({"reference": "42"} if i < 10 else {})}
                for i in range(30) for _ in range(4)]  # fmt: skip
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        files.append(Contestant(ModelNamed(name, str(path), "before" if name == "before" else "after"),
                                read_answers(path)))  # fmt: skip
    made = Comparison(files[0], files[1:])
    made.check(TaskCheck("auto"))
    for one in made.against:
        one.outcomes["people"], one.unjudged["people"] = ["loss"] * len(one.sides), Counter()
    result = made.result()
    assert (result.decided_by, result.verdict) == ("task", "better")
    for after in ("after", "later"):
        assert prompts_matched(result.prompts, after) == 30
        assert "is BETTER than before" in verdict_line(result, after, "en")


def _contest(by: str, verdict: str, n: int) -> Contest:
    return Contest("b", "a", by, verdict, n, 0, n, 0, None)  # type: ignore[arg-type]


def test_who_judged_too_few_does_not_decide() -> None:
    few, many = _contest("task", "worse", 5), _contest("reward", "better", 100)
    assert deciding([few, many], "a", 100) is many
    assert deciding([_contest("task", "worse", 20), many], "a", 100) == _contest("task", "worse", 20)
    assert deciding([few], "a", 100) is few
    assert disagreeing([few, many], many) == ("task",)
    assert disagreeing([_contest("task", "no_difference", 5), many], many) == ()
