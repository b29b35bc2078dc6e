"""Statements and files that mean harm: nothing is written, nothing runs away, everything gets one line."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.refusal import Refused
from pipeline.sql.limits import default_limits
from pipeline.sql.measure_sql import measure_sql
from pipeline.sql.normal_form import canonical, normalised
from pipeline.sql.parse_sql import parse, sql_in
from pipeline.sql.run_query import DATABASE, QueryRunner, checked_database, run_query, schema_of
from pipeline.sql.same_result import SqlComparer

QUICK = replace(default_limits(), seconds=0.6, grace_seconds=0.4, heap_bytes=64_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile")
    database = sqlite3.connect(path / "shop.db")
    database.executescript(
        """
        CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL);
        INSERT INTO item VALUES (1, 'apple', 1.5), (2, 'pear', 2.0), (3, 'plum', NULL);
        CREATE TABLE log (said TEXT);
        CREATE TRIGGER loud AFTER INSERT ON item BEGIN INSERT INTO log VALUES ('x'); END;
        CREATE VIEW trap AS SELECT load_extension('x') AS y;
        """
    )
    database.close()
    return path


@pytest.fixture(scope="module")
def quick() -> QueryRunner:
    runner = QueryRunner(QUICK)
    yield runner
    runner.close()


def _state(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


REFUSED = [
    "INSERT INTO item VALUES (9, 'x', 1)", "UPDATE item SET price = 0", "DELETE FROM item", "REPLACE INTO item VALUES (1, 'x', 1)",
    "DROP TABLE item", "ALTER TABLE item ADD COLUMN x", "CREATE TABLE x (a)", "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE TEMP TRIGGER t AFTER INSERT ON item BEGIN SELECT 1; END", "CREATE VIRTUAL TABLE x USING fts5(a)", "CREATE VIEW v AS SELECT 1",
    "CREATE INDEX i ON item (name)", "ATTACH DATABASE '{out}' AS x", "ATTACH ':memory:' AS x", "DETACH DATABASE main",
    "PRAGMA writable_schema = 1", "PRAGMA journal_mode = WAL", "PRAGMA hard_heap_limit = 0", "PRAGMA query_only = OFF", "PRAGMA table_info(item)",
    "VACUUM", "VACUUM INTO '{out}'", "REINDEX", "ANALYZE", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE s",
    "EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN SELECT * FROM item", "SELECT 1; DROP TABLE item", "SELECT 1;\n-- x\nDELETE FROM item",
    "SELECT 1; /* ; */ ; PRAGMA user_version = 7", "SELECT 1 /* */; SELECT 2", "-- x\nDROP TABLE item", "/* SELECT */ DELETE FROM item",
    "\ufeffDELETE FROM item", ";DELETE FROM item", "SELECT 1\0; DROP TABLE item", "\0", "DROP/**/TABLE/**/item", "dRoP tAbLe item",
    "WITH x AS (SELECT 1) DELETE FROM item", "WITH x AS (SELECT 1) INSERT INTO item SELECT 7, 'x', 1", "WITH x AS (SELECT 1) UPDATE item SET price = 0",
    "SELECT load_extension('/tmp/x')", "SELECT load_extension('/tmp/x', 'y')", "SELECT fts3_tokenizer('simple')", "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT sqlite_log(1, 'x')", "SELECT * FROM pragma_table_info('item')", "SELECT * FROM pragma_journal_mode('wal')", "SELECT * FROM dbstat",
    "SELECT * FROM item WHERE (SELECT load_extension('x'))", "DROP TABLE item --", "\u00a0DROP TABLE item", "ＳＥＬＥＣＴ 1",
    "TABLE item", ".read /etc/passwd", ".shell id", "COPY item TO '{out}'", "SHOW TABLES", "", "   ", ";;;", "/*", "--",
]  # fmt: skip
FAIL = [
    "SELECT readfile('/etc/passwd')", "SELECT writefile('{out}', 'x')", "SELECT edit('x')", "SELECT * INTO x FROM item", "SELECT name INTO OUTFILE '{out}' FROM item",
    "SELECT ?", "SELECT :name", "SELECT @x := 1", "SELECT * FROM nothing", "SELECT '\ud800'", "SELECT " + "(" * 500 + "1" + ")" * 500,
    "SELECT " + "1 + " * 900 + "1", "SELECT " + "- " * 5000 + "1", "SELECT 1" + " UNION SELECT 1" * 300, "SELECT " + "(SELECT " * 200 + "1" + ")" * 200,
    "SELECT " + "CASE WHEN 1 THEN " * 400 + "1" + " END" * 400, "SELECT 'a", 'SELECT "a', "SELECT [a", "SELECT name FROM item WHERE", "SELECT 1 FROM item" + ", item" * 100,
    "SELECT ſ FROM item", "SELECT * FROM trap", "SELECT * FROM item WHERE name MATCH 'x'", "SELECT nothing(1)",
]  # fmt: skip


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_plain_query_is_refused(folder: Path, tmp_path: Path, sql: str) -> None:
    before = _state(folder)
    out = tmp_path / "out"
    result = run_query(folder / "shop.db", sql.replace("{out}", str(out)))
    assert result.refused, result
    assert result.sentence is not None and result.sentence.said("en") and result.sentence.said("zh")
    assert not out.exists() and _state(folder) == before


@pytest.mark.parametrize("sql", FAIL, ids=lambda sql: sql[:30])
def test_what_sqlite_does_not_take_fails_with_its_words(folder: Path, tmp_path: Path, sql: str) -> None:
    before = _state(folder)
    out = tmp_path / "out"
    started = time.monotonic()
    result = run_query(folder / "shop.db", sql.replace("{out}", str(out)))
    assert result.problem in ("failed", "forbidden") and result.detail
    assert not out.exists() and _state(folder) == before
    assert time.monotonic() - started < 5


BOMBS = {
    "endless count": "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r",
    "endless union": "WITH RECURSIVE r(x) AS (SELECT 1 UNION SELECT x + 1 FROM r) SELECT max(x) FROM r",
    "doubling text": "WITH RECURSIVE r(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM r) SELECT count(x) FROM r",
    "cross join": "SELECT count(*) FROM n a, n b, n c, n d, n e, n f, n g, n h",
    "cross join sorted": "SELECT a.i FROM n a, n b, n c, n d, n e ORDER BY a.i * b.i + c.i - d.i * e.i",
    "cross join grouped": "SELECT count(*) FROM n a, n b, n c, n d, n e GROUP BY a.i, b.i, c.i, d.i, e.i",
    "group_concat": "SELECT group_concat(a.i || hex(zeroblob(10000))) FROM n a, n b, n c",
    "zeroblob": "SELECT zeroblob(1000000000)",
    "randomblob": "SELECT hex(randomblob(900000000))",
    "printf": "SELECT length(printf('%.*c', 900000000, 'x'))",
    "replace": "SELECT replace(replace(replace(hex(zeroblob(2000)), '0', '0000000000000000000'), '0', '00000000000000000000'), '0', 'xxxxxxxxxxxxxxxxxxxx')",
    "one call of instr": "SELECT instr(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || '1')",
    "one call of like": "SELECT hex(zeroblob(2000000)) LIKE '" + "%0_" * 100 + "1'",
    "one call of trim": "SELECT length(ltrim(hex(zeroblob(4000000)), hex(zeroblob(4000000)) || 'x'))",
    "many wide columns": "SELECT " + ", ".join(["zeroblob(9000000)"] * 100),
    "wide rows": "SELECT a.i, hex(zeroblob(2000000)) FROM n a, n b, n c",
    "json": "SELECT json_group_array(a.i || b.i || c.i || d.i) FROM n a, n b, n c, n d",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_at_the_limits(folder: Path, quick: QueryRunner, name: str) -> None:
    sql = BOMBS[name]
    if "FROM n a" in sql:
        sql = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) {sql}"
    before = _state(folder)
    started = time.monotonic()
    result = quick.run(folder / "shop.db", sql)
    assert time.monotonic() - started < 4.0  # 0.6 + 0.4, and a start of a process on a busy machine
    bounded = result.problem in ("timeout", "memory", "too_large", "crashed") or result.truncated or len(result.rows) <= 1
    assert bounded and sum(len(str(cell)) for row in result.rows for cell in row) < 40_000_000
    assert _state(folder) == before
    assert quick.run(folder / "shop.db", "SELECT count(*) FROM item").rows == ((3,),)  # and the next one runs


def test_at_least_one_bomb_needs_the_process_to_be_ended(folder: Path) -> None:
    with QueryRunner(QUICK) as runner:
        runner.run(folder / "shop.db", "SELECT 1")
        first = runner._child.process.pid
        assert runner.run(folder / "shop.db", BOMBS["one call of instr"]).problem == "timeout"
        assert runner.run(folder / "shop.db", "SELECT 1").rows == ((1,),)
        assert runner._child.process.pid != first


def test_a_process_that_dies_is_replaced(folder: Path) -> None:
    with QueryRunner(QUICK) as runner:
        runner.run(folder / "shop.db", "SELECT 1")
        runner._child.process.kill()
        runner._child.process.wait()
        assert runner.run(folder / "shop.db", "SELECT 2").rows == ((2,),)


def test_ten_megabytes_of_statement(folder: Path) -> None:
    started = time.monotonic()
    sql = "SELECT 1 " + "/* x */" * 1_500_000
    assert run_query(folder / "shop.db", sql).problem == "statement_too_long"
    (found,) = measure_sql("SELECT 1", [sql], folder / "shop.db")
    assert not found.is_no_reject and found.problem is not None
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("part", ["\n", ";", ";--\n", "/*", "'", '"', "`", "``` ", "(", "\nwith a (", "\nselect ", "-- ", "$a", "[", "SQL: ", "\n\n "])
@pytest.mark.parametrize("start", ["SELECT 1", "So: ", "```sql\nSELECT 1"])
def test_looking_for_sql_takes_linear_time(start: str, part: str) -> None:
    started = time.process_time()
    for end in ("", "; DROP TABLE item", "\nSELECT 2"):
        text = start + part * (100_000 // len(part)) + end
        sql_in(text)
        normalised(text, "sqlite")
    assert time.process_time() - started < 3


@pytest.mark.parametrize("sql", [
    "SELECT " + "DATE(" * 24 + "1" + ")" * 24, "SELECT " + "STRUCT(" * 24 + "1" + ")" * 24, "SELECT " + "DECIMAL(" * 24 + "1" + ")" * 24,
    "SELECT " + "(" * 9000 + "1", "SELECT " + "CASE " * 3000, "SELECT " + "NOT " * 4000 + "1", "SELECT 1" + " + 1" * 4000,
    "SELECT 1" + " UNION SELECT 1" * 1200, "SELECT a" + "[a" * 3000, "SELECT " + "CAST(" * 20 + "1" + " AS INT)" * 20,
    "SELECT a FROM t WHERE " + " AND ".join(["a = 1"] * 2000), "SELECT a FROM t WHERE a IN (" + ",".join(["1"] * 9000) + ")",
    "'" * 9999, '"' * 9999, "/*" * 9999, "--" * 9999, "(" * 19999, "\\'" * 9000, "SELECT * FROM " + "(SELECT * FROM " * 24 + "t" + ")" * 24,
    "with a (" * 2000, "\n with a (\n" * 2000, "SELECT " + "`" * 9001, "$" * 19000, "SELECT \u2028 1", "\x1b[31mSELECT 1",
], ids=lambda sql: sql[:20])  # fmt: skip
def test_parsing_is_bounded(sql: str) -> None:
    started = time.process_time()
    parsed = parse(sql)
    assert parsed.parses or parsed.problem is not None
    assert isinstance(canonical(sql), str) and isinstance(normalised(sql), str)
    sql_in(sql)
    sql_in("```sql\n" * 50 + sql)
    assert time.process_time() - started < 6


def test_a_deep_caller_gets_an_answer_too() -> None:
    def deeper(levels: int) -> bool:
        return deeper(levels - 1) if levels else parse("SELECT (((((((((1)))))))))").problem is not None

    assert deeper(850) in (True, False)


# --- files -------------------------------------------------------------------------------------------------------


def _refusal(path: Path | str) -> str:
    with pytest.raises(Refused) as refused:
        checked_database(path)
    assert "\n" not in refused.value.said("en") and refused.value.said("zh")
    return refused.value.sentence.entry


def test_files_that_are_no_database(folder: Path, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.db") == "sql_database_not_found"
    assert _refusal("a\0b") == "sql_database_not_found"
    assert _refusal(folder / "shop.db" / "x") == "sql_database_not_found"
    assert _refusal(tmp_path) == "sql_database_is_folder"
    for name, content, entry in (
        ("empty.db", b"", "sql_database_empty"), ("noise.db", os.urandom(8192), "sql_database_not_sqlite"),
        ("dump.sql", b"CREATE TABLE t (a);\n", "sql_database_is_dump"), ("dump.db", b"-- dump\nBEGIN;\n", "sql_database_is_dump"),
        ("lfs.db", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "sql_database_lfs"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert _refusal(tmp_path / name) == entry
        assert run_query(tmp_path / name, "SELECT 1").problem == "not_a_database"
    os.mkfifo(tmp_path / "pipe.db")
    assert _refusal(tmp_path / "pipe.db") == "sql_database_no_file"
    assert run_query(tmp_path / "none.db", "SELECT 1").problem == "database_gone"
    assert "sqlite3 dump.db < " in str(Refused("sql_database_is_dump", path="dump.sql", made="dump.db"))


def test_damaged_databases(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "shop.db").read_bytes()
    for name, content in (("cut.db", whole[:5000]), ("header.db", whole[:100]), ("noise.db", whole[:100] + os.urandom(len(whole) - 100)),
                          ("magic.db", b"SQLite format 3\0" + b"\xff" * 8000)):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        result = run_query(path, "SELECT * FROM item")
        assert result.problem in DATABASE | {"failed"}, (name, result)
        assert path.read_bytes() == content
    with pytest.raises(Refused, match="damaged"):
        schema_of(tmp_path / "noise.db")


def test_names_that_mean_something_in_a_uri(folder: Path, tmp_path: Path) -> None:
    for name in ("a?mode=rwc.db", "a#b.db", "100%.db", "数据 库.db", "file:x.db", "-x.db"):
        path = tmp_path / name
        path.write_bytes((folder / "shop.db").read_bytes())
        assert run_query(path, "SELECT count(*) FROM item").rows == ((3,),), name
        assert run_query(path, "DELETE FROM item").refused
    link = tmp_path / "link.db"
    link.symlink_to(folder / "shop.db")
    assert run_query(link, "SELECT count(*) FROM item").rows == ((3,),)


def test_a_database_that_is_being_written(folder: Path, tmp_path: Path, quick: QueryRunner) -> None:
    path = tmp_path / "busy.db"
    path.write_bytes((folder / "shop.db").read_bytes())
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert quick.run(path, "SELECT 1 FROM item").problem == "database_locked"
    assert SqlComparer(quick).compare("SELECT id FROM item", "SELECT 1 FROM item", path).verdict == "not_run"
    writer.execute("COMMIT")
    assert quick.run(path, "SELECT count(*) FROM item").rows == ((3,),)
    writer.close()


def test_databases_with_a_write_ahead_log(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "wal.db"
    path.write_bytes((folder / "shop.db").read_bytes())
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO item VALUES (4, 'fig', 1)")
    assert run_query(path, "SELECT count(*) FROM item").rows == ((4,),)  # what is in the log counts
    copied = tmp_path / "copied.db"
    # Another process copies: closing the file in this one would drop the writer's locks.
    copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2]); shutil.copy(sys.argv[1] + '-wal', sys.argv[2] + '-wal')"
    subprocess.run([sys.executable, "-c", copy, str(path), str(copied)], check=True)
    assert run_query(copied, "SELECT count(*) FROM item").problem == "database_wal"
    assert not (tmp_path / "copied.db-shm").exists()
    writer.close()
    before = _state(tmp_path)
    assert "wal.db-wal" not in before
    assert run_query(path, "SELECT count(*) FROM item").rows == ((4,),)  # read without making files beside it
    assert _state(tmp_path) == before


def test_a_folder_that_can_not_be_written(folder: Path, tmp_path: Path) -> None:
    inside = tmp_path / "fixed"
    inside.mkdir()
    database = sqlite3.connect(inside / "x.db")
    database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    database.close()
    (inside / "x.db").chmod(0o444)
    inside.chmod(0o555)
    try:
        assert run_query(inside / "x.db", "SELECT * FROM t").rows == ((1,),)
    finally:
        inside.chmod(0o755)


def test_a_database_full_of_traps(tmp_path: Path) -> None:
    path = tmp_path / "traps.db"
    database = sqlite3.connect(path)
    database.executescript(
        """
        CREATE TABLE "a""; DROP TABLE x; --" ("b]" TEXT, "" TEXT);
        CREATE TABLE t (a TEXT);
        INSERT INTO t VALUES (CAST(x'ff00c0' AS TEXT)), ('x'), (NULL);
        CREATE VIEW gone AS SELECT * FROM nowhere;
        CREATE VIEW endless AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r;
        CREATE VIEW writes AS SELECT writefile('/tmp/x', 'y');
        """
    )
    database.close()
    schema = schema_of(path)
    assert schema.tables['a"; DROP TABLE x; --'] == ("b]", "") and schema.tables["t"] == ("a",)
    assert len(run_query(path, "SELECT a FROM t").rows) == 3
    with QueryRunner(QUICK) as runner:
        assert runner.run(path, "SELECT count(*) FROM endless").problem == "timeout"
        assert runner.run(path, "SELECT * FROM writes").problem in ("failed", "forbidden")


def test_large_values_of_the_data_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (id, picture)")
    database.execute("INSERT INTO t VALUES (1, zeroblob(5000000))")
    database.commit()
    database.close()
    assert run_query(path, "SELECT id, length(picture) FROM t").rows == ((1, 5_000_000),)


def test_no_hostile_answer_survives_a_measurement(folder: Path) -> None:
    hostile = [sql for sql in REFUSED if "{out}" not in sql]
    before = _state(folder)
    for found in measure_sql("SELECT name FROM item", hostile, folder / "shop.db"):
        assert found.executes is not True and not found.is_no_reject
        assert found.problem is not None or found.refused or found.error is not None
    assert _state(folder) == before


def test_threads_share_one_runner(folder: Path) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for i in range(30):
            rows = run_query(folder / "shop.db", f"SELECT {number}, {i}").rows
            if rows != ((number, i),):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
