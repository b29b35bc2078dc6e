"""`generate` on SQL, end to end: what a database shows to be right is never rejected, and nothing hostile is run."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openai_server import OpenAIServer, openai_server, prompt_of

from pipeline.__main__ import main

NAMES = "List the names of all items that cost more than 4."
COUNT = "How many items are there in the shop?"
DEAREST = "哪一件商品最贵？"
GOLD = {
    NAMES: "SELECT name FROM item WHERE price > 4",
    COUNT: "SELECT count(*) FROM item",
    DEAREST: "SELECT name FROM item ORDER BY price DESC LIMIT 1",
}
EQUAL = {  # in other words, by normal form or by what the database gives
    NAMES: ["select i.name from item i where i.price >= 5", "Here it is:\n```sql\nSELECT name FROM item WHERE NOT price <= 4;\n```",
            "SELECT name FROM item WHERE 4 < price"],
    COUNT: ["select count(id) from item", "SELECT sum(1) FROM item", "SELECT COUNT ( * ) FROM `item`"],
    DEAREST: ["SELECT name FROM item WHERE price = (SELECT max(price) FROM item)", "select name from item where id = 3",
              "SELECT name FROM item ORDER BY price DESC LIMIT 1 OFFSET 0"],
}  # fmt: skip
WRONG = ["SELECT name FROM item WHERE price < 4", "SELECT name FROM item WHERE kind = 'b' AND price < 20", "SELECT kind FROM item",
         "SELECT nope FROM item", "SELEC name FRM item", "SELECT max(price) FROM item"]  # fmt: skip
HOSTILE = [
    "ATTACH DATABASE 'evil.db' AS evil", "ATTACH DATABASE 'evil.db' AS e; CREATE TABLE e.t(a)", "PRAGMA writable_schema = 1",
    "SELECT name FROM item WHERE price > 4; DROP TABLE item", "DELETE FROM item", "VACUUM INTO 'evil.db'",
    "SELECT load_extension('evil')", "SELECT writefile('evil.txt', 'x')", "SELECT readfile('/etc/passwd')",
    "EXPLAIN SELECT name FROM item", "WITH d AS (SELECT 1) DELETE FROM item", "SELECT " + "(" * 3000 + "1" + ")" * 3000,
]  # fmt: skip
SAME = ["SELECT kind FROM item", "select `kind`\nfrom `item`", "SELECT i.kind FROM item AS i"]
BOMBS = ["WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
         "SELECT hex(zeroblob(900000000))"]  # fmt: skip


def built(path: Path, *, dearest: str = "lamp") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL, kind TEXT)")
        rows = [(1, "pen", 2, "a"), (2, "book", 10, "b"), (3, dearest, 30, "b"), (4, "cup", 5, "a")]
        made.executemany("INSERT INTO item VALUES (?, ?, ?, ?)", rows)
    made.close()
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": asked, "output": gold, "db_id": "shop"} for asked, gold in GOLD.items()]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def answers(asked: str) -> list[str]:
    return [*EQUAL[asked], *WRONG, *HOSTILE, *(BOMBS if asked == COUNT else [])]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """Answers candidate number n of a row with the nth of its answers."""

    def answer(body: Mapping[str, Any]) -> str:
        asked = next(one for one in GOLD if one in prompt_of(body))
        return answers(asked)[int(body["seed"]) % 1000 % len(answers(asked))]

    with openai_server(answer=answer) as running:
        yield running


N = len(answers(COUNT))


def generate(*argv: object) -> int:
    return main(["generate", *map(str, argv)])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a statement would write a file of a relative name."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_what_is_right_by_execution_is_never_rejected(
    tmp_path: Path, data: Path, server: OpenAIServer, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = built(tmp_path / "shop.sqlite")
    before = database.read_bytes()
    output = tmp_path / "out.jsonl"
    options = ("--data", data, "--output", output, "--database", database, "--max-new-tokens", 4000)
    began = time.monotonic()
    assert generate("--model", server.url, *options, "--strategy", f"endpoint:n={N}", "--preset", "text2sql") == 0
    assert time.monotonic() - began < 60
    for choose in (None, "all", "on_topic:may_be_right=allow", "varied:per_row=all", "hard"):
        if choose is not None:  # measured once, chosen from again
            own = ("--choose-only", "--model", server.url, "--strategy", f"endpoint:n={N}", "--dialect", "sqlite")
            assert generate(*own, *options, "--choose", choose) == 0
        rejected = {(pair["instruction"], pair["rejected"]) for pair in lines(output)}
        assert rejected, choose
        assert not rejected & {(asked, text) for asked in GOLD for text in (*EQUAL[asked], GOLD[asked])}, choose
    kept = lines(tmp_path / "out.jsonl.candidates.jsonl")
    for one in kept:
        found = one["measures"].get("sql") or {}
        if one["text"] in EQUAL[one["instruction"]]:
            assert found["same_result"] is True or found["equal_canonical"] is True, one["text"]
        elif one["text"] in HOSTILE:
            assert found["runs"] is False and found["same_result"] is None, one["text"]
            assert found["refused"] or not found["parses"], one["text"]
        elif one["text"] in BOMBS:
            assert found["runs"] is False and found["error"]["entry"] in ("sql_run_timeout", "sql_run_too_large")
    assert {one["text"] for one in kept} >= {*HOSTILE, *BOMBS, *WRONG}
    assert database.read_bytes() == before and not list(in_folder.iterdir())
    assert "Traceback" not in capsys.readouterr().err


def test_without_a_policy_too(tmp_path: Path, data: Path, server: OpenAIServer, in_folder: Path) -> None:
    output = tmp_path / "out.jsonl"
    database = built(tmp_path / "shop.sqlite")
    n = len(EQUAL[NAMES]) + len(WRONG)
    assert generate("--model", server.url, "--data", data, "--output", output, "--database", database, "--strategy",
                    f"endpoint:n={n}", "--reward", "sql") == 0  # fmt: skip
    rejected = [pair["rejected"] for pair in lines(output)]
    assert len(rejected) == len(GOLD) * len(WRONG) and not {text for texts in EQUAL.values() for text in texts} & {*rejected}


def test_rejection_sampling_by_execution(tmp_path: Path, data: Path, server: OpenAIServer) -> None:
    output = tmp_path / "out.jsonl"
    database = built(tmp_path / "shop.sqlite")
    n = len(EQUAL[NAMES]) + len(WRONG)
    assert generate("--model", server.url, "--data", data, "--output", output, "--database", database, "--strategy",
                    f"endpoint:n={n}", "--reward", "sql", "--choose", "best_of_n") == 0  # fmt: skip
    for pair in lines(output):
        asked = pair["instruction"]
        assert pair["chosen"] in (*EQUAL[asked], GOLD[asked]) and pair["rejected"] in WRONG


def test_a_folder_of_databases_by_the_rows_own_ids(
    tmp_path: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same query is right in one database and wrong in another; an id that leads out of the folder is none."""
    folder = tmp_path / "databases"
    built(folder / "one" / "one.sqlite")
    built(folder / "two.db", dearest="vase")
    built(tmp_path / "outside.sqlite")
    gold = "SELECT name FROM item WHERE price > 20"
    data = tmp_path / "rows.jsonl"
    ids = ("one", "two", "../outside", "")
    rows = [{"instruction": f"{number}. {DEAREST}", "output": gold, "db_id": name} for number, name in enumerate(ids)]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    output = tmp_path / "out.jsonl"
    server.answer = lambda body: "SELECT name FROM item WHERE name = 'vase'"
    options = ("--model", server.url, "--data", data, "--output", output, "--strategy", "endpoint")
    assert generate(*options, "--database", folder) == 0
    assert "2 of 4 rows name no database" in capsys.readouterr().err
    measured = [one["measures"]["sql"] for one in lines(tmp_path / "out.jsonl.candidates.jsonl")]
    assert [one["same_result"] for one in measured] == [False, True, None, None]
    assert [pair["instruction"][0] for pair in lines(output)] == ["0", "2", "3"]
    # not one row finds its database
    (tmp_path / "empty").mkdir()
    assert generate(*options, "--database", tmp_path / "empty", "--overwrite") == 2
    assert "no row names a database" in capsys.readouterr().err


