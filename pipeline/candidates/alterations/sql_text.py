"""The SQL that an answer is, or that stands in it as a block of code, by its tokens and their places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.sql.parse_sql import parse

_BEGINS = re.compile(r"\s*(?:--[^\n]*\n\s*)*\(?\s*(?:select|with|insert|update|delete)\b", re.I)
_FENCED = re.compile(r"```[ \t]*(?:sql|sqlite|mysql|postgresql|postgres)?[ \t]*\n(.*?)```", re.I | re.S)
_LABEL = re.compile(r"\s*(?:SQL(?:Query)?|Query|Answer|答案)\s*[:：]\s*(?=select\b|with\b)", re.I)
_MOST_CHARACTERS = 80_000  # of an answer that may hold a block of SQL
DEFAULT_DIALECT = "sqlite"


@dataclass(frozen=True)
class SqlText:
    """One statement within an answer, from `start` on."""

    start: int
    text: str


def sql_in(answer: str, dialect: str) -> SqlText | None:
    """The statement an answer consists of, or the one in a block of code that is most of it. None where none parses.

    dialect: a name of sqlglot, empty for SQLite's.
    """
    dialect = dialect or DEFAULT_DIALECT
    label = _LABEL.match(answer)
    start = label.end() if label else 0
    if _BEGINS.match(answer, start):
        text = answer[start:].rstrip()
        return SqlText(start, text) if parsed(text, dialect) is not None else None
    if "```" not in answer:
        return None
    for block in _FENCED.finditer(answer[:_MOST_CHARACTERS]):
        text = block[1].rstrip()
        mostly = 2 * len(text) >= len(answer.strip())
        if mostly and _BEGINS.match(text) and parsed(text, dialect) is not None:
            return SqlText(block.start(1), text)
    return None


@lru_cache(maxsize=64)
def parsed(text: str, dialect: str) -> Any:
    """Syntax tree of one statement; None for what isn't one. Prose that only begins like a statement is none: sqlglot
    takes `Select the best` for one, so something must be selected from somewhere."""
    from sqlglot import exp

    tree = parse(text, dialect or DEFAULT_DIALECT).tree
    if not isinstance(tree, (exp.Query, exp.DML)):
        return None
    return tree if tree.find(exp.Table) is not None or tree.find(exp.Literal, exp.Star) is not None else None


def tokens(text: str, dialect: str) -> list[Any]:
    """Tokens with `start` and `end` (the last character's place); comments are none."""
    from sqlglot import tokenize

    return list(tokenize(text, read=dialect or DEFAULT_DIALECT))


def depths(found: list[Any]) -> list[int]:
    """Depth in parentheses of each token, a parenthesis itself at the depth around it."""
    result, depth = [], 0
    for token in found:
        if token.text == ")":
            depth -= 1
        result.append(depth)
        if token.text == "(":
            depth += 1
    return result


_CLAUSES = ("WHERE", "GROUP BY", "HAVING", "ORDER BY", "LIMIT")


def clause_starts(text: str) -> list[int]:
    """Places where the outermost query could end: right before a clause that it has."""
    found = tokens(text, "")
    return [
        t.start
        for t, depth in zip(found, depths(found), strict=True)
        if depth == 0 and t.text.upper().replace("\n", " ") in _CLAUSES
    ]


def number_places(text: str) -> list[tuple[int, int]]:
    """Where plain numbers stand in a statement."""
    return [(t.start, t.end + 1) for t in tokens(text, "") if t.token_type.name == "NUMBER" and _plain(t.text)]


def _plain(number: str) -> bool:
    return re.fullmatch(r"\d{1,18}(?:\.\d{1,18})?", number) is not None
