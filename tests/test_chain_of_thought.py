"""Reasoning for known answers: what is asked, which attempts are right, and the command from end to end."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai_server import Faults, openai_server, prompt_of

from pipeline.__main__ import main
from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.write_candidates import read_candidates
from pipeline.chain_of_thought.attempts import VERDICTS, Judging, tells_hint
from pipeline.chain_of_thought.final_answers import agrees, kind_of, parts_of, right_answer
from pipeline.chain_of_thought.prompts import asking, language
from pipeline.config_files import load_config
from pipeline.demo.build import DemoFolder
from pipeline.pairs.pair import Pair

REASON = "Two boxes hold thirty-six apples each, so both hold twice that."


def row(question: str, gold: str | None, index: int = 0) -> SourceRow:
    return SourceRow(index, Pair([{"role": "user", "content": question}], gold, None))


def right(gold: str, text: str) -> bool | None:
    """Whether the text's final answer is the right one; None where it names none."""
    kind = kind_of(gold)
    final = parts_of(text, kind).final
    return None if final is None else agrees(final, right_answer(gold, kind), kind)


# --- final answers ---


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("72", "2 * 36.\nFinal answer: 72"), ("72", "x\n**Final Answer:** **72 apples.**"), ("72", "a\n## Final Answer\n\n72"),
        ("72", "想一想。\n最终答案是 72。"), ("72", "Final answer: 2 x 36 = 72"), ("72", "thus \\boxed{72}."),
        ("She has 2 * 36.\n#### 72", "Final answer: 72"), ("72", "Final answer: $72.00"), ("1200", "最终答案：1,200 元"),
        ("12 km", "Final answer: 12km"), ("1 apple", "Final answer: 1 apples"), ("0.75", "Final answer: $\\frac{3}{4}$"),
        ("十二", "最终答案：12"), ("50%", "Final answer: 0.5"), ("-5", "Final answer: −5"), ("B", "Final answer: (B) Paris"),
        ("B", "最终答案：选项B"), ("B. Paris", "Final answer: B"), ("Paris", "Final answer: **Paris**."),
        ("New York", "final answer:\n`new  york`"), ("中国", "**最终答案**：“中国”"), ("a\nb", "Final answer:\n```\na\nb\n```"),
        ("72", "<think>hm\nFinal answer: 3?</think>Final answer: 72"), ("10:30", "Final answer: 10:30"),
    ],
)  # fmt: skip
def test_right_answers(gold: str, text: str) -> None:
    assert right(gold, text) is True


@pytest.mark.parametrize(
    ("gold", "text", "found"),
    [
        ("72", "It is 72.", None), ("72", "Final answer:", None), ("72", "Final answer: 27", False),
        ("72", "Final answer: between 72 and 80", False), ("72", "72 is wrong.\nFinal answer: 27", False),
        ("12 km", "Final answer: 12 miles", False), ("-5", "Final answer: 5", False), ("Apollo 11", "Final answer: Gemini 11", False),
        ("B", "Final answer: Because", False), ("B", "Final answer: C", False), ("Paris", "Final answer: London", False),
        ("10:30", "Final answer: 10:31", False), ("72", "<think>Final answer: 72</think>I don't know.", None),
        ("SELECT a FROM t", "Final answer: none", None),
    ],
)  # fmt: skip
def test_other_answers(gold: str, text: str, found: bool | None) -> None:
    assert right(gold, text) is found


@pytest.mark.parametrize(
    "text",
    ["Join.\n\nFinal answer:\n```sql\nSELECT 1\n```\nIt works.", "Join.\n```sql\nSELECT 1\n```", "Join.\nFinal answer: SELECT 1",
     "Join.\n最终答案：\n```sql\nSELECT 1", "Join.\n```\nSELECT 0\n```\n**Final answer:**\n```sqlite\nSELECT 1\n```"],
)  # fmt: skip
def test_the_query_of_an_answer(text: str) -> None:
    parts = parts_of(text, "sql")
    assert parts.final == "SELECT 1" and parts.reasoning.startswith("Join.") and "SELECT 1" not in parts.reasoning


