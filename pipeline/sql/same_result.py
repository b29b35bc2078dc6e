"""Whether a candidate query gives what the gold query gives.

The rules are those of Spider's execution accuracy, as its test-suite evaluation has them (Zhong, Yu and Klein 2020,
"Semantic Evaluation for Text-to-SQL with Distilled Test Suites", arXiv 2010.02840; github.com/taoyds/
test-suite-sql-eval): rows are a multiset, a sequence where the gold query ends in ORDER BY; names of columns mean
nothing and their order neither. Beyond them, since the answer decides whether a candidate may be called worse:
numbers have a tolerance, rows that ORDER BY leaves tied may come in any order and a LIMIT may cut a tie anywhere, and
what can't be decided counts as the same.
"""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pipeline.refusal import Sentence
from pipeline.sql.limits import setting
from pipeline.sql.normal_form import Examined, examined, normalised
from pipeline.sql.parse_sql import ParsedSql, dialect_named, parse
from pipeline.sql.run_query import DATABASE, Cell, QueryResult, QueryRunner, shared_runner
from pipeline.sql.schema import Schema

Verdict = Literal[
    "same_text", "same_canonical", "same_result", "different_result", "gold_fails", "candidate_fails",
    "candidate_refused", "not_run",
]  # fmt: skip
EQUAL = frozenset({"same_text", "same_canonical", "same_result"})


@dataclass(frozen=True)
class Comparison:
    """verdict: the strongest thing that is known. reason: why something failed, was refused or not run.

    both_empty: the results are the same because both have no rows, which says little. in_doubt: they count as the same
    because it couldn't be decided (both longer than the limit, too many orders of columns)."""

    verdict: Verdict
    reason: Sentence | None = None
    both_empty: bool = False
    in_doubt: bool = False


# --- cells and rows ----------------------------------------------------------------------------------------------

# A number written out, as printf and ROUND give it; `007` and `1e5` are codes.
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,30})?", re.ASCII)
Key = tuple[int, Any]
Row = tuple[Key, ...]
_NULL, _WHOLE, _FRACTION, _TEXT, _BYTES = range(5)


def cell_key(cell: Cell) -> Key:
    """A cell as it is compared: 3, 3.0 and '3.00' are one, bytes that are text are text."""
    if cell is None:
        return (_NULL, None)
    if isinstance(cell, str) and _DECIMAL.fullmatch(cell):
        cell = float(cell) if "." in cell else int(cell)
    if isinstance(cell, float):
        return (_WHOLE, int(cell)) if cell.is_integer() and abs(cell) < 2**63 else (_FRACTION, cell)
    if isinstance(cell, int):
        return (_WHOLE, cell)
    if isinstance(cell, bytes):
        try:
            return (_TEXT, cell.decode("utf-8"))
        except UnicodeDecodeError:
            return (_BYTES, cell)
    return (_TEXT, cell)


def _close(a: Key, b: Key) -> bool:
    if a == b:
        return True
    if _FRACTION not in (a[0], b[0]) or not {a[0], b[0]} <= {_WHOLE, _FRACTION}:
        return False  # whole numbers are counts and ids: 10,000,001 is not 10,000,002
    return math.isclose(a[1], b[1], rel_tol=setting("relative_tolerance"), abs_tol=setting("absolute_tolerance"))


def _rows_close(a: Row, b: Row) -> bool:
    return all(map(_close, a, b))


_MOST_COMPARISONS = 2_000_000  # of rows, about a second


def _matched(part: Sequence[Row], whole: Sequence[Row]) -> bool | None:
    """Whether every row of `part` is another row of `whole`; None when that takes too long to say."""
    left, right = Counter(part), Counter(whole)
    missing = list((left - right).elements())
    if not missing:
        return True
    spare = list((right - left).elements())
    if len(spare) < len(missing):
        return False

    def kind(row: Row) -> tuple[Any, ...]:  # what has to be equal exactly
        return tuple("#" if cell[0] in (_WHOLE, _FRACTION) else cell for cell in row)

    groups: dict[tuple[Any, ...], tuple[list[Row], list[Row]]] = {}
    for place, rows in enumerate((missing, spare)):
        for row in rows:
            groups.setdefault(kind(row), ([], []))[place].append(row)
    comparisons = 0
    for wanted, offered in groups.values():
        if len(offered) < len(wanted):
            return False
        if not wanted:
            continue
        numbers = [i for i, cell in enumerate(wanted[0]) if cell[0] in (_WHOLE, _FRACTION)]
        if not numbers:
            return False
        by = max(numbers, key=lambda i: len({row[i][1] for row in offered}))
        offered.sort(key=lambda row: row[by][1])
        values = [row[by][1] for row in offered]
        used = [False] * len(offered)
        for row in sorted(wanted, key=lambda row: row[by][1]):
            value = row[by][1]
            slack = abs(value) * 2 * setting("relative_tolerance") + setting("absolute_tolerance")
            place = bisect_left(values, value - slack)
            while place < len(values) and values[place] <= value + slack:
                comparisons += 1
                if comparisons > _MOST_COMPARISONS:
                    return None
                if not used[place] and _rows_close(row, offered[place]):
                    used[place] = True
                    break
                place += 1
            else:
                return False
    return True


