"""Normal forms of SQL: two queries of one form give the same result on every database.

The other way round nothing is promised: queries of different form may be equal all the same, and only running them
tells. So every rewriting here is left out where it might change a result; where the parser itself loses something of
the text (checked by writing the tree out again), the text alone is compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.refusal import Sentence
from pipeline.sql.parse_sql import ParsedSql, dialect_of, parse
from pipeline.sql.schema import Schema, folded, raised

MYSQL_FAMILY = frozenset({"mysql", "doris", "starrocks", "singlestore"})
# Names of tables are files there, or case-sensitive as such.
TABLES_EXACT = MYSQL_FAMILY | {"bigquery", "clickhouse", "fabric"}
# Words that are calls without parentheses when they stand bare, and names when quoted.
_BARE_CALLS = """
user current_user session_user system_user current_role current_schema current_catalog current_database current_date
current_time current_timestamp localtime localtimestamp sysdate systimestamp rownum rowid level uid null true false
default value connect_by_root prior nextval currval
"""
BARE_CALLS = frozenset(_BARE_CALLS.split())
ROW_IDS = frozenset({"rowid", "oid", "_rowid_"})

# --- text alone --------------------------------------------------------------------------------------------------

_TEXT = re.compile(
    r"(?P<quoted>'[^']*+(?:'|\Z)|\"[^\"]*+(?:\"|\Z))|(?P<name>`[^`]*+(?:`|\Z)|\[[^\[\]]{0,200}\])"
    r"|(?P<comment>--(?=[\s]|\Z)[^\n]*+|/\*(?![!+])(?:[^*]|\*(?!/))*+(?:\*/|\Z))"
    r"|(?P<space>[ \t\r\n\f]+)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>[(),;=<>+*/%-])|(?P<other>.)",
    re.DOTALL,
)  # fmt: skip
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Words that stand for nothing else in any dialect: written in either case they are the same.
_WORDS = """
select from where group by order having limit offset and or not in is null like between as on join inner left right
outer cross union all distinct intersect except case when then else end exists asc desc with count sum avg min max
"""
_ALWAYS_WORDS = frozenset(_WORDS.split())


def normalised(text: str, dialect: str = "") -> str:
    """`text` without differences of layout: whitespace, comments, case outside quotes, quotes around plain names, the
    last semicolon. For SQL that doesn't parse, too.

    A name in double quotes stays as it is: it may be a string. Text in which quoting depends on the dialect (a
    backslash before a quote, `$$`, nested comments) is only stripped.
    """
    text = text.strip(" \t\r\n\f;")
    if re.search(r"\\['\"`]|\$\w*+\$", text):
        return text
    exact = dialect in TABLES_EXACT
    parts: list[str] = []
    pending = False
    for piece in _TEXT.finditer(text):
        kind, what = piece.lastgroup, piece.group()
        if kind == "comment" and what.startswith("/*") and ("/*" in what[2:] or not what.endswith("*/")):
            return text
        if kind in ("space", "comment"):
            pending = True
            continue
        if kind == "name" and (what[0] == "`" or dialect in ("sqlite", "tsql")):
            inside = what[1:-1]
            if _PLAIN_NAME.match(inside) and folded(inside) not in BARE_CALLS | _ALWAYS_WORDS:
                kind, what = "word", inside
        if kind == "word" and (not exact or folded(what) in _ALWAYS_WORDS):
            what = folded(what)
        # Between two words a space is one, beside a sign it is none. Two signs stay apart, `- -` is no `--`, and in
        # MySQL `count (*)` is no call.
        if pending and parts:
            loose = {what, parts[-1]} & (_LOOSE - {"("} if dialect in MYSQL_FAMILY else _LOOSE)
            if not loose and (kind == "sign") == (parts[-1] in _SIGNS):
                parts.append(" ")
        parts.append(what)
        pending = False
    return "".join(parts).rstrip("; ")


_LOOSE = frozenset("(),;")
_SIGNS = frozenset("=<>+*/%-")

# --- trees -------------------------------------------------------------------------------------------------------

# Written one way and read back another, and meaning the same.
_SAME_WORD = {"SUBSTRING": "SUBSTR", "IFNULL": "COALESCE", "INTEGER": "INT", "!=": "<>", "==": "="}
_SAME_WORD_SQLITE = {**_SAME_WORD, "REAL": "DOUBLE", "FLOAT": "DOUBLE"}
_UNSAID = frozenset({"AS", "ASC", ";"})
_ASCII_SPACE = re.compile(r"(?:[ \t\r\n\f\ufeff]|--[^\n]*+|#[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+;*")

# A tree of nothing else is rewritten; any other node, and only layout is brought to a form.
_NODES = """
Select From Table TableAlias Alias Column Identifier Star Literal Join Where Group Having Order Ordered Limit Offset
Distinct And Or Not EQ NEQ GT GTE LT LTE Between In Is Like Null Boolean Paren Add Sub Mul Div Neg Case If Cast DataType
DataTypeParam Subquery Exists Union Intersect Except With CTE Tuple Window WindowSpec Var Collate DPipe Glob Mod Escape
Count Sum Avg Min Max Abs Round Coalesce Upper Lower Length Substring Trim Anonymous Nullif GroupConcat Replace
RowNumber Rank DenseRank TimeToStr TsOrDsToTimestamp NullSafeEQ NullSafeNEQ Cbrt Sqrt Ln Exp Floor Ceil Pow StrPosition
Concat Lag Lead FirstValue LastValue Ntile CurrentDate CurrentTime CurrentTimestamp Unicode
"""
_KNOWN = frozenset(_NODES.split())
_COMPARISONS = frozenset({"EQ", "NEQ", "GT", "GTE", "LT", "LTE"})
_PREDICATES = _COMPARISONS | {"Between", "In", "Is", "Like", "Exists", "And", "Or", "Not"}
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
_ATOMS = frozenset({"Column", "Literal", "Subquery", "Null", "Boolean", "Case", "Cast"})
_FLIPPED = {"GT": "LT", "GTE": "LTE"}
_AGGREGATES = frozenset({"Count", "Sum", "Avg", "Min", "Max"})
# What they give may depend on the order of rows that no ORDER BY fixes.
_BY_ROW_ORDER = frozenset({"GroupConcat", "Window", "Limit", "Offset", "Anonymous"})
# Dialects in which `a.b` is a column of a table and never a field of a column.
_NO_FIELDS = MYSQL_FAMILY | {"sqlite", "postgres", "tsql"}
_EXPAND_BETWEEN = frozenset({"sqlite", "postgres"})
_PLUS_COMMUTES = MYSQL_FAMILY | {"sqlite", "postgres"}


def canonical(sql: str, dialect: str = "sqlite", schema: Schema | None = None) -> str:
    """The form of `sql`: equal forms, equal results on every database (of `schema`, where given).

    Brought together: layout, case of names, quotes of names, aliases of tables, unreferenced aliases of columns, order
    within AND, OR, IN, `=`, `<`, `*`, of GROUP BY and of plain inner joins, redundant parentheses, INNER and OUTER,
    BETWEEN and its two comparisons, COUNT(1) and COUNT(*), `ORDER BY` by name, number or expression; with a schema also
    unqualified names, and on SQLite double-quoted strings. Never the order of columns or rows, LIMIT, or the sides of
    other joins. Text that can't be parsed gives its `normalised` form.
    """
    return examined(sql, dialect, schema).form


@dataclass(frozen=True)
class Examined:
    """A text as `parse` and `canonical` see it."""

    parses: bool
    problem: Sentence | None
    read_only: bool
    form: str


def examined(sql: str, dialect: str = "sqlite", schema: Schema | None = None) -> Examined:
    """Parsed and brought to its form, once for texts that come again."""
    return _remembered(sql, dialect, schema) if len(sql) <= 4000 else _examined(sql, dialect, schema)


def _examined(sql: str, dialect: str, schema: Schema | None) -> Examined:
    parsed = parse(sql, dialect)
    return Examined(parsed.parses, parsed.problem, parsed.read_only, form_of(parsed, schema))


@lru_cache(maxsize=4096)
def _remembered(sql: str, dialect: str, schema: Schema | None) -> Examined:
    return _examined(sql, dialect, schema)


def form_of(parsed: ParsedSql, schema: Schema | None = None) -> str:
    """`canonical` of a statement that is parsed already. Changes its tree."""
    as_text = "text " + normalised(parsed.sql, parsed.dialect)
    if parsed.tree is None:
        return as_text
    try:
        if not _lossless(parsed):
            return as_text
        return _Form(parsed, schema).key()
    except (RecursionError, MemoryError):
        return as_text
    except Exception:  # the writer of sqlglot is a large program: some trees break it
        return as_text


def _lossless(parsed: ParsedSql) -> bool:
    """Whether the tree says all that the text says: written out again it has the same words."""
    from sqlglot.errors import ErrorLevel

    dialect, _ = dialect_of(parsed.dialect)
    if parsed.dialect in MYSQL_FAMILY and re.search(r"/\*!|\w\s+\(\s*(?:\*|distinct\b)", parsed.sql, re.IGNORECASE):
        return False  # comments that are run, and `count (*)`, which is no call
    assert parsed.tree is not None
    written = parsed.tree.sql(
        dialect=dialect, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.IGNORE
    )
    own = parsed.tokens
    end = 0
    for token in own:  # sqlglot takes any Unicode space for one, databases take some for letters
        if not _ASCII_SPACE.fullmatch(parsed.sql[end : token.start]):
            return False
        end = token.end + 1
    return _words(own, parsed.dialect) == _words(dialect.tokenize(written), parsed.dialect)


def _words(tokens: Sequence[Any], dialect: str) -> Counter[str]:
    same = _SAME_WORD_SQLITE if dialect == "sqlite" else _SAME_WORD
    words: list[str] = []
    for token in tokens:
        kind = token.token_type.name
        if kind in ("IDENTIFIER", "STRING"):
            words.append(f"{kind} {token.text}")
            continue
        for word in raised(token.text).split():
            word = same.get(word, word)
            if dialect == "sqlite" and (word == "," or word == "CROSS"):
                continue  # a comma between tables is written CROSS JOIN
            if word == "JOIN" and dialect == "sqlite":
                continue
            if word not in _UNSAID:
                words.append(word)
    return Counter(words)


class _Source:
    """A table or subquery of a FROM clause. name: as the query refers to it. place: its number after sorting."""

    def __init__(self, node: Any, name: str, table: str | None, columns: frozenset[str] | None) -> None:
        self.node, self.name, self.table, self.columns = node, name, table, columns
        self.place = 0


class _Scope:
    """One SELECT with the tables that its names can mean."""

    def __init__(self, select: Any, parent: _Scope | None, depth: int) -> None:
        self.select, self.parent, self.depth = select, parent, depth
        self.sources: list[_Source] = []
        self.aliases: set[str] = set()
        self.merged = False  # inner joins only: their order means nothing
        self.shared_columns = False  # USING or NATURAL


class _Form:
    """Writes the form of one tree."""

    def __init__(self, parsed: ParsedSql, schema: Schema | None) -> None:
        from sqlglot import exp

        self.exp = exp
        self.sql, self.dialect = parsed.sql, parsed.dialect
        tree: Any = parsed.tree
        self.tree = tree
        self.schema = schema
        known, _ = dialect_of(parsed.dialect)
        self.strategy = known.normalization_strategy.value.upper()
        nodes = list(tree.walk())
        kinds = {type(node).__name__ for node in nodes}
        self.columns = [node for node in nodes if isinstance(node, exp.Column)]
        self.selects = [node for node in nodes if isinstance(node, exp.Select)]  # the outer ones first
        self.full = kinds <= _KNOWN and not any(column.args.get("join_mark") for column in self.columns)
        self.collated = "Collate" in kinds or (schema is not None and schema.collated)
        self.by_row_order = bool(kinds & _BY_ROW_ORDER)
        self.renamed = False
        self.column_names: dict[int, str] = {}  # id of a column -> what is written for its table
        self.written: dict[int, str] = {}  # id of a node -> what is written for it
        self.scopes: dict[int, _Scope] = {}

    def key(self) -> str:
        tree = self.tree
        while type(tree) is self.exp.Subquery and not any(v for k, v in tree.args.items() if k != "this"):
            tree = tree.this
        if not self.full:
            return "layout " + self._write(tree)
        self._find_scopes()
        self._resolve_names()
        for select in self._outermost(tree):
            self._output_names(select)
        return "form " + self._write(tree)

    # --- names ---

    def _name(self, identifier: Any, *, table: bool = False) -> str:
        """What an identifier means, by the rules of its dialect."""
        exp = self.exp
        if not isinstance(identifier, exp.Identifier):
            return self._write(identifier) if isinstance(identifier, exp.Expression) else str(identifier)
        text, quoted = identifier.this, bool(identifier.args.get("quoted"))
        mark = "quoted " if quoted and folded(text) in BARE_CALLS else ""
        if table and self.dialect in TABLES_EXACT:
            return mark + text
        if self.dialect in MYSQL_FAMILY:
            return mark + folded(text)
        if self.strategy == "CASE_SENSITIVE":
            return mark + text
        if self.strategy == "LOWERCASE":
            return mark + (text if quoted else folded(text))
        if self.strategy == "UPPERCASE":
            return mark + (text if quoted else raised(text))
        return mark + folded(text)

    def _maybe_text(self, column: Any) -> bool:
        """Whether a bare name may be a string: SQLite reads \"France\" as 'France' where no column is called so."""
        identifier = column.this
        if self.dialect != "sqlite" or column.args.get("table") or not isinstance(identifier, self.exp.Identifier):
            return False
        if not identifier.args.get("quoted"):
            return False
        start = identifier.meta.get("start")
        return start is None or self.sql[start : start + 1] == '"'

    def _find_scopes(self) -> None:
        exp = self.exp
        self.ctes = {self._name(c.args["alias"].this, table=True) for c in self.tree.find_all(exp.CTE)}
        self.ctes |= {folded(name) for name in self.ctes}
        tables = self.schema.folded if self.schema is not None else {}
        for select in self.selects:
            parent = self._enclosing(select)
            scope = _Scope(select, parent, parent.depth + 1 if parent is not None else 0)
            self.scopes[id(select)] = scope
            for item in select.expressions:
                if isinstance(item, exp.Alias):
                    scope.aliases.add(self._name(item.args["alias"]))
            joins = select.args.get("joins") or []
            first = select.args.get("from_")
            for node in [part.this for part in [first, *joins] if part is not None]:
                alias = node.args.get("alias")
                name = self._name(alias.this, table=True) if alias is not None and alias.this is not None else ""
                table = None
                if isinstance(node, exp.Table):
                    table = self._name(node.this, table=True)
                    name = name or table
                plain = table is not None and not node.args.get("db") and folded(table) not in self.ctes
                plain = plain and not (alias is not None and alias.args.get("columns"))
                scope.sources.append(_Source(node, name, table, tables.get(folded(table)) if plain and table else None))
            scope.shared_columns = any(j.args.get("using") or j.args.get("method") for j in joins)

    def _enclosing(self, node: Any, *, visible: bool = False) -> _Scope | None:
        """The SELECT around `node`. visible: only one whose tables its names can mean; the body of a WITH and a
        subquery in FROM see none of the SELECT they stand in, but those around it."""
        exp = self.exp
        child, parent = node, node.parent
        hidden = False
        while parent is not None:
            if isinstance(parent, (exp.With, exp.From, exp.Join)) and visible and not isinstance(child, exp.Table):
                # The condition of a join sees the tables, what is joined doesn't.
                hidden = not (isinstance(parent, exp.Join) and child is not parent.this)
            if isinstance(parent, exp.Select):
                if not hidden:
                    return self.scopes.get(id(parent))
                hidden = False
            child, parent = parent, parent.parent
        return None

    def _of_set_operation(self, node: Any) -> bool:
        """Whether `node` stands in the ORDER BY of a UNION: it names one of its columns."""
        exp = self.exp
        while node is not None and not isinstance(node, exp.Select):
            if isinstance(node.parent, exp.SetOperation) and node.arg_key not in ("this", "expression", "with_"):
                return True
            node = node.parent
        return False

    def _resolve_names(self) -> None:
        """Find the table of each name, sort joins that can be, and give every table its number."""
        exp = self.exp
        self.renamed = self.dialect in _NO_FIELDS and self._sources_plain()
        found: list[tuple[Any, _Scope, _Source]] = []
        names = {source.name for scope in self.scopes.values() for source in scope.sources}
        for column in self.columns:
            if column.args.get("db") or column.args.get("catalog"):
                self.renamed = False
                continue
            scope = self._enclosing(column, visible=True)
            if column.args.get("table") is not None:
                match = self._source_called(self._name(column.args["table"], table=True), scope)
                if match is None:
                    self.renamed = False
                else:
                    found.append((column, *match))
                continue
            if isinstance(column.this, exp.Star) or scope is None or self._of_set_operation(column):
                continue
            name = self._name(column.this)
            owner = self._owner(column, name, scope)
            if owner is not None:
                found.append((column, *owner))
            elif self._is_text(column, name, scope):
                self.written[id(column)] = _text(column.this.this)
            elif name in names or column.this.this in names:
                self.renamed = False  # a whole row, called by its table
        if not self.renamed:
            return
        for scope in self.scopes.values():
            scope.merged = self._mergeable(scope, found)
            order = sorted(scope.sources, key=lambda s: s.table or "") if scope.merged else scope.sources
            for place, source in enumerate(order):
                source.place = place
        for column, scope, source in found:
            self.column_names[id(column)] = f"{scope.depth}.{source.place}"
        self._drop_needless_tables(found)

    def _sources_plain(self) -> bool:
        exp = self.exp
        for scope in self.scopes.values():
            names = [source.name for source in scope.sources]
            if len(set(names)) != len(names) or "" in names[: len(names) if len(names) > 1 else 0]:
                return False
            for source in scope.sources:
                node = source.node
                if not isinstance(node, (exp.Table, exp.Subquery)) or isinstance(node.this, exp.Table):
                    return False
                allowed = {"this", "alias", "db"} if isinstance(node, exp.Table) else {"this", "alias"}
                if any(value for key, value in node.args.items() if key not in allowed):
                    return False
                if isinstance(node, exp.Table) and not isinstance(node.this, exp.Identifier):
                    return False
        return True

    def _source_called(self, name: str, scope: _Scope | None) -> tuple[_Scope, _Source] | None:
        while scope is not None:
            for source in scope.sources:
                if source.name == name or (self.dialect not in TABLES_EXACT and folded(source.name) == folded(name)
                                           and self.strategy.startswith("CASE_INS")):  # fmt: skip
                    return scope, source
            scope = self._enclosing(scope.select, visible=True)
        return None

    def _owner(self, column: Any, name: str, scope: _Scope) -> tuple[_Scope, _Source] | None:
        """The table that a bare name belongs to, where the schema leaves no doubt."""
        if self.schema is None or self.dialect not in _NO_FIELDS:
            return None
        name = folded(name)
        if name in scope.aliases and not self._sees_columns_first(column, scope):
            return None
        around: _Scope | None = scope
        while around is not None:
            if around.shared_columns or any(s.columns is None for s in around.sources):
                return None
            owners = [s for s in around.sources if s.columns is not None and name in s.columns]
            if owners:
                return (around, owners[0]) if len(owners) == 1 else None
            if name in ROW_IDS or name in around.aliases:
                return None
            around = self._enclosing(around.select, visible=True)
        return None

    def _sees_columns_first(self, column: Any, scope: _Scope) -> bool:
        """Whether `column` stands where a column of a table goes before a column of the result: in the list of results
        itself, in WHERE and ON."""
        node = column
        while node.parent is not None and node.parent is not scope.select:
            node = node.parent
        return node.arg_key in ("expressions", "where", "joins", "from_")

    def _is_text(self, column: Any, name: str, scope: _Scope) -> bool:
        """Whether a double-quoted name is surely a string."""
        if self.schema is None or not self._maybe_text(column):
            return False
        name = folded(name)
        if name in self.schema.all_columns or name in ROW_IDS or name in self.schema.folded or name in self.ctes:
            return False
        if any(name in s.aliases or any(x.columns is None for x in s.sources) for s in self.scopes.values()):
            return False
        return not any(name == folded(s.name) for scope in self.scopes.values() for s in scope.sources)

    def _drop_needless_tables(self, found: list[tuple[Any, _Scope, _Source]]) -> None:
        """Without a schema: in a query of one table, `t.a` and `a` are one, unless a result is called `a`."""
        if self.schema is not None or self.dialect not in MYSQL_FAMILY | {"sqlite"}:
            return
        for column, scope, _ in found:
            if scope.depth or len(scope.sources) != 1 or scope.parent is not None or self._maybe_text(column):
                continue
            if self._enclosing(column, visible=True) is not scope or isinstance(column.this, self.exp.Star):
                continue
            if self._name(column.this) in scope.aliases or scope.sources[0].table is None:
                continue
            if column.this.args.get("quoted"):  # bare it might be read as a string
                continue
            self.column_names[id(column)] = ""

    def _mergeable(self, scope: _Scope, found: list[tuple[Any, _Scope, _Source]]) -> bool:
        """Whether the order of the joined tables means nothing, so that they can be sorted by name."""
        exp = self.exp
        joins = scope.select.args.get("joins") or []
        if not joins or self.by_row_order or self.collated or scope.shared_columns:
            return False
        tables = [source.table for source in scope.sources]
        if None in tables or len({folded(t) for t in tables if t}) != len(tables):
            return False
        conditions = [join.args.get("on") for join in joins]
        if any(join.args.get("side") or join.args.get("method") for join in joins):
            return False
        if any(join.args.get("kind") not in (None, "", "INNER", "CROSS") for join in joins):
            return False
        if self.dialect != "sqlite" and None in conditions:
            return False
        if any(isinstance(item, exp.Star) or isinstance(item, exp.Column) and isinstance(item.this, exp.Star)
               for item in scope.select.expressions):  # fmt: skip
            return False
        known = {id(column): source for column, where, source in found if where is scope}
        anywhere = {id(column) for column, _, _ in found}
        for place, condition in enumerate(conditions):
            if condition is None:
                continue
            if condition.find(exp.Select):
                return False
            for column in condition.find_all(exp.Column):
                if id(column) not in anywhere:
                    return False
                source = known.get(id(column))
                if source is not None and scope.sources.index(source) > place + 1:
                    return False
        return self._rows_settled(scope.select)

    def _rows_settled(self, select: Any) -> bool:
        """Whether a grouped SELECT takes nothing from an arbitrary row of its group."""
        exp = self.exp
        group = select.args.get("group")
        parts = [*select.expressions, select.args.get("having"), select.args.get("order")]
        parts = [part for part in parts if part is not None]
        aggregated = any(part.find(exp.AggFunc) for part in parts)
        if group is None and not aggregated:
            return True
        keys = {self._plain_key(key) for key in (group.expressions if group is not None else [])}
        for part in parts:
            for column in part.find_all(exp.Column):
                inside = column.find_ancestor(exp.AggFunc, exp.Select)
                if isinstance(inside, exp.AggFunc):
                    continue
                if not column.args.get("table") and self._name(column.this) in self.scopes[id(select)].aliases:
                    continue  # what it stands for is looked at itself
                if self._plain_key(column) not in keys:
                    return False
        return True

    @staticmethod
    def _plain_key(node: Any) -> str:
        return folded(node.sql())

    # --- results ---

    def _outermost(self, tree: Any) -> Iterator[Any]:
        """SELECTs whose columns are the columns of the result, where their names mean nothing."""
        exp = self.exp
        if isinstance(tree, exp.Select):
            yield tree
        elif isinstance(tree, exp.SetOperation) and not tree.args.get("order"):
            for side in (tree.this, tree.expression):
                yield from self._outermost(side)

    def _output_names(self, select: Any) -> None:
        """Drop aliases of the result that nothing refers to; let ORDER BY say which column of the result it means."""
        exp = self.exp
        items = select.expressions
        star = any(isinstance(i, exp.Star) or isinstance(i, exp.Column) and isinstance(i.this, exp.Star) for i in items)
        aliases = [self._name(i.args["alias"]) if isinstance(i, exp.Alias) else None for i in items]
        named = {name for name in aliases if name is not None}
        order = select.args.get("order")
        if order is not None and not star and type(select.parent) is not exp.Union:
            keys = [self._write(i.this if isinstance(i, exp.Alias) else i) for i in items]
            for ordered in order.expressions:
                place = self._column_of(ordered.this, aliases, named, keys)
                if place is not None:
                    self.written[id(ordered.this)] = f"(result {place})"
        referred = set()
        for column in self.columns:
            if column.args.get("table") or id(column) in self.written or isinstance(column.this, exp.Star):
                continue
            referred |= {folded(self._name(column.this)), folded(str(column.this.this))}
        for item in items:
            if isinstance(item, exp.Alias) and folded(self._name(item.args["alias"])) not in referred:
                self.written[id(item)] = self._write(item.this)

    def _column_of(self, key: Any, aliases: list[str | None], named: set[str], keys: list[str]) -> int | None:
        """Which column of the result a key of ORDER BY is."""
        exp = self.exp
        if isinstance(key, exp.Literal):
            place = int(key.this) - 1 if not key.is_string and key.this.isdecimal() and len(key.this) < 5 else -1
            return place if 0 <= place < len(keys) else None
        bare = isinstance(key, exp.Column) and not key.args.get("table") and isinstance(key.this, exp.Identifier)
        if bare:
            places = [i for i, name in enumerate(aliases) if name is not None and name == self._name(key.this)]
            if places:
                return places[0] if len(places) == 1 else None
        settled = _AGGREGATES | _ARITHMETIC | {"Column", "Identifier", "Literal", "Star", "Distinct"}
        if not all(type(part).__name__ in settled for part in key.walk()):
            return None
        for column in key.find_all(exp.Column):
            if not column.args.get("table") and (self._name(column.this) in named or self._maybe_text(column)):
                return None
        written = self._write(key)
        return keys.index(written) if written in keys else None

    # --- writing ---

    def _write(self, node: Any) -> str:
        if isinstance(node, list):
            return "[" + " ".join(map(self._write, node)) + "]"
        if not isinstance(node, self.exp.Expression):
            return _text(str(getattr(node, "value", node)))
        known = self.written.get(id(node))
        if known is not None:
            return known
        kind = type(node).__name__
        special = getattr(self, f"_write_{kind.lower()}", None) if self.full or kind in _ALWAYS_SPECIAL else None
        if special is not None:
            result: str = special(node)
            return result
        return self._write_plain(node)

    def _write_plain(self, node: Any, **replaced: str) -> str:
        kind = type(node).__name__
        parts = []
        if isinstance(node, self.exp.Func) and "start" in node.meta:
            # sqlglot has one node for several functions: IFNULL, COALESCE.
            parts.append("name=" + _text(raised(self.sql[node.meta["start"] : node.meta["end"] + 1])))
        for key in sorted({*node.args, *replaced}):
            value = node.args.get(key)
            if key in replaced:
                if replaced[key]:
                    parts.append(f"{key}={replaced[key]}")
            elif value is not None and value is not False and value != []:
                parts.append(f"{key}={self._write(value)}")
        return f"({kind} {' '.join(parts)})"

    def _write_identifier(self, node: Any) -> str:
        return _text(self._name(node))

    def _write_literal(self, node: Any) -> str:
        return _text(node.this) if node.is_string else node.this

    def _write_column(self, node: Any) -> str:
        name = self.column_names.get(id(node))
        if self._maybe_text(node) and name is None:
            return f"(Quoted {_text(node.this.this)})"
        column = self._write(node.this)
        if name is not None:
            return f"(Column {name} {column})" if name else f"(Column {column})"
        table = node.args.get("table")
        if table is None:
            return f"(Column {column})" if len([v for v in node.args.values() if v]) == 1 else self._write_plain(node)
        return self._write_plain(node, table=_text(self._name(table, table=True)))

    def _write_table(self, node: Any) -> str:
        identifier = isinstance(node.this, self.exp.Identifier)
        name = _text(self._name(node.this, table=True)) if identifier else self._write(node.this)
        if self.renamed:
            return self._write_plain(node, alias=self._columns_of_alias(node), this=name)
        return self._write_plain(node, this=name)

    def _write_tablealias(self, node: Any) -> str:
        if not isinstance(node.this, self.exp.Identifier):
            return self._write_plain(node)
        return self._write_plain(node, this=_text(self._name(node.this, table=True)))

    def _columns_of_alias(self, node: Any) -> str:
        alias = node.args.get("alias")
        columns = alias.args.get("columns") if alias is not None else None
        return self._write(columns) if columns else ""

    def _write_subquery(self, node: Any) -> str:
        if self.renamed and isinstance(node.parent, (self.exp.From, self.exp.Join)):
            return self._write_plain(node, alias=self._columns_of_alias(node))
        return self._write_plain(node)

    def _write_select(self, node: Any) -> str:
        scope = self.scopes.get(id(node))
        replaced = {}
        where = node.args.get("where")
        conditions = self._conjunction(where.this) if where is not None else []
        if scope is not None and scope.merged:
            for join in node.args["joins"]:
                if join.args.get("on") is not None:
                    conditions += self._conjunction(join.args["on"])
            sources = sorted(scope.sources, key=lambda s: s.place)
            replaced["from_"] = "[" + " ".join(self._write(s.node) for s in sources) + "]"
            replaced["joins"] = ""
        if conditions:
            replaced["where"] = "[" + " ".join(sorted(conditions)) + "]"
        return self._write_plain(node, **replaced)

    def _write_join(self, node: Any) -> str:
        kind, side = node.args.get("kind"), node.args.get("side")
        if kind == "INNER" or (kind == "OUTER" and side):
            return self._write_plain(node, kind="")
        return self._write_plain(node)

    def _write_group(self, node: Any) -> str:
        plain = not any(value for key, value in node.args.items() if key != "expressions")
        select = node.parent
        if plain and not self.by_row_order and isinstance(select, self.exp.Select) and self._rows_settled(select):
            keys = sorted(self._write(key) for key in node.expressions)
            return self._write_plain(node, expressions="[" + " ".join(keys) + "]")
        return self._write_plain(node)

    def _write_paren(self, node: Any) -> str:
        inside, around = node.this, node.parent
        content, context = type(inside).__name__, type(around).__name__
        if context in ("Ordered", "Group") and content in ("Literal", "Column", "Paren"):
            return self._write_plain(node)
        atom = content in _ATOMS - {"Subquery"} or content in _AGGREGATES or content == "Paren"
        logical = context in ("And", "Or", "Not", "Where", "Having", "Paren", "If") and content in _PREDICATES
        logical = logical or (context == "Join" and node.arg_key == "on" and content in _PREDICATES)
        arithmetic = content in _ARITHMETIC and (
            context in _COMPARISONS | _ARITHMETIC | _AGGREGATES
            or context in ("Select", "Alias", "Ordered", "Paren", "Round", "Abs")
        )
        return self._write(inside) if atom or logical or arithmetic else self._write_plain(node)

    def _conjunction(self, node: Any, kind: str = "And") -> list[str]:
        """What is joined by AND (or OR) at the top of `node`."""
        parts: list[str] = []
        waiting = [node]
        while waiting:
            node = waiting.pop()
            bare = node
            while type(bare) is self.exp.Paren and id(bare) not in self.written:
                bare = bare.this
            if type(bare).__name__ == kind:
                waiting += [bare.this, bare.expression]
            elif kind == "And" and self._expandable(bare):
                value = bare.this
                parts.append(self._comparison("LTE", bare.args["low"], value))
                parts.append(self._comparison("LTE", value, bare.args["high"]))
            else:
                parts.append(self._write(node))
        return parts

    def _write_and(self, node: Any) -> str:
        return "(And " + " ".join(sorted(self._conjunction(node))) + ")"

    def _write_or(self, node: Any) -> str:
        return "(Or " + " ".join(sorted(self._conjunction(node, "Or"))) + ")"

    def _expandable(self, node: Any) -> bool:
        if type(node) is not self.exp.Between or node.args.get("symmetric") or self.dialect not in _EXPAND_BETWEEN:
            return False
        return type(node.this) is self.exp.Column and all(self._simple(node.args[side]) for side in ("low", "high"))

    def _write_between(self, node: Any) -> str:
        return self._write_and(node) if self._expandable(node) else self._write_plain(node)

    def _simple(self, node: Any) -> bool:
        """An operand that ends where the parser says, whatever operators a dialect knows, and can be moved."""
        kind = type(node).__name__
        if kind in _ARITHMETIC:
            return self._simple(node.this) and self._simple(node.expression)
        if kind in ("Neg", "Paren"):
            return self._simple(node.this)
        return kind in _ATOMS or isinstance(node, self.exp.Func)

    def _comparison(self, kind: str, left: Any, right: Any) -> str:
        """`a > b` as `b < a`, `b = a` as `a = b`."""
        first, second = self._write(left), self._write(right)
        both = left.find(self.exp.Column, self.exp.Subquery) and right.find(self.exp.Column, self.exp.Subquery)
        # Two columns of different COLLATE: SQLite compares by that of the left one.
        if self._simple(left) and self._simple(right) and not (both and self.collated and self.dialect == "sqlite"):
            if kind in _FLIPPED:
                kind, first, second = _FLIPPED[kind], second, first
            elif kind in ("EQ", "NEQ") and second < first:
                first, second = second, first
        return f"({kind} {first} {second})"

    def _write_eq(self, node: Any) -> str:
        return self._comparison("EQ", node.this, node.expression)

    def _write_neq(self, node: Any) -> str:
        return self._comparison("NEQ", node.this, node.expression)

    def _write_gt(self, node: Any) -> str:
        return self._comparison("GT", node.this, node.expression)

    def _write_gte(self, node: Any) -> str:
        return self._comparison("GTE", node.this, node.expression)

    def _write_lt(self, node: Any) -> str:
        return self._comparison("LT", node.this, node.expression)

    def _write_lte(self, node: Any) -> str:
        return self._comparison("LTE", node.this, node.expression)

    def _write_not(self, node: Any) -> str:
        inside = node.this
        while type(inside) is self.exp.Paren:
            inside = inside.this
        if type(inside) is self.exp.EQ and self._simple(inside.this) and self._simple(inside.expression):
            return self._comparison("NEQ", inside.this, inside.expression)
        if type(inside) is self.exp.NEQ and self._simple(inside.this) and self._simple(inside.expression):
            return self._comparison("EQ", inside.this, inside.expression)
        return self._write_plain(node)

    def _write_in(self, node: Any) -> str:
        listed = node.args.get("expressions")
        if not listed:
            return self._write_plain(node)
        return self._write_plain(node, expressions="[" + " ".join(sorted(map(self._write, listed))) + "]")

    def _write_mul(self, node: Any) -> str:
        return self._commuting(node)

    def _write_add(self, node: Any) -> str:
        return self._commuting(node) if self.dialect in _PLUS_COMMUTES else self._write_plain(node)

    def _commuting(self, node: Any) -> str:
        """Two operands either way round; three keep their grouping, as sums of floats depend on it."""
        if not (self._simple(node.this) and self._simple(node.expression)):
            return self._write_plain(node)
        first, second = sorted((self._write(node.this), self._write(node.expression)))
        return f"({type(node).__name__} {first} {second})"

    def _write_count(self, node: Any) -> str:
        inside = node.this
        if isinstance(inside, self.exp.Literal) and not inside.is_string:
            return self._write_plain(node, this=self._write(self.exp.Star()))
        return self._write_plain(node)


_ALWAYS_SPECIAL = frozenset({"Identifier", "Literal", "Column", "Table", "TableAlias"})


def _text(text: str) -> str:
    """`text` in quotes that nothing in it can end."""
    import json

    return json.dumps(text)
