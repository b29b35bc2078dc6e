"""SQL answers: taken out of text, parsed, brought to a normal form, run and compared by their results."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pipeline.candidates.candidate import Candidate
from pipeline.refusal import Refused
from pipeline.sql.limits import default_limits
from pipeline.sql.measure_sql import measure_sql
from pipeline.sql.normal_form import canonical, examined, normalised
from pipeline.sql.parse_sql import all_dialects, dialect_named, parse, sql_in
from pipeline.sql.run_query import Databases, run_query, schema_of
from pipeline.sql.same_result import cell_key, compare
from pipeline.sql.schema import Schema

TABLES = {
    "singer": ("Singer_ID", "Name", "Country", "Age", "Score"),
    "concert": ("Concert_ID", "Title", "Singer_ID", "Year"),
    "stadium": ("Stadium_ID", "Place", "Capacity"),
}
SCHEMA = Schema(TABLES)


@pytest.fixture(scope="module")
def concerts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "concerts.db"
    database = sqlite3.connect(path)
    database.executescript(
        """
        CREATE TABLE singer (Singer_ID INTEGER PRIMARY KEY, Name TEXT, Country TEXT, Age INTEGER, Score REAL);
        INSERT INTO singer VALUES (1,'Ann','France',20,1.5),(2,'Bo','France',20,2.5),(3,'Cy','US',30,1.5),
          (4,'Di','US',41,0.1),(5,'Ed','UK',20,NULL),(6,'张伟','中国',35,3.25);
        CREATE TABLE concert (Concert_ID INTEGER PRIMARY KEY, Title TEXT, Singer_ID INTEGER, Year INTEGER);
        INSERT INTO concert VALUES (1,'Spring',1,2014),(2,'Summer',1,2015),(3,'Fall',3,2014),(4,'Winter',NULL,2016);
        CREATE TABLE stadium (Stadium_ID INTEGER PRIMARY KEY, Place TEXT, Capacity INTEGER);
        CREATE VIEW young AS SELECT * FROM singer WHERE Age < 30;
        """
    )
    database.close()
    return path


# --- SQL in an answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "found"), [
    ("SELECT a FROM t", "SELECT a FROM t"),
    ("```sql\nSELECT a FROM t;\n```\nThis counts; trust me.", "SELECT a FROM t"),
    ("```SQL\nselect 1", "select 1"),
    ("```\nselect 1\n```", "select 1"),
    ("```sqlite select 1```", "select 1"),
    ("`SELECT 1`", "SELECT 1"),
    ("SQL: select a from t", "select a from t"),
    ("**SQL Query:** select a from t", "select a from t"),
    ("The final answer is: SELECT x FROM y", "SELECT x FROM y"),
    ("答案：SELECT a FROM t；", "SELECT a FROM t"),
    ("SQL语句如下：\n```sql\nSELECT 1\n```\n解释：没有", "SELECT 1"),
    ("查询：SELECT a FROM t\n该查询返回全部", "SELECT a FROM t"),
    ("Sure!\n\nSELECT a\nFROM t\n\nWHERE b = 'x;y'\n\nIt returns a.", "SELECT a\nFROM t\n\nWHERE b = 'x;y'"),
    ("SELECT a FROM t\nExplanation: all of a", "SELECT a FROM t"),
    ("-- all\nSELECT a FROM t -- it's; so\n", "-- all\nSELECT a FROM t -- it's; so"),
    ("<think>SELECT 2</think>\nSELECT 3", "SELECT 3"),
    ("SELECT 1<|im_end|>\n<|im_start|>user", "SELECT 1"),
    ("First the table:\n```sql\nCREATE TABLE t (a int)\n```\nThen:\n```sql\nSELECT a FROM t\n```", "SELECT a FROM t"),
    ("WITH x AS (SELECT 1) SELECT * FROM x; With this you see", "WITH x AS (SELECT 1) SELECT * FROM x"),
    ("SELECT 1; DROP TABLE t", "SELECT 1; DROP TABLE t"),
    ("SELECT 1; /* x */ -- y\n drop table t; done", "SELECT 1; /* x */ -- y\n drop table t; done"),
    ("SELECT 1; /* ; */ ; PRAGMA user_version = 7", "SELECT 1; /* ; */ ; PRAGMA user_version = 7"),
    ("DROP TABLE t", "DROP TABLE t"),
    ("ATTACH DATABASE '/tmp/x.db' AS x", "ATTACH DATABASE '/tmp/x.db' AS x"),
    ("I can't answer that.", None), ("With this in mind, no.", None), ("Update: none.", None), ("", None),
    ("```python\nprint(1)\n```", None), ("没有 SQL", None), (";", None),
])  # fmt: skip
def test_sql_is_taken_out_of_an_answer(answer: str, found: str | None) -> None:
    assert sql_in(answer) == found


# --- parsing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sql", "read_only"), [
    ("SELECT a FROM t", True), ("WITH x AS (SELECT 1) SELECT * FROM x", True), ("VALUES (1, 2)", True),
    ("SELECT 1 UNION SELECT 2 EXCEPT SELECT 3", True), ("SELECT 1; -- done", True), ("(SELECT 1)", True),
    ("SELECT * INTO x FROM t", False), ("INSERT INTO t VALUES (1)", False), ("DELETE FROM t", False),
    ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", False), ("SELECT * FROM t FOR UPDATE", False),
    ("DROP TABLE t", False), ("PRAGMA journal_mode = WAL", False), ("ATTACH 'a.db' AS b", False),
    ("EXPLAIN SELECT 1", False), ("VACUUM INTO 'x'", False), ("CREATE TABLE x AS SELECT 1", False),
    ("SELECT load_extension('x')", False), ("SELECT writefile('a', 'b')", False), ("BEGIN", False),
])  # fmt: skip
def test_what_only_reads(sql: str, read_only: bool) -> None:
    parsed = parse(sql)
    assert parsed.parses and parsed.problem is None
    assert parsed.read_only is read_only


@pytest.mark.parametrize("sql", ["COPY t TO '/tmp/x'", "SELECT pg_read_file('/etc/passwd')", "SELECT nextval('s')"])
def test_other_dialects_have_more_ways_out(sql: str) -> None:
    assert parse(sql, "postgres").read_only is False


@pytest.mark.parametrize(("sql", "entry"), [
    ("", "sql_empty"), (" ;; ", "sql_empty"), ("-- nothing", "sql_empty"), ("SELECT FROM WHERE", "sql_syntax"),
    ("SELECT 1; SELECT 2", "sql_several_statements"), ("SELECT 1\0", "sql_nul"), ("hello world again", "sql_syntax"),
    ("SELECT 'a", "sql_syntax"), ("SELECT " + "(" * 60 + "1" + ")" * 60, "sql_too_deep"),
    ("SELECT " + "1," * 20_000 + "1", "sql_too_long"), ("SELECT \ud800", None),
])  # fmt: skip
def test_what_does_not_parse_says_why_in_both_languages(sql: str, entry: str | None) -> None:
    parsed = parse(sql)
    if entry is None:
        return
    assert not parsed.parses and not parsed.read_only
    assert parsed.problem is not None and parsed.problem.entry == entry
    for lang in ("en", "zh"):
        said = parsed.problem.said(lang)
        assert said and "\n" not in said


def test_a_dialect_is_found_by_its_usual_names() -> None:
    assert [dialect_named(n) for n in ("SQLite", "postgresql", "T-SQL", "MariaDB", "bigquery")] == [
        "sqlite", "postgres", "tsql", "mysql", "bigquery"]  # fmt: skip
    assert {"sqlite", "mysql", "postgres", "duckdb", "bigquery", "spark", "tsql", "snowflake"} <= set(all_dialects())
    with pytest.raises(Refused, match="nearest: postgres"):
        dialect_named("postgrex")


# --- normal forms ------------------------------------------------------------------------------------------------

SAME = [
    ("select a from t where x=1 and y=2", "SELECT  A FROM T WHERE (y = 2) AND x == 1;"),
    ("select t1.name from singer as t1", "select x.name from singer x"),
    ("select name from singer", "select s.name from singer s"),
    ("select count(*) as n from t", "select count(1) from t"),
    ("select a, count(*) as n from t group by a order by n desc", "select a, count(*) from t group by a order by count(*) desc"),
    ("select a, count(*) as n from t group by a order by n desc", "select a, count(*) m from t group by a order by 2 desc"),
    ("select a from t where a in (1,2,3)", "select a from t where a in (3,2,1)"),
    ("select a from t where a between 1 and 2 and b=1", "select a from t where b=1 and a>=1 and 2>=a"),
    ("select t.a from t inner join u on t.x=u.x", "select t.a from t join u on u.x=t.x"),
    ("select t.a from t left outer join u on t.x=u.x", "select t.a from t left join u on u.x=t.x"),
    ("select t.a from t join u on t.x=u.x", "select z.a from u as y join t as z on z.x=y.x"),
    ("select t.a from t, u where t.x=u.x", "select t.a from t join u on u.x=t.x"),
    ("select a from t where not (a=1)", "select a from t where a<>1"),
    ("select a from t where a != 1", "select a from t where a <> 1"),
    ("select `a` from [t]", "select a from t"),
    ("select a from t -- hi", "select /* x */ a from t"),
    ("select a from t where a>1", "select a from t where 1<a"),
    ("select a*b from t", "select b*a from t"),
    ("select a, count(*) from t group by a, b", "select a, count(*) from t group by b, a"),
]
SAME_WITH_SCHEMA = [
    ('select name from singer where country = "France"', "select singer.name from singer where country = 'France'"),
    ('select "Name" from singer', "select name from singer"),
    ("select title from singer join concert on singer.singer_id = concert.singer_id where age > 3",
     "select T1.Title from concert T1 join singer T2 on T1.singer_id = T2.singer_id where T2.age > 3"),
    ("select name from singer where age > (select avg(age) from singer)",
     "select t.name from singer t where t.age > (select avg(x.age) from singer x)"),
]  # fmt: skip
DIFFERENT = [
    ("select a,b from t", "select b,a from t"), ("select a from t order by a", "select a from t"),
    ("select a from t limit 1", "select a from t limit 2"), ("select a from t order by a", "select a from t order by a desc"),
    ("select t.a from t left join u on t.x=u.x", "select t.a from u left join t on t.x=u.x"),
    ('select a from t where b="b"', "select a from t where b='b'"), ("select 'A'", "select 'a'"),
    ("select ifnull(a,1) from t", "select coalesce(a,1) from t"), ("select a-b from t", "select b-a from t"),
    ("select a from t where a>1", "select a from t where 1>a"), ("select (1,2)", "select (2,1)"),
    ("select a from t where a=1 or b=2 and c=3", "select a from t where (a=1 or b=2) and c=3"),
    ("select distinct a from t", "select a from t"), ("select count(a) from t", "select count(*) from t"),
    ("select count(distinct a) from t", "select count(a) from t"), ("select 1", "select 1.0"), ("select 1", "select '1'"),
    ("select a from t union select a from u", "select a from t union all select a from u"),
    ("select a from t where a not in (1,2)", "select a from t where a in (1,2)"),
    ("select a from t where a not in (1,null)", "select a from t where a not in (1)"),
    ("select t.a from t join u on t.x=u.x", "select t.a from t join u on t.x=t.x"),
    ("select t.a from t where exists (select 1 from u where u.x=t.x)", "select t.a from t where exists (select 1 from u where u.x=u.x)"),
    ("select b from t group by a, c limit 1", "select b from t group by c, a limit 1"),
    ("select * from t join u on t.x=u.x", "select * from u join t on t.x=u.x"),
    ("select a as b, b as a from t order by a", "select a, b from t order by a"),
    ("select a||b from t", "select b||a from t"), ("ſelect a from t", "select a from t"),
    ("select\u00a0a from t", "select a from t"), ("select É from t", "select é from t"),
    ("select a from t where b like 'x'", "select a from t where 'x' like b"), ("select a b from t", "select a, b from t"),
    ("select x from t order by (1)", "select x from t order by 1"), ("select cast(a as decimal)", "select cast(a as real)"),
    ("select a from t where x in ((select b from c))", "select a from t where x in (select b from c)"),
    ("select a + b || c from t", "select (a + b) || c from t"), ("select a from t where a collate nocase = b", "select a from t where b = a collate nocase"),
    ("select group_concat(t.a) from t join u on t.x=u.x", "select group_concat(t.a) from u join t on t.x=u.x"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_queries_have_one_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), SAME_WITH_SCHEMA)
def test_a_schema_brings_more_together(one: str, other: str) -> None:
    assert canonical(one, "sqlite", SCHEMA) == canonical(other, "sqlite", SCHEMA)
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_queries_that_may_differ_have_two_forms(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)
    schema = Schema({"t": ("a", "b", "c", "x"), "u": ("a", "x"), "c": ("b",)})
    assert canonical(one, "sqlite", schema) != canonical(other, "sqlite", schema)


@pytest.mark.parametrize(("one", "other", "dialect"), [
    ('select a from t where b="France"', "select a from t where b='France'", "sqlite"),
    ('select a from t where b="X"', 'select a from t where b="x"', "sqlite"),
    ("select 5--1", "select 5 - -1", "sqlite"), ("select 1 /*! + 1 */", "select 1", "mysql"),
    ("select a from T", "select a from t", "mysql"), ('select "Abc" from t', "select abc from t", "postgres"),
    ("select user from t", 'select "user" from t', "postgres"), ('select "a"', "select a", "mysql"),
    ("select t.count from t", "select count from t", "postgres"), ("select s.a.b from x s", "select t.a.b from x t", "bigquery"),
    ("select a + b from t", "select b + a from t", "tsql"), ("select count (*) from t", "select count(*) from t", "mysql"),
])  # fmt: skip
def test_rules_of_the_dialect_are_kept(one: str, other: str, dialect: str) -> None:
    assert canonical(one, dialect) != canonical(other, dialect)


def test_dialects_fold_names_their_own_way() -> None:
    assert canonical('select "abc" from T', "postgres") == canonical("select ABC from t", "postgres")
    assert canonical("select Abc from T", "mysql") == canonical("select `abc` from T", "mysql")
    assert canonical('select "ABC" from t', "snowflake") == canonical("select abc from t", "snowflake")
    assert canonical("select a = 'x' or 1 from t", "duckdb") == canonical("SELECT 1 OR 'x' = A FROM T", "duckdb")


def test_collations_of_a_schema_keep_the_sides_of_comparisons_apart() -> None:
    one, other = "select a from t where a = b", "select a from t where b = a"
    plain, collated = Schema({"t": ("a", "b")}), Schema({"t": ("a", "b")}, collated=True)
    assert canonical(one, "sqlite", plain) == canonical(other, "sqlite", plain)
    assert canonical(one, "sqlite", collated) != canonical(other, "sqlite", collated)


@pytest.mark.parametrize(("text", "form"), [
    ("SELECT  a ,b\nFROM t ; ", "select a,b from t"), ("select `A` from  [t] where x='A  b' -- c\n", "select a from t where x='A  b'"),
    ("select a - - b", "select a- -b"), ("select a--b", "select a--b"), ('select "A"', 'select "A"'),
    ("select 'it''s'  , X", "select 'it''s',x"), ("nonsense (", "nonsense("), ("", ""),
    (r"select 'a\'  B' ", r"select 'a\'  B'"), ("SELECT $$  A $$", "SELECT $$  A $$"),
])  # fmt: skip
def test_text_alone_is_normalised(text: str, form: str) -> None:
    assert normalised(text, "sqlite") == form
    assert normalised(form, "sqlite") == form


def test_texts_that_do_not_parse_are_compared_as_text() -> None:
    assert canonical("SELECT a FROM t WHERE (") == canonical("select  A from T where(")
    assert canonical("SELECT a FROM t WHERE (") != canonical("SELECT b FROM t WHERE (")


class _Queries:
    """Random queries over small tables, and rewritings that keep the result or don't."""

    TABLES = {"a": "xyz", "b": "xw", "c": "yv"}

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def column(self, sources: list[tuple[str, str]]) -> str:
        r = self.random
        alias, table = r.choice(sources)
        name = r.choice(self.TABLES[table])
        return r.choice([f"{alias}.{name}", f"{alias}.{name}", name, name, f'"{name}"'])

    def value(self, sources: list[tuple[str, str]]) -> str:
        r = self.random
        if r.random() < 0.6:
            return self.column(sources)
        return r.choice(["1", "2", "'x'", '"q"', "NULL", f"{self.column(sources)} {r.choice('+-*')} {self.column(sources)}"])

    def condition(self, sources: list[tuple[str, str]], depth: int = 0) -> str:
        r = self.random
        kind = r.random()
        if kind < 0.45:
            return f"{self.value(sources)} {r.choice(['=', '=', '<>', '<', '>=', '=='])} {self.value(sources)}"
        if kind < 0.6:
            return f"{self.column(sources)} {r.choice(['', 'NOT '])}IN ({self.value(sources)}, {self.value(sources)})"
        if kind < 0.65:
            return f"{self.column(sources)} BETWEEN 1 AND {self.value(sources)}"
        if depth < 2:
            inner = f"{self.condition(sources, depth + 1)} {r.choice(['AND', 'OR'])} {self.condition(sources, depth + 1)}"
            return r.choice([inner, f"({inner})", f"NOT ({inner})"])
        return f"{self.column(sources)} IS NOT NULL"

    def query(self) -> str:
        r = self.random
        sources: list[tuple[str, str]] = []
        text = ""
        for table in r.sample("abc", r.choice([1, 2, 2])):
            alias = r.choice([table, table, "t1", "t2"])
            if any(alias == other for other, _ in sources):
                alias = "t3"
            piece = table if alias == table else f"{table} {alias}"
            if sources:
                piece = r.choice([" JOIN ", " JOIN ", " LEFT JOIN ", " INNER JOIN "]) + piece
            sources.append((alias, table))
            text += piece
            if len(sources) > 1:
                text += f" ON {sources[0][0]}.{r.choice(self.TABLES[sources[0][1]])} = {alias}.{r.choice(self.TABLES[table])}"
        items = [self.value(sources) + r.choice(["", "", " AS n", " AS x"]) for _ in range(r.choice([1, 2]))]
        if r.random() < 0.3:
            items.append(r.choice(["COUNT(*)", "COUNT(1)", f"SUM({self.column(sources)})"]))
        sql = f"SELECT {r.choice(['', '', 'DISTINCT '])}{', '.join(items)} FROM {text}"
        if r.random() < 0.7:
            sql += f" WHERE {self.condition(sources)}"
        if len(items) == 3 or r.random() < 0.2:
            sql += f" GROUP BY {self.column(sources)}"
        if r.random() < 0.3:
            sql += f" ORDER BY {r.choice(['1', 'n', 'x', self.column(sources)])}"
        return sql

    def rewritten(self, sql: str) -> str:
        r = self.random
        words = sql.split(" ")
        kind = r.random()
        if kind < 0.4:
            places = [i for i, w in enumerate(words[1:-1], 1) if w in ("=", "<>", "AND", "OR", "+", "*", "<", "-")]
            if places:
                i = r.choice(places)
                words[i - 1], words[i + 1] = words[i + 1], words[i - 1]
            return " ".join(words)
        if kind < 0.6:
            return sql.replace("t1", "k7")
        if kind < 0.8:
            return sql.replace(r.choice(["a.", "b.", "c.", "t1."]), "", 1)
        return sql.replace(r.choice([" AS n", " AS x", '"', "(", "INNER "]), "", 1)