def test_reasoning_is_what_stands_before() -> None:
    assert parts_of(f"{REASON}\n\n**Final answer:** 72\nBye.", "number") == parts_of(f"{REASON}\nFinal answer: 72", "number")
    thought = parts_of(f"<think>\n{REASON}\n</think>\nFinal answer: 72", "number")
    assert thought.reasoning == REASON
    assert parts_of("Final answer: 3\nNo.\nFinal answer: 72", "number").several
    for hostile in ("\\boxed{" * 20_000, "```sql\n" * 20_000, "Final answer" * 20_000, "{" * 100_000, "最终答案：" * 20_000):
        began = time.perf_counter()
        for kind in ("text", "number", "sql"):
            parts_of(hostile, kind)
        assert time.perf_counter() - began < 2


def test_kinds() -> None:
    assert [kind_of(gold) for gold in ("72", "12 apples", "5月", "$5 per hour")] == ["number"] * 4
    assert [kind_of(gold) for gold in ("Apollo 11", "2024-01-05", "yes", "B", "3 cats and 2 dogs", "一起")] == ["text"] * 6
    assert [kind_of(gold) for gold in ("SELECT 1", "```sql\nwith a as (select 1) select * from a\n```")] == ["sql"] * 2


# --- what is asked ---


def test_the_question_is_asked_in_its_own_language() -> None:
    english, chinese = row("How many apples?", "72"), row("一共有多少个苹果？", "72")
    schema = row("CREATE TABLE t (id INT, name TEXT);\n列出所有人的姓名及其编号，按编号排序", "SELECT name, id FROM t")
    assert [language(one) for one in (english, chinese, schema)] == ["en", "zh", "zh"]
    assert asking(english).question.startswith("How many apples?\n\n") and "Final answer:" in asking(english).question
    assert "最终答案：" in asking(chinese).question and "```sql" in asking(schema).question
    assert "```sql" in asking(english, answers="sql").question and "72" not in asking(english).question
    hinted = asking(row("How many?", "36 + 36.\n#### 72"), hint=True).question
    assert "is:\n72\n" in hinted and "36" not in hinted
    parts = SourceRow(0, Pair([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}], "x", None))
    assert asking(parts).pair.prompt[-1]["content"][:2] == parts.pair.prompt[-1]["content"]
    assert asking(row("Why {answer} and {marker}?", "72")).question.startswith("Why {answer} and {marker}?")


@pytest.mark.parametrize(
    "reasoning",
    ["As the given answer says, it is 72.", "We were told that the answer is 72, so", "Since we know the answer is 72,",
     "This matches the correct answer.", "Following the hint, we add.", "根据提示，结果应为72。", "已知答案是72，所以", "这与标准答案一致。",
     "由于题目给出的正确答案为 72", "你告诉了我答案"],
)  # fmt: skip
def test_reasoning_that_tells_its_hint(reasoning: str) -> None:
    assert tells_hint(reasoning, "How many apples?")
    assert tells_hint(reasoning, f"How many? {reasoning}") is None  # the question's own words


@pytest.mark.parametrize(
    "reasoning",
    [REASON, "So the correct answer is 72.", "Given the two numbers, we answer 72.", "已知两个箱子各有36个，所以答案是72。",
     "The solution is to add both.", "题目提供了两个数字，因此结果是72。"],
)  # fmt: skip
def test_reasoning_that_tells_nothing(reasoning: str) -> None:
    assert tells_hint(reasoning, "How many apples?") is None


def test_signs_are_looked_for_in_linear_time() -> None:
    for hostile in ("the given " * 2_000, "answer that was " * 2_000, "答案已经" * 5_000, "we are told the " * 2_000):
        began = time.perf_counter()
        tells_hint(hostile, "")
        assert time.perf_counter() - began < 1


# --- verdicts ---


def attempts(*texts: str, **fields: Any) -> list[Candidate]:
    return [Candidate(0, number, "reasoning", text, ended=True, **fields) for number, text in enumerate(texts)]


