"""From a view to its rows: pages, counts, neighbours. Only columns are scanned; texts are read for what is shown."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pipeline.pair_workspace.outcomes import Counts, RowShown
from pipeline.pair_workspace.stored_pair import STATUSES, cell, clean, from_cell
from pipeline.pair_workspace.text_search import TextSearch, holds_condition
from pipeline.pair_workspace.view import COLUMNS, View
from pipeline.refusal import Refused

EXCERPT_CHARS = 160

_EXPRESSIONS = {
    "position": "r.position",
    **{name: f"r.{name}" for name in COLUMNS if name not in ("length_ratio", "similarity")},
    "length_ratio": "CAST(r.chosen_chars AS REAL) / r.rejected_chars",  # NULL for a division by zero
}
FLAGS_OF_ROW = (
    "(SELECT group_concat(finding) FROM (SELECT finding FROM flags WHERE position = r.position ORDER BY place))"
)


@dataclass(frozen=True)
class Selection:
    """Rows of a view as SQL. tables: what stands behind FROM; condition: what stands behind WHERE; values: for its
    places. ordered: expression sorted by."""

    tables: str
    condition: str
    values: list[Any]
    ordered: str
    descending: bool
    position: str

    @property
    def order(self) -> str:
        """Rows without the value last, equal ones as they are read."""
        way = "DESC" if self.descending else "ASC"
        if self.ordered == "r.position":
            return f"{self.position} {way}"
        return f"{self.ordered} IS NULL, {self.ordered} {way}, {self.position}"

    def and_(self, condition: str, *values: Any) -> Selection:
        return replace(self, condition=f"{self.condition} AND {condition}", values=[*self.values, *values])

    def query(self, what: str) -> str:
        return f"SELECT {what} FROM {self.tables} WHERE {self.condition}"


def column_expression(connection: sqlite3.Connection, column: str) -> str:
    """The column of a row `r` in SQL. Raises Refused for a column there isn't."""
    if column in _EXPRESSIONS:
        return _EXPRESSIONS[column]
    found = connection.execute("SELECT id FROM measures WHERE name = ?", (clean(column),)).fetchone()
    if found is not None:
        return f"(SELECT value FROM measured WHERE measure = {int(found[0])} AND content = r.content)"
    if column in COLUMNS:
        return "NULL"
    raise Refused("workspace_column_unknown", column=column)


def selection(connection: sqlite3.Connection, view: View, search: TextSearch | None) -> Selection:
    """search: where rows that hold the text are looked up; None reads the texts on the way, which is quicker for the
    first few rows."""
    tables, position, values = "rows r", "r.position", list[Any]()
    conditions: list[str] = []
    if view.finding is not None:
        tables, position = "flags f CROSS JOIN rows r ON r.position = f.position", "f.position"
        conditions.append("f.finding = (SELECT id FROM findings WHERE name = ?)")
        values.append(cell(view.finding))
    if view.status is not None:
        conditions.append("r.status = ?")
        values.append(STATUSES.index(view.status))
    if view.strategy is not None:
        conditions.append("r.strategy = (SELECT id FROM strategies WHERE name = ?)")
        values.append(clean(view.strategy))
    for column, (low, high) in view.ranges.items():
        limits = [(sign, end) for sign, end in ((">=", low), ("<=", high)) if end is not None and not math.isnan(end)]
        expression = column_expression(connection, column)
        if len(limits) == 2:
            conditions.append(f"{expression} BETWEEN ? AND ?")
        elif limits:
            conditions.append(f"{expression} {limits[0][0]} ?")
        else:
            conditions.append(f"{expression} IS NOT NULL")
        values += [float(end) for _, end in limits]
    if view.search:
        if search is None:
            tables += " CROSS JOIN contents c ON c.id = r.content"
            condition, patterns = holds_condition(view.search, view.side)
            conditions.append(f"({condition})")
            values += patterns
        else:
            conditions.append("r.position IN (SELECT value FROM json_each(?))")
            values.append(_json(search.positions(connection, view.search, view.side)))
    ordered = column_expression(connection, view.sort)
    condition = " AND ".join(conditions) or "1"
    return Selection(tables, condition, values, ordered, view.descending, position)


def _json(positions: Any) -> str:
    return json.dumps(list(positions), separators=(",", ":"))


def counts(connection: sqlite3.Connection) -> Counts:
    found = dict(connection.execute("SELECT status, rows FROM status_counts").fetchall())
    by_status = {name: int(found.get(n, 0)) for n, name in enumerate(STATUSES)}
    return Counts(sum(by_status.values()), **by_status)


def _filtered(view: View) -> dict[str, Any]:
    """What of the view leaves rows out."""
    given = {"search": view.search or None, "finding": view.finding, "strategy": view.strategy, "status": view.status,
             "ranges": view.ranges or None}  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def count(connection: sqlite3.Connection, view: View, search: TextSearch) -> int:
    filtered = _filtered(view)
    if not filtered:
        return counts(connection).total
    if set(filtered) == {"status"}:
        return int(getattr(counts(connection), filtered["status"]))
    if set(filtered) == {"search"}:
        return len(search.positions(connection, view.search, view.side))
    if set(filtered) == {"finding"}:
        row = connection.execute("SELECT rows FROM findings WHERE name = ?", (cell(filtered["finding"]),)).fetchone()
        return int(row[0]) if row else 0
    rows = selection(connection, view, search)
    return int(connection.execute(rows.query("count(*)"), rows.values).fetchone()[0])


