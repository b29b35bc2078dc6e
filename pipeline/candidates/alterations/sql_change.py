"""SQL that still parses and asks for something else: a condition less, a comparison turned round, another aggregate,
column, table, constant or join. Only what changes is written anew; everything else stays as it was written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task
from pipeline.candidates.alterations.sql_text import depths, parsed, sql_in, tokens

_FLIPPED = {
    ">": ("<", "<=", ">="), "<": (">", ">=", "<="), ">=": ("<", "<=", ">"), "<=": (">", ">=", "<"), "=": ("!=",),
    "!=": ("=",), "<>": ("=",),
}  # fmt: skip
_AGGREGATES = {"AVG": ("MAX", "MIN", "SUM"), "MAX": ("MIN", "AVG"), "MIN": ("MAX", "AVG"), "SUM": ("AVG", "MAX")}
_SETS = {"UNION": "INTERSECT", "INTERSECT": "UNION", "EXCEPT": "INTERSECT"}
_NAMED = re.compile(r"[A-Za-z_]\w*")
# What ends a clause at its own depth.
_ENDS_CONDITION = {
    "AND", "OR", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "UNION", "INTERSECT", "EXCEPT", "WINDOW", ";", ")",
}  # fmt: skip
_ENDS_CLAUSE = _ENDS_CONDITION - {"AND", "OR"} | {"OFFSET"}
# Twice as often: they always ask for something else. What often gives the same rows stands once or less.
_WEIGHTS = {
    "condition": 3, "comparison": 4, "aggregate": 4, "column": 4, "table": 2, "constant": 4, "direction": 3,
    "distinct": 1, "limit": 2, "group": 2, "having": 2, "order": 1, "join": 1, "set": 3, "logic": 3, "negation": 3,
    "column_left_out": 2,
}  # fmt: skip
ENTITIES = ("column", "table", "constant")


@dataclass(frozen=True)
class Edit:
    """text[start:end] becomes `new`."""

    kind: str
    start: int
    end: int
    new: str


def sql_change(task: Task, rng: Random) -> Altered:
    """`changes` changes of any kind."""
    return changed_sql(task, rng, task.parameters["changes"], task.parameters["dialect"])


def changed_sql(
    task: Task, rng: Random, changes: int, dialect: str, kinds: tuple[str, ...] | None = None
) -> Altered:
    """kinds: of the changes, None for any. The result parses, and its tree is another."""
    found = sql_in(task.answer, dialect)
    if found is None:
        raise NothingToAlter("no_sql")
    text, done = found.text, []
    for _ in range(changes):
        edits = [e for e in _edits(text, dialect, task.question, rng) if kinds is None or e.kind in kinds]
        made = _drawn(text, edits, dialect, rng)
        if made is None:
            break
        text, edit, old = made
        done.append([edit.kind, old, edit.new])
    if not done or parsed(text, dialect) == parsed(found.text, dialect):
        raise NothingToAlter("no_sql_change", again=True)
    whole = task.answer[: found.start] + text + task.answer[found.start + len(found.text) :]
    return Altered(whole, facts={"changed": done})


def _drawn(text: str, edits: list[Edit], dialect: str, rng: Random) -> tuple[str, Edit, str] | None:
    """One kind by its weight, then one edit of the kind."""
    before = parsed(text, dialect)
    while edits:
        kinds = sorted({one.kind for one in edits})
        kind = rng.choices(kinds, [_WEIGHTS[name] for name in kinds])[0]
        edit = rng.choice([one for one in edits if one.kind == kind])
        edits.remove(edit)
        new = text[: edit.start].rstrip() + text[edit.end :] if not edit.new and _blank_before(text, edit) else (
            text[: edit.start] + edit.new + text[edit.end :]
        )
        after = parsed(new.rstrip(), dialect)
        if after is not None and after != before:
            return new.rstrip(), edit, text[edit.start : edit.end]
    return None


def _blank_before(text: str, edit: Edit) -> bool:
    return text[edit.end : edit.end + 1] in ("", " ", "\n", ";", ")") and text[edit.start - 1 : edit.start].isspace()


def _edits(text: str, dialect: str, question: str, rng: Random) -> list[Edit]:
    found = tokens(text, dialect)
    depth = depths(found)
    upper = [re.sub(r"\s+", " ", token.text.upper()) for token in found]
    statement = _Statement(text, found, depth, upper)
    edits: list[Edit] = []
    for number, word in enumerate(upper):
        token = found[number]
        kind = token.token_type.name
        if kind == "STRING":
            edits += _constants(statement, number, question)
            continue
        if word in _FLIPPED and not statement.within_join(number):
            edits += [Edit("comparison", token.start, token.end + 1, new) for new in _FLIPPED[word]]
        elif word in _AGGREGATES and statement.word(number + 1) == "(":
            new = rng.choice(_AGGREGATES[word])
            edits.append(Edit("aggregate", token.start, token.end + 1, new.lower() if token.text.islower() else new))
        elif word in ("ASC", "DESC"):
            new = "DESC" if word == "ASC" else "ASC"
            edits.append(Edit("direction", token.start, token.end + 1, new.lower() if token.text.islower() else new))
        elif word == "DISTINCT":
            edits.append(Edit("distinct", token.start, token.end + 1, ""))
        elif word in _SETS and kind != "STRING":
            end = found[number + 1].end + 1 if statement.word(number + 1) == "ALL" else token.end + 1
            edits.append(Edit("set", token.start, end, _cased(_SETS[word], token.text)))
        elif word == "NOT" and statement.word(number + 1) in ("IN", "LIKE", "EXISTS", "BETWEEN"):
            edits.append(Edit("negation", token.start, found[number + 1].start, ""))
        elif word in ("IN", "LIKE") and statement.word(number - 1) != "NOT":
            edits.append(Edit("negation", token.start, token.start, _cased("NOT", token.text) + " "))
        elif word in ("AND", "OR") and not statement.between(number) and not statement.within_join(number):
            new = _cased("OR" if word == "AND" else "AND", token.text)
            edits.append(Edit("logic", token.start, token.end + 1, new))
        elif word == "NUMBER" or kind == "NUMBER":
            edits += _numbers(statement, number, rng)
        if word in ("LIMIT", "GROUP BY", "ORDER BY", "HAVING"):
            last = statement.clause_end(number, _ENDS_CLAUSE)
            name = {"LIMIT": "limit", "GROUP BY": "group", "ORDER BY": "order", "HAVING": "having"}[word]
            if not (word == "GROUP BY" and statement.word(last + 1) == "HAVING"):
                edits.append(Edit(name, token.start, found[last].end + 1, ""))
        if word == "WHERE":
            edits += _conditions(statement, number)
        if word == "JOIN":
            edits += _joins(statement, number)
        if word == "SELECT":
            edits += _columns_left_out(statement, number)
    edits += _columns(statement, dialect, question)
    return edits


def _cased(word: str, like: str) -> str:
    return word.lower() if like.islower() else word


@dataclass(frozen=True)
class _Statement:
    text: str
    tokens: list[Any]
    depth: list[int]
    upper: list[str]

    def word(self, number: int) -> str:
        return self.upper[number] if 0 <= number < len(self.upper) else ""

    def clause_end(self, number: int, ends: set[str]) -> int:
        """Number of the last token of the clause or condition that token `number` begins."""
        depth = self.depth[number]
        last = number
        for n in range(number + 1, len(self.tokens)):
            if self.depth[n] < depth or (self.depth[n] == depth and self.upper[n] in ends and not (
                self.upper[n] == ")" and self._opened_after(number, n)
            ) and not (self.upper[n] == "AND" and self.between(n))):
                break
            last = n
        return last

    def _opened_after(self, number: int, closing: int) -> bool:
        depth = self.depth[closing]
        return any(self.upper[n] == "(" and self.depth[n] == depth for n in range(number, closing))

    def between(self, number: int) -> bool:
        """Whether an AND belongs to a BETWEEN."""
        for n in range(number - 1, max(-1, number - 12), -1):
            if self.depth[n] == self.depth[number] and self.upper[n] in ("AND", "OR", "WHERE", "ON"):
                return False
            if self.depth[n] == self.depth[number] and self.upper[n] == "BETWEEN":
                return True
        return False

    def within_join(self, number: int) -> bool:
        """Whether it stands in the condition of a join: keys changed there make nonsense."""
        depth = self.depth[number]
        for n in range(number - 1, -1, -1):
            if self.depth[n] == depth and self.upper[n] in ("ON", "USING"):
                return True
            if self.depth[n] < depth or self.upper[n] in ("WHERE", "SELECT", "HAVING", "FROM", "SET"):
                return False
        return False


def _conditions(statement: _Statement, where: int) -> list[Edit]:
    """The whole WHERE, or one of several conditions joined by AND or OR."""
    last = statement.clause_end(where, _ENDS_CLAUSE)
    depth = statement.depth[where]
    joins = [
        n for n in range(where + 1, last + 1)
        if statement.depth[n] == depth and statement.upper[n] in ("AND", "OR") and not statement.between(n)
    ]  # fmt: skip
    tokens = statement.tokens
    if not joins:
        return [Edit("condition", tokens[where].start, tokens[last].end + 1, "")]
    edits = [Edit("condition", tokens[where + 1].start, tokens[joins[0] + 1].start, "")]
    for place, number in enumerate(joins):
        end = joins[place + 1] - 1 if place + 1 < len(joins) else last
        edits.append(Edit("condition", tokens[number].start, tokens[end].end + 1, ""))
    return edits


def _joins(statement: _Statement, number: int) -> list[Edit]:
    token, before = statement.tokens[number], statement.word(number - 1)
    if before in ("LEFT", "INNER"):
        first = statement.tokens[number - 1]
        return [Edit("join", first.start, first.end + 1, _cased("INNER" if before == "LEFT" else "LEFT", first.text))]
    if before in ("OUTER", "RIGHT", "FULL", "CROSS", "NATURAL"):
        return []
    return [Edit("join", token.start, token.end + 1, _cased("LEFT JOIN", token.text))]


def _columns_left_out(statement: _Statement, select: int) -> list[Edit]:
    """One of the columns of the outermost query."""
    if statement.depth[select]:
        return []
    stop = next((n for n in range(select, len(statement.upper))
                 if statement.upper[n] == "FROM" and statement.depth[n] == 0), 0)  # fmt: skip
    commas = [n for n in range(select, stop) if statement.upper[n] == "," and statement.depth[n] == 0]
    tokens = statement.tokens
    edits = []
    for place, number in enumerate(commas):
        end = commas[place + 1] - 1 if place + 1 < len(commas) else stop - 1
        edits.append(Edit("column_left_out", tokens[number].start, tokens[end].end + 1, ""))
    return edits


def _constants(statement: _Statement, number: int, question: str) -> list[Edit]:
    """Another quoted value: one of the same statement, or of the question."""
    token = statement.tokens[number]
    old = token.text
    if statement.word(number - 1) in ("AS", "(") and statement.word(number - 2) not in ("IN", ",", "VALUES"):
        return []  # a name, or the argument of a function such as STRFTIME('%Y', ...)
    quote = statement.text[token.start]
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}.*", old):
        year = int(old[:4])
        return [Edit("constant", token.start, token.end + 1, f"{quote}{year + n}{old[4:]}{quote}") for n in (-1, 1)]
    others = {t.text for t in statement.tokens if t.token_type.name == "STRING"}
    others |= {a or b for a, b in re.findall(r"'([^'\n]{1,40})'|\"([^\"\n]{1,40})\"", question[:8000])}
    others |= set(re.findall(r"(?<=[a-z] )[A-Z][a-z]{2,20}\b", question[:8000]))
    like = [o for o in others if o != old and o.isdigit() == old.isdigit() and "%" not in o and "'" not in o
            and o.casefold() != old.casefold()]  # fmt: skip
    if old.isdigit() and len(old) < 10:
        like = [str(int(old) + 1), str(max(0, int(old) - 1))]
    if "%" in old and re.search(r"\w", old):
        like = [old.strip("%")]
    return [Edit("constant", token.start, token.end + 1, f"{quote}{one}{quote}") for one in sorted(like)[:8]]


def _numbers(statement: _Statement, number: int, rng: Random) -> list[Edit]:
    token = statement.tokens[number]
    if not re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", token.text):
        return []
    value = token.text
    if "." in value:
        new = f"{float(value) * rng.choice((0.5, 2, 10)):.{len(value.partition('.')[2])}f}"
    else:
        whole = int(value)
        new = str(max(1, whole + rng.choice((-2, -1, 1, 2, 5)) if whole <= 12 else round(whole * rng.choice((0.5, 2)))))
        if 1900 <= whole <= 2100:
            new = str(whole + rng.choice((-3, -2, -1, 1, 2)))
    return [Edit("constant", token.start, token.end + 1, new)] if new != value else []


def _columns(statement: _Statement, dialect: str, question: str) -> list[Edit]:
    """Another column of the same table, or another table of the question's schema."""
    from sqlglot import exp

    tree = parsed(statement.text, dialect)
    schema = schema_in(question)
    tables = {t.alias_or_name.lower(): t.name.lower() for t in tree.find_all(exp.Table)}
    of_statement: dict[str, set[str]] = {}
    for column in tree.find_all(exp.Column):
        for table in [tables.get(column.table.lower(), "")] if column.table else set(tables.values()):
            of_statement.setdefault(table, set()).add(column.name)
    named = {column.name.lower() for column in tree.find_all(exp.Column)}
    aliases = {alias.alias.lower() for alias in tree.find_all(exp.Alias)}
    edits = []
    for number, token in enumerate(statement.tokens):
        word = token.text.lower()
        if token.token_type.name not in ("VAR", "IDENTIFIER") or statement.word(number + 1) in ("(", "."):
            continue
        quoted = statement.text[token.start : token.end + 1] != token.text
        after = statement.word(number - 1)
        if after == "AS" or statement.within_join(number) or quoted:
            continue
        if after in ("FROM", "JOIN", "INTO", "UPDATE") and word in tables.values() and word in schema:
            others = sorted(name for name in schema if name != word and name not in tables.values())
            if not any(set(map(str.lower, schema[word])) & named):
                continue
            same = [name for name in others if named <= {c.lower() for c in schema[name]} | aliases]
            edits += [Edit("table", token.start, token.end + 1, name) for name in same[:4]]
            continue
        if word not in named or word in aliases:
            continue
        prefix = statement.word(number - 2).lower() if after == "." else ""
        owners = [tables[prefix]] if prefix in tables else [t for t in tables.values() if word in map(
            str.lower, schema.get(t, ())
        )] or list(tables.values())  # fmt: skip
        owner = owners[0] if owners else ""
        known = schema.get(owner) or sorted(of_statement.get(owner, ()))
        others = [name for name in known if name.lower() != word and name.lower() not in tables]
        others = [name for name in others if name.lower() not in named] or others
        edits += [Edit("column", token.start, token.end + 1, name) for name in others[:12] if _NAMED.fullmatch(name)]
    return edits