def test_every_verdict() -> None:
    made = attempts(
        f"{REASON}\nFinal answer: 71", f"{REASON}\nFinal answer: 72", f"{REASON} \nFinal answer: 72.0", "Easy.\nFinal answer: 72",
        f"{REASON} It is 72.", f"{REASON}\nFinal answer: 1\nNo.\nFinal answer: 72", f"Both hold 72. {REASON}\nFinal answer: 72",
        f"{REASON} As the given answer says.\nFinal answer: 72",
    )  # fmt: skip
    made[7].parameters["hint"] = True
    made += [Candidate(0, 8, "reasoning", f"{REASON}\nFinal answer: 72", ended=False),
             Candidate(0, 9, "reasoning", "", problem="endpoint_failed")]  # fmt: skip
    asked = row("How many apples?", "72")
    Judging().judge(asked, made)
    assert [one.measures["verdict"] for one in made] == [
        "wrong", "right", "duplicate", "no_reasoning", "no_final_answer", "several_answers", "right", "tells_hint", "cut_off",
        "failed",
    ]  # fmt: skip
    assert {one.measures["verdict"] for one in made} == set(VERDICTS)
    assert [one.number for one in made if one.choice == "chosen"] == [1]
    Judging(keep="all").judge(asked, made)
    assert [one.number for one in made if one.choice == "chosen"] == [1, 6]
    for lang in ("en", "zh"):
        words = load_config(f"words/{lang}/candidates.yaml")
        for one in made:
            [why] = one.why
            assert words[why["entry"]].format(**why)


def test_the_answer_to_learn() -> None:
    asked, [attempt] = row("How many?", "36 + 36 = 72\n#### 72"), attempts(f"{REASON}\n**Final Answer:** 72.0 apples\nBye!")
    assert Judging().answer(asked, attempt) == f"{REASON}\n\nFinal answer: 72"
    assert Judging(think=True).answer(asked, attempt) == f"<think>\n{REASON}\n</think>\n\n36 + 36 = 72\n#### 72"
    chinese, [attempt] = row("有多少？", "七十二"), attempts("两箱各三十六个，加起来。\n最终答案：72")
    assert Judging().answer(chinese, attempt) == "两箱各三十六个，加起来。\n\n最终答案：七十二"
    query = row("How many?", "SELECT 1")
    [attempt] = attempts(f"{REASON}\nFinal answer:\n```sql\nselect  2 - 1\n```")
    attempt.measures["sql"] = {"same_result": True, "equal_canonical": False}
    assert Judging().answer(query, attempt).endswith("\n\nFinal answer:\n```sql\nselect  2 - 1\n```")
    attempt.measures["sql"] = {"same_result": True, "equal_canonical": True}
    assert Judging().answer(query, attempt).endswith("\n\nFinal answer:\n```sql\nSELECT 1\n```")


# --- the command ---


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return str(path)


def sums(rows: int) -> list[dict[str, str]]:
    return [{"instruction": f"What is {i} + {i}?", "output": str(2 * i)} for i in range(1, rows + 1)]


def reasoner(body: Mapping[str, Any]) -> str:
    """Right, wrong and markerless reasoning to `What is I + I?`, by the number of the attempt. Odd sums come out right
    only when the answer was shown, and then say so in the first attempt."""
    asked = prompt_of(body)
    value = int(asked.partition("What is ")[2].partition(" +")[0])
    number = body["seed"] % 1000
    shown = "right answer to this question is" in asked
    steps = f"Attempt {number}: we take {value} and add {value} once more, step by step."
    if value % 2 and not shown:
        return f"{steps}\n\nFinal answer: {2 * value + 1}"
    if shown and number % 3 == 0:
        return f"{steps} That agrees with the given answer.\n\nFinal answer: {2 * value}"
    wrong = [f"{steps}\n\nFinal answer: {2 * value + 1}", f"{steps} It is {2 * value}."]
    return [*wrong, f"{steps}\n\nFinal answer: {2 * value}"][number % 3] if not shown else f"{steps}\n\nFinal answer: {2 * value}"


def cot(url: str, data: str, output: Path, *more: str) -> int:
    given = ["cot", "--model", url, "--data", data, "--output", str(output), "--num-candidates", "3", *more]
    return main(given)


