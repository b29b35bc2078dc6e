"""Whole rows: one as it is or was, or all of a view one after the other."""

from __future__ import annotations

import datetime
import json
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.pair_workspace.outcomes import Held
from pipeline.pair_workspace.select_rows import FLAGS_OF_ROW, finding_names, flags_of, selection
from pipeline.pair_workspace.stored_pair import CONTENT_COLUMNS, DISCARDED, IMPORTED_COLUMNS, Damaged, pair_from
from pipeline.pair_workspace.text_search import TextSearch
from pipeline.pair_workspace.view import View
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

CONTENT = ", ".join(f"c.{name}" for name in CONTENT_COLUMNS)
_WIDTH = len(CONTENT_COLUMNS)


class Row(NamedTuple):
    """What a row is now, in numbers."""

    revision: int
    content: int
    status: int
    standing: int


def timestamp(milliseconds: int) -> str:
    """ISO 8601 in UTC."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def row_of(connection: sqlite3.Connection, position: int) -> Row:
    """Raises Refused where there is no such row."""
    found = None
    if 0 <= position < 2**62:
        found = connection.execute(
            "SELECT revision, content, status, standing FROM rows WHERE position = ?", (position,)
        ).fetchone()
    if found is None:
        (rows,) = connection.execute("SELECT count(*) FROM rows").fetchone()
        raise Refused("workspace_no_row", row=position + 1, rows=rows)
    return Row(*found)


def pair_of_content(
    connection: sqlite3.Connection, content: int, position: int, status: int = 0, flags: tuple[str, ...] = ()
) -> Pair:
    found = connection.execute(
        f"SELECT {CONTENT}, {IMPORTED_COLUMNS} FROM contents c, imported i WHERE c.id = ? AND i.position = ?",
        (content, position),
    ).fetchone()
    if found is None:
        raise Damaged(f"content {content} of row {position}")
    return pair_from(found[:_WIDTH], found[_WIDTH:], status, flags)


def pairs_at(connection: sqlite3.Connection, positions: Sequence[int]) -> Iterator[Pair]:
    """In the order given, without flags."""
    found = connection.execute(
        f"SELECT {CONTENT}, {IMPORTED_COLUMNS}, r.status, NULL FROM json_each(?) j"
        " CROSS JOIN rows r ON r.position = j.value CROSS JOIN contents c ON c.id = r.content"
        " CROSS JOIN imported i ON i.position = r.position",
        (json.dumps(list(positions)),),
    )
    return (_pair(row, {}) for row in found)


def held(connection: sqlite3.Connection, position: int, revision: int | None = None) -> Held:
    """A row as it is, or was at `revision`. Raises Refused where there is none."""
    row = row_of(connection, position)
    number, content, status = row.revision, row.content, row.status
    (at,) = connection.execute("SELECT value FROM facts WHERE name = 'created'").fetchone()
    editor = ""
    if revision is not None and revision != number:
        number = revision
        if revision == 0:
            content = position
            (status,) = connection.execute("SELECT status FROM imported WHERE position = ?", (position,)).fetchone()
    if number > 0:
        found = connection.execute(
            "SELECT v.content, v.status, a.at, a.editor FROM revisions v JOIN actions a ON a.id = v.action"
            " WHERE v.position = ? AND v.revision = ?",
            (position, number),
        ).fetchone()
        if found is not None:
            content, status, at, editor = found
    if number < 0 or number > row.revision:
        raise Refused("workspace_no_revision", row=position + 1, revision=number, latest=row.revision)
    joined = connection.execute(f"SELECT {FLAGS_OF_ROW} FROM rows r WHERE r.position = ?", (position,)).fetchone()[0]
    flags = flags_of(joined, finding_names(connection))
    pair = pair_of_content(connection, content, position, status, flags)
    return Held(pair, number, position, timestamp(at), editor)


def stream(connection: sqlite3.Connection, view: View, search: TextSearch, *, discarded: bool) -> Iterator[Pair]:
    """Pairs of the view in its order."""
    names = finding_names(connection)
    rows = selection(connection, view, search if view.search else None)
    if not discarded and view.status != "discarded":
        rows = rows.and_("r.status <> ?", DISCARDED)
    what = f"SELECT {CONTENT}, {IMPORTED_COLUMNS}, r.status, {FLAGS_OF_ROW} FROM"
    parts = "CROSS JOIN contents c ON c.id = r.content CROSS JOIN imported i ON i.position = r.position WHERE"
    if view.sort == "position":
        query = f"{what} {rows.tables} {parts} {rows.condition} ORDER BY {rows.order}"
        yield from (_pair(row, names) for row in connection.execute(query, rows.values))
        return
    # sorted by anything else, SQLite would hold the texts of all rows at once
    in_order = connection.execute(f"{rows.query(rows.position)} ORDER BY {rows.order}", rows.values)
    for position in array("q", (p for (p,) in in_order)):
        (row,) = connection.execute(f"{what} rows r {parts} r.position = ?", (position,))
        yield _pair(row, names)


def _pair(row: tuple[Any, ...], names: dict[str, str]) -> Pair:
    return pair_from(row[:_WIDTH], row[_WIDTH:-2], row[-2], flags_of(row[-1], names))
