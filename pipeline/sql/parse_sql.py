"""SQL taken out of a model's answer, and parsed in one dialect."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pipeline.refusal import Refused, Sentence
from pipeline.sql.limits import names_of, setting

# --- SQL in an answer --------------------------------------------------------------------------------------------

# Possessive throughout, and what has no end ends with the text: every search here is linear.
_SPACE = r"(?:\s|--[^\n]*+(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*+\*/)*+"
_QUERY = (
    r"(?:select\b(?!\s*[.:!?])|values\s*\(|"
    r"with\s+(?:recursive\s+)?[^\s(]{1,200}\s*(?:\([^()]{0,2000}\)\s*)?as\s+(?:(?:not\s+)?materialized\s*)?\(|"
    r"with\s+(?:recursive\s+)?[^\s(]{1,200}\s*(?:\([^()]{0,2000}\)\s*)?as\()"
)
_THING = r"(?:table|view|index|trigger|database|schema|function|procedure|user|role|sequence|extension)\b"
_OTHER = (
    r"(?:insert\s+(?:or\s+\w+\s+)?into\b|replace\s+into\b|update\s+(?:or\s+\w+\s+)?\S+\s+set\b|delete\s+from\b|"
    rf"(?:create|drop|alter)\s+(?:(?:or\s+replace|temp|temporary|unique|virtual|materialized)\s+){{0,3}}{_THING}|"
    r"attach\s+(?:database\s+)?\S+\s+as\b|detach\s+(?:database\s+)?\w+\s*(?:;|\Z)|pragma\s+\w+|"
    r"explain\s+(?:query\s+plan\s+|analyze\s+)?(?:select|with|insert|update|delete|values)\b|vacuum\s*(?:into\b|;|\Z)|"
    r"(?:begin|commit|rollback|end)\s*(?:transaction\s*)?(?:;|\Z)|begin\s+(?:immediate|exclusive|deferred)\b|"
    r"savepoint\s+\w+\s*(?:;|\Z)|release\s+\w+\s*(?:;|\Z)|reindex\s*(?:\w+\s*)?(?:;|\Z)|analyze\s*(?:\w+\s*)?(?:;|\Z)|"
    r"truncate\s+(?:table\s+)?\w+\s*(?:;|\Z)|merge\s+into\b|grant\s+\w+.{0,200}\bto\b|revoke\s+\w+.{0,200}\bfrom\b|"
    r"copy\s+\S+\s+(?:from|to)\b|copy\s*\(|exec(?:ute)?\s+\w+\s*(?:'|@|;|\Z)|call\s+\w+\s*\()"
)
_STATEMENT = re.compile(rf"{_SPACE}\(*\s*(?:{_QUERY}|{_OTHER})", re.IGNORECASE)
_QUERY_START = re.compile(rf"{_SPACE}\(*\s*{_QUERY}", re.IGNORECASE)
_NEXT_STATEMENT = re.compile(
    rf"(?:[\s;]|--[^\n]*+(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*+\*/)*+\(*\s*(?:{_QUERY}|{_OTHER})", re.IGNORECASE
)
_FENCED_LABELS = re.compile(
    "sql|sqlite3?|mysql|mariadb|postgres(?:ql)?|p(?:l|lpg)?sql|tsql|mssql|bigquery|duckdb|spark(?:sql)?|hive|hql|oracle|"
    "snowflake|redshift|presto|trino|clickhouse",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\s*(?:\*\*|#+\s*)?(?:(?:the\s+)?(?:final\s+|correct(?:ed)?\s+|sqlite\s+)?(?:sql|answer|query|output|solution)"
    r"(?:\s+(?:query|statement|code|answer))?(?:\s+is)?|(?:最终)?(?:SQL|答案|查询|输出)\s*(?:查询|语句|代码)*(?:为|是|如下)?)"
    r"\s*[:：]\s*(?:\*\*)?\s*",
    re.IGNORECASE,
)  # fmt: skip
# Where a query may begin that has prose before it: at the start of a line, or after a colon.
_LATER = re.compile(rf"(?:(?<=\n)|(?<=[:：]))[ \t*]*(?={_QUERY})", re.IGNORECASE)
_QUOTED = r"'[^']*+(?:'|\Z)|\"[^\"]*+(?:\"|\Z)|`[^`]*+(?:`|\Z)|--[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)"
_PIECES = re.compile(rf"{_QUOTED}|[();]|\n\s*+")
_NESTING = re.compile(rf"{_QUOTED}|[()\[\]{{}}]|\b(?:case|end)\b", re.IGNORECASE)
_GOES_ON = re.compile(
    r"(?:from|where|group\s+by|order\s+by|having|limit|offset|union|intersect|except|(?:natural|cross|inner|left|right|"
    r"full|outer)\s+(?:outer\s+)?join|join|select|window|\)|--|/\*)(?:\b|(?<=\W))",
    re.IGNORECASE,
)
_EXPLANATION = re.compile(
    r"(?:\*\*|#+\s*)?(?:explanation|note|this\s+(?:query|sql|statement)|the\s+(?:query|above|sql)|here\b"
    r"|解释|说明|注[:：]|[该此]查询|[这此该]条|[这此该]个|上述|以上)",
    re.IGNORECASE,
)  # fmt: skip
_END_MARKS = re.compile(r"<\|\w+\|>|</s>|<｜[^｜]{1,40}｜>")


def sql_in(text: str) -> str | None:
    """The SQL of a model's answer, without fences, labels and prose; None where there is none.

    The first fenced block that holds a query, else the first with any statement; without fences the text from where a
    statement begins up to its semicolon. What follows the semicolon is dropped where it is prose and kept where it is
    another statement, so that nobody takes the first of several for the whole.
    """
    text = text[: setting("answer_characters")]
    if "</think>" in text:
        text = text.rsplit("</think>", 1)[1]
    if (mark := _END_MARKS.search(text)) is not None:
        text = text[: mark.start()]
    if "```" in text:
        blocks = [_unlabelled(block) for block in text.split("```")[1::2]]
        for start in (_QUERY_START, _STATEMENT):
            for block in blocks:
                if start.match(block):
                    return _statement(block)
        text = text.replace("```", "\n")
    text = text.strip().removeprefix("\ufeff").strip()
    if (label := _LABEL.match(text)) is not None:
        text = text[label.end() :]
    if len(text) > 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        text = text[1:-1]
    if _STATEMENT.match(text):
        return _statement(text)
    later = _LATER.search(text)
    return _statement(text[later.end() :]) if later is not None else None


def _unlabelled(block: str) -> str:
    """A fenced block without the language named on its first line."""
    first, _, rest = block.partition("\n")
    if re.fullmatch(r"[ \t]*[\w+#.-]*[ \t]*\r?", first):
        block = rest if rest or _FENCED_LABELS.fullmatch(first.strip()) else block
    else:
        word, _, rest = block.lstrip(" \t").partition(" ")
        block = rest if _FENCED_LABELS.fullmatch(word) else block
    label = _LABEL.match(block)
    return block[label.end() :] if label is not None else block


def _statement(text: str) -> str | None:
    """`text` up to the end of its statement; all of it where another statement follows."""
    text = text.strip()
    end, depth = len(text), 0
    for piece in _PIECES.finditer(text):
        what, after = piece.group(), piece.end()
        if what == "(":
            depth += 1
        elif what == ")":
            depth -= 1
        elif what == ";":
            if not _NEXT_STATEMENT.match(text, after):
                end = piece.start()
            break
        elif what[0] == "\n" and depth <= 0:
            goes_on = what.count("\n") == 1 or _GOES_ON.match(text, after) or _STATEMENT.match(text, after)
            if not goes_on or _EXPLANATION.match(text, after):
                end = piece.start()
                break
    return text[:end].strip(" \t\r\n\f;；") or None


# --- parsing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParsedSql:
    """One statement. tree and tokens: sqlglot's, no tree with a `problem`: one line in either language. read_only: it
    is a query (SELECT, VALUES, WITH or set operations of these) and no part of it writes, locks, waits or reaches
    outside."""

    sql: str
    dialect: str
    tree: Any | None
    problem: Sentence | None = None
    read_only: bool = False
    tokens: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def parses(self) -> bool:
        return self.tree is not None


class _TooManySteps(Exception):
    """The parser goes back and forth."""


def all_dialects() -> tuple[str, ...]:
    """What sqlglot calls its dialects, sorted."""
    from sqlglot.dialects.dialect import Dialect

    return tuple(sorted(name for name in Dialect.classes if name and name not in ("prql", "dax", "solr", "tableau")))


def dialect_named(name: str) -> str:
    """The dialect called `name` (`sqlite`, `postgresql`, `T-SQL`). Raises Refused with the nearest."""
    known = all_dialects()
    wanted = re.sub(r"[^a-z0-9]", "", name.lower())
    wanted = {"postgresql": "postgres", "pg": "postgres", "sqlite3": "sqlite", "mariadb": "mysql", "mssql": "tsql",
              "sqlserver": "tsql", "sparksql": "spark", "plsql": "oracle"}.get(wanted, wanted)  # fmt: skip
    if wanted in known:
        return wanted
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.0)
    raise Refused("sql_dialect_unknown", value=name, near=near[0] if near else "sqlite", all=", ".join(known))


_known_dialect = cache(dialect_named)


@cache
def dialect_of(name: str) -> tuple[Any, Any]:
    """sqlglot's dialect, and its parser with a bound on the steps it takes."""
    import logging

    from sqlglot.dialects.dialect import Dialect

    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # it warns of every statement it doesn't know
    dialect = Dialect.get_or_raise(name)
    base: Any = dialect.parser_class

    class BoundedParser(base):
        """Parsing is exponential in the depth of some calls: every step is counted."""

        def parse(self, raw_tokens: Any, sql: str) -> Any:
            self.steps_left = setting("parse_steps") + setting("parse_steps_per_token") * len(raw_tokens)
            return super().parse(raw_tokens, sql)

        def _advance(self, times: int = 1) -> None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise _TooManySteps
            super()._advance(times)

    return dialect, BoundedParser


