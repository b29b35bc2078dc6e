"""Texts that hold what is searched for: every text is read once, then only those that changed.

A plain scan, as an index of three-letter pieces (FTS5's trigram) doesn't pay. Measured on 100,000 rows of 400 Chinese
characters a side: the scan takes 0.4 s; the index 64 s to make and 2.4 times the file, and a word of two characters, as
most Chinese ones are, can't be looked up in it at all.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections import OrderedDict

from pipeline.pair_workspace.stored_pair import clean
from pipeline.pair_workspace.view import TEXT_SIDES, TextSide
from pipeline.refusal import Refused

_KEPT = 4  # searches whose rows are remembered
_MOST_PATTERN = 40_000  # bytes; SQLite refuses patterns of more than 50,000


def holds_condition(search: str, side: TextSide | None) -> tuple[str, list[str]]:
    """SQL that is true for a content `c` that holds `search` whatever the case, and its values."""
    if side is not None and side not in TEXT_SIDES:
        raise Refused("workspace_side_unknown", side=side, sides=", ".join(TEXT_SIDES))
    wanted = clean(search)
    # LIKE knows the case of ASCII alone: any character may stand for another letter with a case, and `holds` decides
    other = {c for c in wanted if not c.isascii() and c.lower() != c.upper()}
    pattern = "".join("_" if c in other else "\\" + c if c in "\\%_" else c for c in wanted)
    conditions, values = [], list[str]()
    likely = (
        len(pattern.encode()) <= _MOST_PATTERN and set(pattern) != {"_"} and all(len(c.lower()) == 1 for c in other)
    )
    for name in (side,) if side else TEXT_SIDES:
        parts = []
        if likely:
            parts.append(f"c.{name} LIKE ? ESCAPE '\\'")
            values.append(f"%{pattern}%")
        if other or not likely:
            parts.append(f"holds(c.{name}, ?)")
            values.append(wanted.lower())
        conditions.append(" AND ".join(parts))
    return " OR ".join(f"({one})" for one in conditions), values


def last_action(connection: sqlite3.Connection) -> int:
    """0 before the first."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM actions").fetchone()[0])


class TextSearch:
    """Rows that hold a text, for the searches made last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, TextSide | None], tuple[int, array[int]]] = OrderedDict()

    def knows(self, search: str, side: TextSide | None) -> bool:
        """Whether `positions` is quick."""
        with self._lock:
            return (search, side) in self._known

    def positions(self, connection: sqlite3.Connection, search: str, side: TextSide | None) -> array[int]:
        """In ascending order, as of the connection's transaction. The first time about 2 s a GB of text."""
        now = last_action(connection)
        with self._lock:
            known = self._known.get((search, side))
        if known is not None and known[0] == now:
            return known[1]
        condition, values = holds_condition(search, side)
        scan = f"SELECT r.position FROM rows r CROSS JOIN contents c ON c.id = r.content WHERE ({condition})"
        if known is None or known[0] > now:  # newer: another thread's, of a later moment
            found = array("q", (p for (p,) in connection.execute(f"{scan} ORDER BY r.position", values)))
        else:
            found = self._refreshed(connection, known, scan, values)
        with self._lock:
            newer = self._known.get((search, side))
            if newer is None or newer[0] <= now:
                self._known[search, side] = (now, found)
                self._known.move_to_end((search, side))
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def _refreshed(
        self, connection: sqlite3.Connection, known: tuple[int, array[int]], scan: str, values: list[str]
    ) -> array[int]:
        changed = {p for (p,) in connection.execute("SELECT position FROM revisions WHERE action > ?", (known[0],))}
        if not changed:
            return known[1]
        wanted = f"{scan} AND r.position IN (SELECT value FROM json_each(?))"
        now_in = [p for (p,) in connection.execute(wanted, [*values, json.dumps(list(changed))])]
        return array("q", sorted([*(p for p in known[1] if p not in changed), *now_in]))