def test_databases_and_dialects_that_can_not_be_used(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.sqlite").write_bytes(b"")
    (tmp_path / "dump.sql").write_text("CREATE TABLE item (id INTEGER);", encoding="utf-8")
    (tmp_path / "text.sqlite").write_text("no database", encoding="utf-8")
    for given, says in (
        (("--database", tmp_path / "nowhere.sqlite"), "no such file or folder"),
        (("--database", tmp_path / "empty.sqlite"), "empty"),
        (("--database", tmp_path / "dump.sql"), "SQL text, not a database"),
        (("--database", tmp_path / "text.sqlite"), "not a SQLite database"),
        (("--database", "/dev/zero"), "not a regular file"),
        (("--dialect", "klingon"), "no SQL dialect is called that"),
    ):
        assert generate("--data", data, "--output", tmp_path / "out.jsonl", "--strategy", "sql_change", *given) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1 and says in told.err


def test_the_same_query_in_other_words_is_one_candidate(tmp_path: Path, data: Path, server: OpenAIServer) -> None:
    """--dedup sql needs no database."""
    server.answer = lambda body: SAME[body["seed"] % 1000]
    output = tmp_path / "out.jsonl"
    options = ("--model", server.url, "--data", data, "--output", output, "--strategy", "endpoint:n=3")
    assert generate(*options, "--dedup", "sql") == 0
    assert len(lines(output)) == len(GOLD)
    kept = lines(tmp_path / "out.jsonl.candidates.jsonl")
    assert [one["measures"]["duplicate_kind"] for one in kept[:3]].count("sql") == 2