_SCHEMA_SHAPES: tuple[Callable[[str], list[tuple[str, str]]], ...] = (
    lambda text: re.findall(
        r"(?is)create\s+table\s+(?:if\s+not\s+exists\s+)?[\"'`\[]?(\w+)[\"'`\]]?\s*"
        r"\((.{1,4000}?)\)\s*(?:;|$|\n\s*\n|create)",
        text,
    ),
    lambda text: re.findall(r"(?im)^[#\s*-]*(?:table\s+)?(\w+)\s*\(([\w\s,`\"]{3,2000})\)\s*;?\s*$", text),
    lambda text: re.findall(r"(?i)table\s+(\w+)\s*,\s*columns\s*=\s*\[([^\]]{1,2000})\]", text),
    lambda text: re.findall(r"(?im)^[#\s*|-]*(?:table\s+)?(\w+)\s*:\s*([\w`\"*]+(?:\s*,\s*[\w`\"*]+)+)\s*\|?$", text),
)  # fmt: skip
_NO_COLUMN = {"primary", "foreign", "constraint", "unique", "key", "check", "references", "index"}


def schema_in(question: str) -> dict[str, list[str]]:
    """Tables with their columns as a question gives them: CREATE TABLE statements, `table(a, b)`, `table: a, b`."""
    text = question[:40_000]
    schema: dict[str, list[str]] = {}
    for shape in _SCHEMA_SHAPES:
        for table, inside in shape(text):
            columns = []
            depthless = re.sub(r"\([^()]*\)", "", inside)
            for part in depthless.split(","):
                name = re.match(r"\s*[\"'`\[]?(\w+)", part)
                if name and name[1].lower() not in _NO_COLUMN:
                    columns.append(name[1])
            if columns:
                schema.setdefault(table.lower(), columns)
        if schema:
            break
    return schema