def _same_multiset(a: Sequence[Row], b: Sequence[Row]) -> bool | None:
    return _matched(a, b) if len(a) == len(b) else False


class _Undecided(Exception):
    """Too many orders of columns to try."""


def _orders_of_columns(gold: Sequence[Row], other: Sequence[Row]) -> Iterator[tuple[int, ...]]:
    """Orders of the columns of `other` in which each one holds what that of `gold` holds; as they are first. Raises
    _Undecided after too many."""
    width = len(gold[0])
    yield tuple(range(width))
    ours = [[(row[i],) for row in gold] for i in range(width)]
    theirs = [[(row[i],) for row in other] for i in range(width)]
    if width > 40:
        return
    fits = [[j for j in range(width) if _same_multiset(a, theirs[j]) is not False] for a in ours]
    if not all(fits):
        return
    most = max(10, min(int(setting("permutations")), 3_000_000 // (len(gold) * width)))
    places = sorted(range(width), key=lambda i: len(fits[i]))
    chosen: dict[int, int] = {}
    tried = steps = 0

    def search(depth: int) -> Iterator[tuple[int, ...]]:
        nonlocal tried, steps
        if depth == width:
            tried += 1
            if tried > most:
                raise _Undecided
            yield tuple(chosen[i] for i in range(width))
            return
        for j in fits[places[depth]]:
            steps += 1
            if steps > 200_000:
                raise _Undecided
            if j not in chosen.values():
                chosen[places[depth]] = j
                yield from search(depth + 1)
                del chosen[places[depth]]

    yield from search(0)


# --- the gold query ----------------------------------------------------------------------------------------------


@dataclass
class _Gold:
    """A gold query that was run. rows: as compared. ordered, limited: of its outermost SELECT. groups: all rows without
    the LIMIT, those that ORDER BY ties together; None when they can't be got; only asked for when needed."""

    parsed: ParsedSql
    result: QueryResult
    rows: list[Row]
    ordered: bool = False
    limited: bool = False
    groups: list[list[Row]] | None = None
    asked: bool = False


def _outer(tree: Any) -> Any:
    from sqlglot import exp

    while type(tree) is exp.Subquery:
        tree = tree.this
    return tree


def _with_keys(tree: Any, columns: Sequence[str]) -> tuple[str, list[int]] | None:
    """The query without its LIMIT and with what it sorts by as further columns: (SQL, places of the keys)."""
    from sqlglot import exp

    tree = _outer(tree).copy()
    if tree.args.get("offset") is not None:
        return None
    tree.set("limit", None)
    order = tree.args.get("order")
    keys: list[int] = []
    added: list[Any] = []
    names = [name.lower() for name in columns]
    for ordered in order.expressions if order is not None else []:
        key = ordered.this
        if isinstance(key, exp.Literal) and not key.is_string and key.this.isdecimal():
            keys.append(int(key.this) - 1)
        elif isinstance(key, exp.Column) and not key.args.get("table") and names.count(key.name.lower()) == 1:
            keys.append(names.index(key.name.lower()))
        else:
            keys.append(len(columns) + len(added))
            added.append(key.copy())
    if added:
        if not isinstance(tree, exp.Select) or tree.args.get("distinct") is not None:
            return None
        for number, key in enumerate(added):
            tree.append("expressions", exp.alias_(key, f"sort_key_{number}", quoted=True))
    return tree.sql(dialect="sqlite", comments=False), keys


def _groups(gold: _Gold, database: Path, runner: QueryRunner) -> list[list[Row]] | None:
    """Rows of the gold query in groups that its ORDER BY leaves tied."""
    if gold.asked:
        return gold.groups
    gold.asked = True
    if gold.parsed.tree is None:
        return None
    try:
        asked = _with_keys(gold.parsed.tree, gold.result.columns)
    except Exception:  # the writer of sqlglot is a large program: some trees break it
        return None
    if asked is None:
        return None
    result = runner.run(database, asked[0])
    width = len(gold.result.columns)
    if result.problem is not None or any(not 0 <= key < len(result.columns) for key in asked[1]):
        return None
    groups: list[list[Row]] = []
    last: Any = None
    for row in result.rows:
        cells = tuple(map(cell_key, row))
        key = tuple(row[i] for i in asked[1])
        if not groups or key != last:
            groups.append([])
            last = key
        groups[-1].append(cells[:width])
    if result.truncated and groups:
        groups.pop()
    if _in_groups(gold.rows, groups):  # else the rewritten query isn't the same one
        gold.groups = groups
    return gold.groups


def _in_groups(rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> bool | None:
    """Whether `rows` are a beginning of the groups, each group in any order."""
    place = 0
    for group in groups:
        if place >= len(rows):
            break
        piece = rows[place : place + len(group)]
        decided = _matched(piece, group)
        if decided is not True:
            return decided
        place += len(piece)
    return place >= len(rows)


# --- comparing ---------------------------------------------------------------------------------------------------


class SqlComparer:
    """Compares queries on SQLite files; keeps the results of gold queries and the schemas. Safe for several threads."""

    def __init__(self, runner: QueryRunner | None = None) -> None:
        self.runner = runner or shared_runner()
        self._golds: OrderedDict[tuple[Any, ...], _Gold] = OrderedDict()
        self._cells = 0
        self._schemas: OrderedDict[tuple[Any, ...], Schema | None] = OrderedDict()
        self._lock = threading.RLock()

    def schema(self, database: str | Path) -> Schema | None:
        """Tables and columns of a file as it is now, None where it can't be read."""
        key = _state(database)
        with self._lock:
            if key not in self._schemas:
                self._schemas[key] = self.runner.schema(database)
                while len(self._schemas) > setting("cached_results"):
                    self._schemas.popitem(last=False)
            return self._schemas[key]

    def compare(self, gold: str, candidate: str, database: str | Path | None, dialect: str = "sqlite") -> Comparison:
        """Compare two statements, without fences or prose. database: a SQLite file, None: nothing is run."""
        dialect = dialect_named(dialect)
        if normalised(gold, dialect) == normalised(candidate, dialect):
            return Comparison("same_text")
        schema = self.schema(database) if database is not None else None
        right, other = examined(gold, dialect, schema), examined(candidate, dialect, schema)
        if right.parses and other.parses and right.form == other.form:
            return Comparison("same_canonical")
        if right.parses and not right.read_only:
            return Comparison("gold_fails", Sentence("sql_run_not_a_query", {"detail": ""}, "candidates"))
        if why_refused(other) is not None:
            return Comparison("candidate_refused", why_refused(other))
        if database is None:
            return Comparison("not_run", Sentence("sql_no_database", {}, "candidates"))
        known = self._gold(gold, dialect, Path(database))
        if known.result.problem is not None:
            return Comparison("not_run" if known.result.problem in DATABASE else "gold_fails", known.result.sentence)
        if known.result.by_chance:
            return Comparison("not_run", Sentence("sql_by_chance", {}, "candidates"))
        result = self.runner.run(database, candidate)
        if result.problem is not None:
            if result.problem in DATABASE:
                return Comparison("not_run", result.sentence)
            return Comparison("candidate_refused" if result.refused else "candidate_fails", result.sentence)
        return self._compare_results(known, result, Path(database))

    def runs(self, sql: str, database: str | Path, dialect: str = "sqlite") -> tuple[bool | None, Sentence | None]:
        """Whether a gold statement runs, and why it doesn't; None where the file is at fault."""
        result = self._gold(sql, dialect, Path(database)).result
        return (None if result.problem in DATABASE else result.problem is None), result.sentence

    def _gold(self, sql: str, dialect: str, database: Path) -> _Gold:
        key = (_state(database), sql, dialect)
        with self._lock:
            if key in self._golds:
                self._golds.move_to_end(key)
                return self._golds[key]
        result = self.runner.run(database, sql)
        parsed = parse(sql, dialect)
        gold = _Gold(parsed, result, [tuple(map(cell_key, row)) for row in result.rows])
        if parsed.tree is not None:
            outer = _outer(parsed.tree)
            gold.ordered = outer.args.get("order") is not None
            gold.limited = outer.args.get("limit") is not None
        else:
            # SQLite read what sqlglot doesn't: when in doubt the order means nothing.
            gold.ordered = False
        if result.problem in DATABASE or result.problem == "crashed":
            return gold  # another time it may be read
        with self._lock:
            self._golds[key] = gold
            self._cells += _cells(gold)
            while len(self._golds) > setting("cached_results") or (
                self._cells > setting("cached_cells") and len(self._golds) > 1
            ):
                self._cells -= _cells(self._golds.popitem(last=False)[1])
        return gold

    def _compare_results(self, gold: _Gold, result: QueryResult, database: Path) -> Comparison:
        different = Comparison("different_result")
        if len(gold.result.columns) != len(result.columns):
            return different
        if gold.result.truncated or result.truncated:
            both = gold.result.truncated and result.truncated
            return Comparison("same_result", in_doubt=True) if both else different
        if len(gold.rows) != len(result.rows):
            return different
        if not gold.rows:
            return Comparison("same_result", both_empty=True)
        rows = [tuple(map(cell_key, row)) for row in result.rows]
        try:
            for order in _orders_of_columns(gold.rows, rows):
                turned = [tuple(row[i] for i in order) for row in rows]
                same = self._same_rows(gold, turned, database)
                if same is None:
                    return Comparison("same_result", in_doubt=True)
                if same:
                    return Comparison("same_result")
        except _Undecided:
            return Comparison("same_result", in_doubt=True)
        if gold.limited and (groups := _groups(gold, database, self.runner)) is not None:
            # Cut elsewhere within a tie, with the columns in another order.
            for order in _column_rotations(groups, rows):
                if _in_groups([tuple(row[i] for i in order) for row in rows], groups):
                    return Comparison("same_result")
        return different

    def _same_rows(self, gold: _Gold, rows: list[Row], database: Path) -> bool | None:
        """Whether `rows` are a result of the gold query too; None: can't be said."""
        same = _same_multiset(gold.rows, rows)
        if same and not gold.ordered:
            return True
        if same is None:
            return None
        if gold.ordered and all(map(_rows_close, gold.rows, rows)):
            return True
        if not (gold.ordered or gold.limited):
            return False
        if not same and not gold.limited:
            return False
        groups = _groups(gold, database, self.runner)
        if groups is None:
            return None if same else False
        return _in_groups(rows, groups)


def _column_rotations(groups: Sequence[Sequence[Row]], rows: Sequence[Row]) -> Iterator[tuple[int, ...]]:
    """Orders of columns for a result cut within a tie, where the columns of both hold different rows: those in which
    every cell of `rows` occurs in the column, for few columns only."""
    from itertools import permutations

    width = len(rows[0])
    if not 1 < width <= 5:
        return
    held = [{row[i] for group in groups for row in group} for i in range(width)]
    for order in permutations(range(width)):
        if all(row[j] in held[i] for row in rows for i, j in enumerate(order)):
            yield order


def _cells(gold: _Gold) -> int:
    return len(gold.rows) * max(1, len(gold.result.columns)) + 1


def _state(database: str | Path) -> tuple[Any, ...]:
    """The file as it is now: what is remembered of it ends when it changes."""
    state: list[Any] = [str(database)]
    for name in (str(database), f"{database}-wal"):
        try:
            about = Path(name).stat()
            state += [about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size]
        except (OSError, ValueError):
            state.append(None)
    return tuple(state)


def why_refused(parsed: Examined) -> Sentence | None:
    """Why a statement isn't even tried: several in one, or no query."""
    if parsed.problem is not None and parsed.problem.entry in ("sql_several_statements", "sql_nul"):
        return parsed.problem
    if parsed.parses and not parsed.read_only:
        return Sentence("sql_run_not_a_query", {"detail": ""}, "candidates")
    return None


@cache
def shared_comparer() -> SqlComparer:
    """One for the whole program."""
    return SqlComparer()


def compare(gold: str, candidate: str, database: str | Path | None, dialect: str = "sqlite") -> Comparison:
    """`SqlComparer.compare` with what the whole program shares."""
    return shared_comparer().compare(gold, candidate, database, dialect)
