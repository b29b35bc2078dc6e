"""Files we export, as `datasets` loads them: rows that differ lose nothing and break nothing, whatever differs in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairFile
from pipeline.pairs.write_pairs import WriteReport, write_pairs

SUFFIXES = (".json", ".jsonl", ".parquet")
LATE = 1500  # rows of 10 KB, after which the first 10 MB of a file are over


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


PAIR = Pair([user("What is 3 plus 3?")], "6", "7")
TALK = Pair([user("a"), assistant("b"), user("c")], "d", "e")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, WriteReport]]:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    root = tmp_path_factory.mktemp("loaded")

    def load(pairs: Any, format: str, suffix: str) -> tuple[Any, WriteReport]:
        path = root / f"{len(list(root.iterdir()))}{suffix}"
        report = write_pairs(pairs, path, format)
        kind = "parquet" if suffix == ".parquet" else "json"
        rows = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(root / "cache"))
        again = PairFile(path, format=format)
        assert sum(1 for _ in again) == len(rows) and not again.left_out
        return rows, report

    return load


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", ["kto", "prompt-completion", "prompt=q,completion=a"])
@pytest.mark.parametrize("needs", [TALK, replace(PAIR, chosen=[*TALK.prompt, assistant("x")]), None], ids=["talk", "answer", "text"])
def test_text_only_where_all_can_be_text(
    loaded: Callable[..., Any], format: str, suffix: str, needs: Pair | None
) -> None:
    rows, report = loaded([PAIR, *([needs] if needs else []), PAIR], format, suffix)
    asked, answered = ("q", "a") if "=" in format else ("prompt", "completion")
    text = needs is None
    assert rows[0][asked] == (PAIR.prompt[0]["content"] if text else PAIR.prompt)
    assert rows[0][answered] == ("6" if text else [assistant("6")])
    assert rows[len(rows) - 1][asked] == rows[0][asked]
    if needs is TALK:
        assert rows[2 if format == "kto" else 1][asked] == TALK.prompt
    assert (report.in_turns, report.rows) == (int(not text), 2 + int(not text))


@pytest.mark.parametrize("format", ["kto", "prompt-completion"])
def test_a_system_text_needs_turns(loaded: Callable[..., Any], format: str) -> None:
    """TRL reads no column `system`."""
    rows, _ = loaded([PAIR, replace(PAIR, system="Be brief.")], format, ".jsonl")
    assert rows[0]["prompt"] == PAIR.prompt
    assert rows[len(rows) - 1]["prompt"] == [{"role": "system", "content": "Be brief."}, *PAIR.prompt]


def test_a_system_text_has_a_column_where_the_user_names_them(tmp_path: Path) -> None:
    write_pairs([PAIR, replace(PAIR, system="s")], tmp_path / "x.jsonl", "prompt=q,completion=a,system=who")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert rows == [{"q": "What is 3 plus 3?", "a": "6"}, {"q": "What is 3 plus 3?", "a": "6", "who": "s"}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rejected_of_ms_swift_has_one_column(loaded: Callable[..., Any], suffix: str) -> None:
    """ms-swift leaves out rows whose `rejected_response` is null."""
    rows, _ = loaded([PAIR, PAIR], "ms-swift", suffix)
    assert rows.column_names == ["messages", "rejected_response"]
    rows, _ = loaded([PAIR, replace(PAIR, rejected=[*TALK.prompt, assistant("x")])], "ms-swift", suffix)
    assert rows.column_names == ["messages", "rejected_messages"]
    assert rows[0]["rejected_messages"] == [*PAIR.prompt, assistant("7")]


EXTRAS: dict[str, tuple[list[Any], list[Any]]] = {
    "whole and fraction": ([1, 0.5, None], [1.0, 0.5, None]),
    "fractions in lists": ([[1], [0.5], []], [[1.0], [0.5], []]),
    "long numbers": ([2**62, 1], [2**62, 1]),
    "long numbers and fractions": ([2**62, 0.5], [str(2**62), "0.5"]),
    "wide numbers": ([2**70, 1], [str(2**70), "1"]),
    "text and number": (["6", 6, None], ["6", "6", None]),
    "text and truth": (["x", True], ["x", "true"]),
    "number and truth": ([2, True], ["2", "true"]),
    "text and list": (["x", ["a", 1]], ["x", '["a", 1]']),
    "texts and numbers in lists": ([["6", 6], [7]], [["6", "6"], ["7"]]),
    "text and object": (["x", {"a": 1}], ["x", '{"a": 1}']),
    "kinds in one field": ([{"a": 1}, {"a": "x"}], [{"a": "1"}, {"a": "x"}]),
    "alike": ([{"a": [{"b": 1.5}]}, {"a": []}], [{"a": [{"b": 1.5}]}, {"a": []}]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", EXTRAS)
def test_a_column_gets_one_kind_of_value(loaded: Callable[..., Any], suffix: str, name: str) -> None:
    values, expected = EXTRAS[name]
    rows, report = loaded([replace(PAIR, extra={"x": value, "n": n}) for n, value in enumerate(values)], "trl", suffix)
    found = [row["x"] for row in rows]
    assert found == expected and [type(one) for one in found] == [type(one) for one in expected]
    text = any(isinstance(one, str) and one != value for one, value in zip(expected, values, strict=True))
    in_it = name in ("texts and numbers in lists", "kinds in one field")
    assert report.as_text == (["x"] if text or in_it else [])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_and_scores_that_are_none_lose_nothing(tmp_path: Path, loaded: Callable[..., Any], suffix: str) -> None:
    source = tmp_path / "rows.jsonl"
    rows = [{"id": 7, "score_chosen": 1}, {"id": "a7", "score_chosen": 0.5}, {"id": 7.5, "score_chosen": "n/a"}]
    source.write_text("".join(json.dumps({"prompt": "q", "chosen": "6", "rejected": "c", **row}) + "\n" for row in rows))
    found, _ = loaded(PairFile(source), "trl", suffix)
    assert [row["id"] for row in found] == ["7", "a7", "7.5"]
    assert [row["score_chosen"] for row in found] == ["1.0", "0.5", "n/a"]
    assert [row["chosen"] for row in found] == ["6"] * 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_texts_beside_pictures(tmp_path: Path, suffix: str) -> None:
    seen = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "What is it?"}]
    pairs = [PAIR, replace(PAIR, prompt=[{"role": "user", "content": seen}])]
    path = tmp_path / f"x{suffix}"
    assert write_pairs(pairs, path, "trl-conversational").as_text == []
    if suffix != ".parquet":
        written = json.loads(path.read_text()) if suffix == ".json" else [json.loads(s) for s in path.read_text().splitlines()]
        assert written[0]["prompt"] == [{"role": "user", "content": [{"type": "text", "text": "What is 3 plus 3?"}]}]
        assert list(PairFile(path)) == pairs
    else:  # where all parts have all fields
        [text, picture] = PairFile(path)
        assert text == PAIR and picture.prompt[0]["content"][0]["image"] == "x.png"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arguments_and_tools_of_parquet_are_json(loaded: Callable[..., Any], suffix: str) -> None:
    """No other call gets the arguments of one as null; TRL reads `tools` of either kind."""
    calls = [{"type": "function", "function": {"name": "f", "arguments": held}} for held in ({"a": 1}, {"b": "x"})]
    tools = [[{"type": "function", "function": {"name": "f", "parameters": {"properties": {name: {"type": "string"}}}}}] for name in "ab"]
    pairs = [replace(PAIR, chosen=[assistant("", tool_calls=[call])], extra={"tools": one}) for call, one in zip(calls, tools, strict=True)]
    rows, report = loaded(pairs, "trl-conversational", suffix)
    held = [row["chosen"][0]["tool_calls"][0]["function"]["arguments"] for row in rows]
    if suffix == ".parquet":
        assert held == ['{"a": 1}', '{"b": "x"}'] and [json.loads(row["tools"]) for row in rows] == tools
        assert report.as_text == ["chosen", "tools"]
    else:
        assert held == [{"a": 1}, {"b": "x"}] and [row["tools"] for row in rows] == tools and not report.as_text


def long_file(last: Pair) -> Iterator[Pair]:
    for n in range(LATE):
        yield replace(PAIR, rejected=f"{n} {'x' * 10_000}", extra={"weight": 1, "list": []})
    yield last


BEGINS_LATE = {
    "a column": replace(PAIR, extra={"weight": 1, "list": [], "topic": "t"}),
    "a fraction": replace(PAIR, extra={"weight": 0.5, "list": []}),
    "items": replace(PAIR, extra={"weight": 1, "list": [["a", "b"]]}),
    "a field of a turn": replace(PAIR, prompt=[{**user("q"), "name": "Ann"}], extra={"weight": 1, "list": []}),
    "a score": replace(PAIR, score_chosen=1.0, extra={"weight": 1, "list": []}),
    "text among numbers": replace(PAIR, extra={"weight": "heavy", "list": []}),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", BEGINS_LATE)
def test_what_begins_late_in_a_long_file(loaded: Callable[..., Any], name: str, suffix: str) -> None:
    """`datasets` takes the columns of a .jsonl from its first 10 MB."""
    last = BEGINS_LATE[name]
    rows, report = loaded(long_file(last), "trl-conversational", suffix)
    assert len(rows) == LATE + 1
    moved = suffix == ".jsonl" and name not in ("a fraction", "text among numbers")
    found = rows[0 if report.put_first else LATE]
    assert found["prompt"][0]["content"] == last.prompt[0]["content"] and found["prompt"][0].get("name") == last.prompt[0].get("name")
    for column, value in {**last.extra, "score_chosen": last.score_chosen}.items():
        assert found.get(column) == value
    assert report.put_first == int(moved)
    numbers = [int(row["rejected"][0]["content"].partition(" ")[0]) for row in rows if " " in row["rejected"][0]["content"]]
    assert numbers == list(range(LATE))


def test_a_thousand_fields_and_more(loaded: Callable[..., Any]) -> None:
    """An object with a key for each row is no struct of as many fields."""
    pairs = [replace(PAIR, extra={"seen": {f"key {n}": n}, "empty": {}}) for n in range(3000)]
    rows, report = loaded(pairs, "trl", ".parquet")
    assert json.loads(rows[2999]["seen"]) == {"key 2999": 2999} and rows[0]["empty"] == "{}"
    assert report.as_text == ["seen", "empty"]