def parse(sql: str, dialect: str = "sqlite") -> ParsedSql:
    """Parse one statement. What can't be parsed comes back with its problem; nothing is raised for any text, and
    Refused for an unknown dialect."""

    dialect = _known_dialect(dialect)

    def failed(entry: str, **params: Any) -> ParsedSql:
        return ParsedSql(sql, dialect, None, Sentence(entry, params, "candidates"))

    if not sql.strip(" \t\r\n\f;\ufeff"):
        return failed("sql_empty")
    if len(sql) > setting("parse_characters"):
        return failed("sql_too_long", characters=f"{len(sql):,}", most=f"{setting('parse_characters'):,}")
    if "\0" in sql:
        return failed("sql_nul")
    if _depth(sql) > setting("parse_depth"):
        return failed("sql_too_deep", most=setting("parse_depth"))
    from sqlglot import exp
    from sqlglot.errors import ParseError, SqlglotError

    known, parser = dialect_of(dialect)
    try:
        tokens = known.tokenize(sql)
        trees = parser(dialect=known).parse(tokens, sql)
    except (_TooManySteps, RecursionError, MemoryError):
        return failed("sql_too_deep", most=setting("parse_depth"))
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        why = str(first.get("description") or error).splitlines()[0].rstrip(".")
        return failed("sql_syntax", line=first.get("line") or 1, near=first.get("highlight") or "", why=why)
    except SqlglotError as error:  # a text that doesn't even fall into words
        return failed("sql_syntax", line=1, near="", why=str(error).splitlines()[0][:200])
    except Exception as error:  # a parser is a large program: some texts break it
        return failed("sql_syntax", line=1, near="", why=type(error).__name__)
    statements = [tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon)]
    if not statements:
        return failed("sql_empty")
    if len(statements) > 1:
        return failed("sql_several_statements", statements=len(statements))
    tree = statements[0]
    if not isinstance(tree, (exp.Query, exp.DDL, exp.DML, exp.Values, exp.Command, exp.Pragma, *_others())):
        return failed("sql_syntax", line=1, near=sql.split(None, 1)[0], why=f"{type(tree).__name__}")
    return ParsedSql(sql, dialect, tree, None, _only_reads(tree), tuple(tokens))