def positions(connection: sqlite3.Connection, view: View, search: TextSearch, offset: int, limit: int) -> list[int]:
    """Rows `offset` to `offset + limit` of the view."""
    offset, limit = max(0, offset), max(0, limit)
    filtered = _filtered(view)
    if view.sort == "position" and not filtered:
        total = counts(connection).total
        found = range(total)[::-1] if view.descending else range(total)
        return list(found[offset : offset + limit])
    known = search.knows(view.search, view.side)
    if view.sort == "position" and set(filtered) == {"search"} and known:
        held = search.positions(connection, view.search, view.side)
        return list((held[::-1] if view.descending else held)[offset : offset + limit])
    rows = selection(connection, view, search if known or view.sort != "position" else None)
    query = f"{rows.query(rows.position)} ORDER BY {rows.order} LIMIT ? OFFSET ?"
    return [int(p) for (p,) in connection.execute(query, [*rows.values, limit, offset])]


def page(connection: sqlite3.Connection, view: View, search: TextSearch, offset: int, limit: int) -> list[RowShown]:
    wanted = positions(connection, view, search, offset, limit)
    names = finding_names(connection)
    strategies = "(SELECT name FROM strategies WHERE id = r.strategy)"
    excerpts = ", ".join(f"substr(c.{side}, 1, {EXCERPT_CHARS})" for side in ("prompt", "chosen", "rejected"))
    found = connection.execute(
        f"SELECT r.position, {excerpts}, r.prompt_chars, r.chosen_chars, r.rejected_chars, r.score_chosen,"
        f" r.score_rejected, r.status, {strategies}, {FLAGS_OF_ROW}, r.revision, r.turns"
        " FROM rows r CROSS JOIN contents c ON c.id = r.content WHERE r.position IN (SELECT value FROM json_each(?))",
        (_json(wanted),),
    )
    shown = {}
    for position, *texts_and_numbers, status, strategy, flags, revision, turns in found:
        named = (STATUSES[status], strategy, flags_of(flags, names), revision, bool(turns))
        values: tuple[Any, ...] = (position, *texts_and_numbers, *named)
        shown[position] = RowShown(*values)
    return [shown[p] for p in wanted]


def finding_names(connection: sqlite3.Connection) -> dict[str, str]:
    """By their number, as group_concat writes it."""
    return {str(n): from_cell(name) for n, name in connection.execute("SELECT id, name FROM findings")}


def flags_of(joined: str | None, names: dict[str, str]) -> tuple[str, ...]:
    """joined: FLAGS_OF_ROW."""
    return tuple(names[n] for n in joined.split(",")) if joined else ()


def neighbour(
    connection: sqlite3.Connection, view: View, search: TextSearch, position: int, *, back: bool
) -> int | None:
    """The row after, or before, this one in the order of the view."""
    step_down = view.descending is not back
    if view.sort == "position" and not _filtered(view):
        found = position - 1 if step_down else position + 1
        return found if 0 <= found < counts(connection).total else None
    known = search.knows(view.search, view.side)
    rows = selection(connection, view, search if known or view.sort != "position" else None)
    if view.sort == "position":
        sign, way = ("<", "DESC") if step_down else (">", "ASC")
        beyond, order = rows.and_(f"{rows.position} {sign} ?", position), f"{rows.position} {way}"
    else:
        beyond, order = _beyond(connection, rows, position, back=back)
    row = connection.execute(f"{beyond.query(rows.position)} ORDER BY {order} LIMIT 1", beyond.values).fetchone()
    return int(row[0]) if row else None


def _beyond(connection: sqlite3.Connection, rows: Selection, position: int, *, back: bool) -> tuple[Selection, str]:
    """Rows after this one by the value sorted by, and the order in which the nearest comes first."""
    value, place = rows.ordered, rows.position
    row = connection.execute(f"SELECT {value} FROM rows r WHERE r.position = ?", (position,)).fetchone()
    here = row[0] if row else None
    sign = "<" if rows.descending is not back else ">"
    if back:
        way = "ASC" if rows.descending else "DESC"
        order = f"{value} IS NOT NULL, {value} {way}, {place} DESC"
        if here is None:
            return rows.and_(f"({value} IS NOT NULL OR {place} < ?)", position), order
        return rows.and_(f"({value} {sign} ? OR ({value} = ? AND {place} < ?))", here, here, position), order
    if here is None:
        return rows.and_(f"({value} IS NULL AND {place} > ?)", position), rows.order
    beyond = f"({value} {sign} ? OR ({value} = ? AND {place} > ?) OR {value} IS NULL)"
    return rows.and_(beyond, here, here, position), rows.order


def all_positions(connection: sqlite3.Connection, view: View, search: TextSearch) -> Iterator[int]:
    """Rows of the view as they are read, whatever its order."""
    rows = selection(connection, view, search)
    query = f"{rows.query(rows.position)} ORDER BY {rows.position}"
    return (int(p) for (p,) in connection.execute(query, rows.values))