def _filled(seed: int) -> sqlite3.Connection:
    r = random.Random(seed)
    database = sqlite3.connect(":memory:")
    for table, columns in _Queries.TABLES.items():
        kinds = dict(zip(columns, ("INT", "TEXT", "REAL"), strict=False))
        database.execute(f"CREATE TABLE {table} ({', '.join(f'{c} {k}' for c, k in kinds.items())})")
        for _ in range(r.randint(3, 8)):
            row = [r.choice([None, 1, 2, 3, 2.5, "1", "x", "X", "q"]) for _ in columns]
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    return database


def _results(sql: str, databases: list[sqlite3.Connection]) -> list[Counter[str] | None]:
    found: list[Counter[str] | None] = []
    for database in databases:
        try:
            found.append(Counter(map(repr, database.execute(sql).fetchall())))
        except sqlite3.Error:
            found.append(None)
    return found


@pytest.mark.parametrize("schema", [None, Schema({t: tuple(c) for t, c in _Queries.TABLES.items()})], ids=["bare", "schema"])
def test_one_form_means_one_result_on_random_queries(schema: Schema | None) -> None:
    """500 random queries with 3 rewritings each: whatever has one form gives one result on three databases."""
    queries = _Queries(7)
    databases = [_filled(seed) for seed in range(3)]
    forms: dict[str, set[str]] = defaultdict(set)
    for _ in range(500):
        sql = queries.query()
        forms[canonical(sql, "sqlite", schema)].add(sql)
        for _ in range(3):
            sql = queries.rewritten(sql)
            forms[canonical(sql, "sqlite", schema)].add(sql)
    compared = 0
    for group in forms.values():
        first, *others = sorted(group)
        expected = _results(first, databases) if others else []
        for other in others:
            compared += 1
            assert _results(other, databases) == expected, (first, other)
    assert compared > 80