@cache
def _others() -> tuple[Any, ...]:
    """Statements that are no queries."""
    from sqlglot import exp

    return (exp.Attach, exp.Detach, exp.Set, exp.Use, exp.Show, exp.Describe, exp.Drop, exp.Alter, exp.TruncateTable,
            exp.Transaction, exp.Commit, exp.Rollback, exp.Kill, exp.Analyze, exp.Grant, exp.Revoke)  # fmt: skip


def _depth(sql: str) -> int:
    """How deep brackets and CASE nest, quotes and comments left aside."""
    depth = deepest = 0
    for piece in _NESTING.finditer(sql):
        what = piece.group().lower()
        depth += (what in ("(", "[", "{", "case")) - (what in (")", "]", "}", "end"))
        deepest = max(deepest, depth)
    return deepest


def _only_reads(tree: Any) -> bool:
    from sqlglot import exp

    if not isinstance(tree, (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)):
        return False
    harmful = (exp.DDL, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.Lock, exp.Command, exp.PropertyEQ,
               *_others())  # fmt: skip
    queries = (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)
    effects = names_of("effects")
    for node in tree.walk():
        if isinstance(node, harmful) and not isinstance(node, queries):
            return False
        if isinstance(node, exp.Func):
            names = {node.name.lower()} if isinstance(node, exp.Anonymous) else set(map(str.lower, node.sql_names()))
            if names & effects:
                return False
    return True