def read(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(output.read_text("utf-8"))
    return found


def test_right_wrong_and_markerless_reasoning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*sums(6), {"instruction": "What is the weather?"}, {"instruction": "Say hello", "output": "  "}]
    data, output = write(tmp_path / "data.json", rows), tmp_path / "out.json"
    with openai_server(answer=reasoner, faults=Faults(0.2, ("429", "cut"), in_a_row=2)) as server:
        assert cot(server.url, data, output, "--format", "json") == 0
        asked = len({request["key"] for request in server.requests})
    account = json.loads(capsys.readouterr().out)
    assert asked == account["attempts"] == 18
    assert {name: account[name] for name in ("rows", "rows_without_answer", "rows_asked", "rows_kept", "written")} == {
        "rows": 8, "rows_without_answer": 2, "rows_asked": 6, "rows_kept": 3, "written": 3}  # fmt: skip
    assert account["verdicts"] == {"wrong": 12, "no_final_answer": 3, "right": 3}
    assert account["by_kind"] == {"number": account["verdicts"]}
    assert [one["instruction"] for one in read(output)] == ["What is 2 + 2?", "What is 4 + 4?", "What is 6 + 6?"]
    first = read(output)[0]
    assert first == {
        "instruction": "What is 2 + 2?", "input": "",
        "output": "Attempt 2: we take 2 and add 2 once more, step by step.\n\nFinal answer: 4",
    }  # fmt: skip
    held = {index: made for index, made, _ in read_candidates(tmp_path / "out.json.candidates.jsonl")}
    assert sorted(held) == list(range(6)) and [one.measures["verdict"] for one in held[1]] == ["wrong", "no_final_answer", "right"]
    assert held[0][0].why == [{"entry": "cot_wrong", "said": "3", "right": "2"}]


def test_hints_for_failed_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = write(tmp_path / "data.json", sums(4)), tmp_path / "out.jsonl"
    with openai_server(answer=reasoner) as server:
        assert cot(server.url, data, output, "--hint", "failed", "--keep", "all", "--to", "messages", "--format", "json") == 0
        hinted = [r for r in server.requests if "right answer to this question" in prompt_of(r)]
    assert len(hinted) == 6  # rows 1 and 3
    account = json.loads(capsys.readouterr().out)
    assert account["rows_kept"] == 4 and account["written"] == 6 and account["written_hinted"] == 4
    assert account["verdicts"]["tells_hint"] == 2
    talks = [json.loads(line)["messages"] for line in output.read_text("utf-8").splitlines()]
    assert [turn["role"] for turn in talks[0]] == ["user", "assistant"] and talks[0][0]["content"] == "What is 1 + 1?"
    held = {index: made for index, made, _ in read_candidates(tmp_path / "out.jsonl.candidates.jsonl")}
    assert [one.number for one in held[0]] == [0, 1, 2, 3, 4, 5] and [one.number for one in held[1]] == [0, 1, 2]
    assert [one.parameters.get("hint") for one in held[0]] == [None] * 3 + [True] * 3
    assert [one.choice for one in held[0]] == [None] * 4 + ["chosen"] * 2