# --- databases ---------------------------------------------------------------------------------------------------


def test_a_schema_is_read(concerts: Path) -> None:
    schema = schema_of(concerts)
    assert schema.tables == {**TABLES, "young": TABLES["singer"]}
    assert not schema.collated


def test_databases_are_found_by_id_and_nowhere_else(tmp_path: Path, concerts: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret.sqlite"
    for path in (root / "music" / "music.sqlite", root / "flat.db", outside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(concerts.read_bytes())
    (root / "linked.sqlite").symlink_to(outside)
    databases = Databases(root)
    assert databases.find("music") == root / "music" / "music.sqlite"
    assert databases.path("flat") == root / "flat.db"
    assert databases.ids() == ["flat", "music"]
    for wrong in ("../secret", "..", ".", "", " ", "/etc/passwd", "music/music", "music\0", "a\\b", "x" * 500, "linked", "none"):
        assert databases.find(wrong) is None, wrong
    with pytest.raises(Refused, match="nearest: music"):
        databases.path("musik")
    with pytest.raises(Refused, match="no such folder"):
        Databases(tmp_path / "nowhere")


# --- same result -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gold", "candidate", "verdict"), [
    ("SELECT name FROM singer", "select  NAME\nfrom singer;", "same_text"),
    ('SELECT name FROM singer WHERE country = "France"', "SELECT s.name FROM singer s WHERE 'France' = s.country", "same_canonical"),
    ("SELECT name FROM singer", "SELECT name FROM singer ORDER BY name DESC", "same_result"),
    ("SELECT name FROM singer", "SELECT name FROM singer UNION ALL SELECT 'x' WHERE 1 = 0", "same_result"),
    ("SELECT name, age FROM singer", "SELECT age, name FROM singer", "same_result"),
    ("SELECT avg(score) FROM singer", "SELECT sum(score) / count(score) FROM singer", "same_result"),
    ("SELECT 3", "SELECT '3.00'", "same_result"), ("SELECT 0.1 + 0.2", "SELECT 0.3", "same_result"),
    ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age, name DESC", "same_result"),
    ("SELECT country, count(*) FROM singer GROUP BY 1 ORDER BY count(*) DESC",
     "SELECT country, count(*) AS c FROM singer GROUP BY country ORDER BY c DESC, country DESC", "same_result"),
    ("SELECT name FROM singer ORDER BY age LIMIT 1", "SELECT 'Ed'", "same_result"),
    ("SELECT age, name FROM singer ORDER BY age LIMIT 2", "SELECT name, age FROM singer WHERE name IN ('Bo', 'Ed')", "same_result"),
    ("SELECT name FROM singer LIMIT 2", "SELECT name FROM singer WHERE age > 34", "same_result"),
    ("SELECT name FROM singer ORDER BY age LIMIT 1", "SELECT 'Di'", "different_result"),
    ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age DESC", "different_result"),
    ("SELECT DISTINCT country FROM singer ORDER BY country", "SELECT country FROM singer GROUP BY 1 ORDER BY 1 DESC", "different_result"),
    ("SELECT name FROM singer", "SELECT DISTINCT age FROM singer", "different_result"),
    ("SELECT age FROM singer", "SELECT DISTINCT age FROM singer", "different_result"),
    ("SELECT name FROM singer", "SELECT name, age FROM singer", "different_result"),
    ("SELECT 10000001", "SELECT 10000002", "different_result"), ("SELECT '007'", "SELECT 7", "different_result"),
    ("SELECT NULL", "SELECT 0", "different_result"), ("SELECT 1.0", "SELECT 1.001", "different_result"),
    ("SELECT '中国'", "SELECT '美国'", "different_result"),
    ("SELECT name FROM singer", "SELECT nme FROM singer", "candidate_fails"),
    ("SELECT name FROM singer", "SELECT name FRM singer", "candidate_fails"),
    ("SELECT name FROM singer", "DROP TABLE singer", "candidate_refused"),
    ("SELECT name FROM singer", "SELECT name FROM singer; DELETE FROM singer", "candidate_refused"),
    ("SELECT nme FROM singer", "SELECT 1", "gold_fails"), ("SELECT 1; SELECT 2", "SELECT 1", "gold_fails"),
    ("DELETE FROM singer", "SELECT 1", "gold_fails"), ("SELECT random()", "SELECT 1", "not_run"),
])  # fmt: skip
def test_results_are_compared(concerts: Path, gold: str, candidate: str, verdict: str) -> None:
    found = compare(gold, candidate, concerts)
    assert found.verdict == verdict
    assert (found.reason is None) == (verdict.startswith("same") or verdict == "different_result")
    if found.reason is not None:
        assert found.reason.said("en") and found.reason.said("zh")