def test_hints_for_all_rows_and_think(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = write(tmp_path / "data.json", sums(2)), tmp_path / "out.json"
    with openai_server(answer=reasoner) as server:
        assert cot(server.url, data, output, "--hint", "--think", "--lang", "zh") == 0
        assert len(server.requests) == 6
    said = capsys.readouterr().out
    assert "2 行带推理的数据" in said and "在给出正确答案的情况下写的" in said
    assert read(output)[1]["output"] == "<think>\nAttempt 1: we take 2 and add 2 once more, step by step.\n</think>\n\n4"


def test_stopped_and_resumed(tmp_path: Path) -> None:
    """An undisturbed run, and one whose server went away in its midst."""
    data = write(tmp_path / "data.json", sums(12))
    whole, broken = tmp_path / "whole.json", tmp_path / "broken.json"
    with openai_server(answer=reasoner) as server:
        assert cot(server.url, data, whole, "--hint", "failed") == 0
        port_url = server.url
        seen: list[int] = []

        def stops(body: Mapping[str, Any]) -> str:
            seen.append(1)
            if len(seen) == 20:
                os.kill(os.getpid(), 15)  # a polite kill in the midst of the first pass
            return reasoner(body)

        server.answer = stops
        assert cot(port_url, data, broken, "--hint", "failed", "--concurrency", "2") == 3
        assert cot(port_url, data, broken, "--hint", "failed") == 2  # something lies there
        assert cot(port_url, data, broken, "--hint", "always", "--resume") == 2  # of other settings
        assert cot(port_url, data, broken, "--hint", "failed", "--resume") == 0
        assert cot(port_url, data, broken, "--hint", "failed", "--resume") == 0  # done already
    assert broken.read_bytes() == whole.read_bytes()
    ends = [(tmp_path / f"{name}.json.candidates.jsonl").read_bytes() for name in ("broken", "whole")]
    assert ends[0] == ends[1]


def test_queries_are_compared_by_their_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = tmp_path / "shop.sqlite"
    with sqlite3.connect(database) as made:
        made.executescript("CREATE TABLE item (name TEXT, price INT); INSERT INTO item VALUES ('a', 1), ('b', 5), ('c', 9);")
    made.close()
    rows = [{"instruction": "Names of items above 3", "output": "SELECT name FROM item WHERE price > 3"}]
    answers = ["select NAME from item where price > 3", "SELECT name FROM item WHERE price >= 5",
               "SELECT name FROM item", "ATTACH 'x' AS y", "SELECT name FROM nowhere"]  # fmt: skip

    def reply(body: Mapping[str, Any]) -> str:
        number = body["seed"] % 1000
        return f"Way {number}: we look at the prices and keep what is above three.\n\nFinal answer:\n```sql\n{answers[number]}\n```"

    data = write(tmp_path / "data.json", rows)
    with openai_server(answer=reply) as server:
        more = ("--num-candidates", "5", "--keep", "all", "--format", "json")
        assert cot(server.url, data, tmp_path / "out.json", "--database", str(database), *more) == 0
        assert json.loads(capsys.readouterr().out)["by_kind"] == {"sql": {"wrong": 3, "right": 2}}
        written = [one["output"].partition("```sql\n")[2] for one in read(tmp_path / "out.json")]
        assert written == ["SELECT name FROM item WHERE price > 3\n```", "SELECT name FROM item WHERE price >= 5\n```"]
        assert cot(server.url, data, tmp_path / "plain.json", *more) == 0  # without a database the same query only
        assert json.loads(capsys.readouterr().out)["verdicts"]["right"] == 1
    assert sqlite3.connect(database).execute("SELECT count(*) FROM item").fetchone() == (3,)


@pytest.mark.parametrize("case", ["healthy_decoder", "healthy_t5"])
def test_a_local_model_that_cannot_reason(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:  # fmt: skip
    model = demo.cases[case].checkpoint
    data, output = write(tmp_path / "data.json", sums(3)), tmp_path / "out.json"
    given = ["--max-new-tokens", "12", "--num-candidates", "2", "--seed", "5", "--device", "cpu", "--format", "json"]
    assert cot(str(model), data, output, *given) == 0
    account = json.loads(capsys.readouterr().out)
    assert account["attempts"] == 6 and account["written"] == 0 and read(output) == []
    assert set(account["verdicts"]) <= {"no_final_answer", "cut_off", "failed", "wrong"}


@pytest.mark.parametrize(
    ("more", "says"),
    [(["--to", "trl"], "--to trl"), (["--database", "nowhere.sqlite"], "--database"), (["--temperature", "x"], "--temperature"),
     (["--num-candidates", "0"], "--num-candidates"), (["--dialect", "klingon"], "klingon"), (["--adapter", "a"], "--adapter"),
     (["--resume", "--overwrite"], "--resume")],
)  # fmt: skip
def test_what_cannot_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str) -> None:
    data = write(tmp_path / "data.json", sums(1))
    assert cot("http://127.0.0.1:9/v1", data, tmp_path / "out.json", *more) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out