def test_two_empty_results_are_the_same_and_say_so(concerts: Path) -> None:
    found = compare("SELECT name FROM singer WHERE age > 99", "SELECT title FROM concert WHERE year < 9", concerts)
    assert (found.verdict, found.both_empty) == ("same_result", True)


def test_without_a_database_only_text_and_form_are_compared() -> None:
    assert compare("SELECT a FROM t", "SELECT x.a FROM t AS x", None).verdict == "same_canonical"
    assert compare("SELECT a FROM t", "SELECT b FROM t", None).verdict == "not_run"
    assert compare("SELECT a FROM t", "DROP TABLE t", None).verdict == "candidate_refused"


def test_many_columns_in_another_order_are_found(tmp_path: Path) -> None:
    path = tmp_path / "wide.db"
    database = sqlite3.connect(path)
    names = [f"c{i}" for i in range(12)]
    database.execute(f"CREATE TABLE wide ({', '.join(names)})")
    r = random.Random(1)
    database.executemany(f"INSERT INTO wide VALUES ({', '.join('?' * 12)})", [[r.randint(0, 1) for _ in names] for _ in range(300)])
    database.commit()
    database.close()
    gold = f"SELECT {', '.join(names)} FROM wide"
    assert compare(gold, f"SELECT {', '.join(names[::-1])} FROM wide", path).verdict == "same_result"
    assert compare(gold, f"SELECT {', '.join(names[:-1])}, 1 - c11 FROM wide", path).verdict == "different_result"


def test_floats_are_matched_within_tolerance_whatever_their_order(tmp_path: Path) -> None:
    path = tmp_path / "floats.db"
    database = sqlite3.connect(path)
    r = random.Random(3)
    database.execute("CREATE TABLE f (k INT, v REAL)")
    database.executemany("INSERT INTO f VALUES (?, ?)", [(r.randint(0, 3), r.random()) for _ in range(2000)])
    database.commit()
    database.close()
    assert compare("SELECT k, v FROM f", "SELECT k, v * 1.00000001 FROM f ORDER BY v DESC", path).verdict == "same_result"
    assert compare("SELECT k, v FROM f", "SELECT k, v * 1.001 FROM f", path).verdict == "different_result"


def test_long_results_are_cut_and_then_in_doubt(concerts: Path) -> None:
    most = default_limits().rows
    long = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most + 5}) SELECT i FROM n"
    result = run_query(concerts, long)
    assert (len(result.rows), result.truncated) == (most, True)
    found = compare(long, long.replace("SELECT i FROM", "SELECT i + 1 FROM"), concerts)
    assert (found.verdict, found.in_doubt) == ("same_result", True)
    assert compare(long, "SELECT age FROM singer", concerts).verdict == "different_result"


def test_what_is_remembered_of_a_gold_ends_when_its_database_changes(tmp_path: Path, concerts: Path) -> None:
    path = tmp_path / "changing.db"
    path.write_bytes(concerts.read_bytes())
    assert compare("SELECT count(*) FROM singer", "SELECT 6", path).verdict == "same_result"
    database = sqlite3.connect(path)
    database.execute("INSERT INTO singer (Name) VALUES ('Fi')")
    database.commit()
    database.close()
    assert compare("SELECT count(*) FROM singer", "SELECT 6", path).verdict == "different_result"


def test_cells_are_compared_by_what_they_hold() -> None:
    assert cell_key(3) == cell_key(3.0) == cell_key("3.00") == cell_key("3")
    assert cell_key("007") != cell_key(7) and cell_key(None) != cell_key(0) != cell_key("")
    assert cell_key("é".encode()) == cell_key("é") and cell_key(b"\xff") != cell_key("ÿ")


def test_a_row_is_measured(concerts: Path) -> None:
    answers = [
        "```sql\nSELECT  name FROM singer;\n```", "SELECT s.name FROM singer AS s", "SELECT name FROM singer ORDER BY age",
        "SELECT title FROM concert", "SELECT nme FROM singer", "I don't know", "DROP TABLE singer", "SELECT name FROM",
    ]  # fmt: skip
    found = measure_sql("SELECT name FROM singer", answers, concerts)
    assert [m.is_no_reject for m in found] == [True, True, True, False, False, False, False, False]
    assert [m.executes for m in found] == [True, True, True, True, False, False, False, False]
    assert [m.same_result for m in found] == [True, True, True, False, None, None, None, None]
    assert [m.parses for m in found] == [True, True, True, True, True, False, True, False]
    assert [m.refused for m in found] == [False] * 6 + [True, False]
    assert found[0].canonical == found[1].canonical != found[2].canonical
    assert found[4].error is not None and "no such column: nme" in str(found[4].error)
    bare = measure_sql("SELECT name FROM singer", answers[:4], None)
    assert [m.is_no_reject for m in bare] == [True, True, False, False]
    assert [m.executes for m in bare] == [None] * 4


def test_candidates_keep_what_was_measured(concerts: Path) -> None:
    answers = ["SELECT name FROM singer WHERE 1", "SELECT age FROM singer", "SELECT nme FROM singer"]
    candidates = [Candidate(0, i, "sampling", text) for i, text in enumerate(answers)]
    candidates.append(Candidate(0, 3, "sampling", "", problem="prompt_too_long"))
    measure_sql("SELECT name FROM singer", candidates, concerts, "SQLite3")
    facts = [c.measures.get("sql") for c in candidates]
    assert [f and (f["runs"], f["same_result"]) for f in facts] == [(True, True), (True, False), (False, None), None]
    assert facts[2]["error"] == {"entry": "sql_run_failed", "detail": "no such column: nme"}
    assert json.loads(json.dumps(facts)) == facts
    with pytest.raises(Refused, match="no SQL dialect"):
        measure_sql("SELECT 1", ["SELECT 2"], None, "klingon")


def test_forms_are_remembered() -> None:
    sql = "SELECT name FROM singer WHERE age > 12"
    assert examined(sql, "sqlite", SCHEMA) is examined(sql, "sqlite", SCHEMA)
