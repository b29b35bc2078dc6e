"""One action on all rows of a view: looked at beforehand, then done as a whole and undone as a whole.

What becomes of a row is decided by SQL where its texts are plain, so that the texts of rows that stay as they are never
leave the file; rows of turns are decided one by one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.pair_workspace.edits import ADD_REVISION, add_contents, apply, begin_action, editor_name
from pipeline.pair_workspace.outcomes import BulkDone, BulkPreview, Example
from pipeline.pair_workspace.read_rows import held, pair_of_content, pairs_at
from pipeline.pair_workspace.select_rows import all_positions
from pipeline.pair_workspace.stored_pair import (
    DISCARDED,
    STATUSES,
    clean,
    corrected,
    replaced,
    swapped,
)
from pipeline.pair_workspace.text_search import TextSearch
from pipeline.pair_workspace.view import TEXT_SIDES, TextSide, View
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

BulkAction = Literal["discard", "accept", "swap", "replace", "correct"]
CHUNK_ROWS = 1000  # between two looks at `cancel`
EXAMPLES = 5
_LEFT, _ALREADY, _CHANGES, _LOOK = range(4)


class Stopped(Exception):
    """Cancelled: the transaction has to be taken back."""


@dataclass(frozen=True)
class Plan:
    """What is to be done. decided: SQL of _LEFT, _ALREADY, _CHANGES or _LOOK for a row `r` with content `c`.

    values: for the places of `decided`. change: the pair that a pair becomes, None where it can't be done. status: of
    the rows changed.
    """

    action: BulkAction
    decided: str
    values: tuple[Any, ...]
    change: Callable[[Pair], Pair | None]
    status: int

    @property
    def of_texts(self) -> bool:
        return self.action not in ("discard", "accept")


def plan(view: View, action: BulkAction, find: str | None, put: str | None, side: TextSide | None) -> Plan:
    """Raises Refused for an empty `find`, or a replacement in no side."""
    if action == "discard":
        made = _of_status(action, DISCARDED)
    elif action == "accept":
        made = _of_status(action, STATUSES.index("accepted"))
    elif action == "swap":
        made = _swap()
    elif not find:
        raise Refused("workspace_find_empty")
    elif action == "correct":
        made = _correct(find, put or "")
    elif side in TEXT_SIDES:
        made = _replace(find, put or "", side)
    else:
        raise Refused("workspace_side_unknown", side=side or "-", sides=", ".join(TEXT_SIDES))
    if action != "discard" and view.status != "discarded":
        made = replace(made, decided=f"CASE WHEN r.status = {DISCARDED} THEN {_LEFT} ELSE {made.decided} END")
    return made


def _of_status(action: BulkAction, status: int) -> Plan:
    decided = f"CASE WHEN r.status = {status} THEN {_ALREADY} ELSE {_CHANGES} END"
    return Plan(action, decided, (), lambda pair: pair, status)


def _of_texts(action: BulkAction, cases: str, values: tuple[str, ...], change: Callable[[Pair], Pair | None]) -> Plan:
    """cases: of a row whose texts are plain."""
    decided = f"CASE WHEN c.exact IS NOT NULL THEN {_LOOK} {cases} END"
    return Plan(action, decided, values, change, STATUSES.index("edited"))


def _swap() -> Plan:
    same = "c.chosen IS c.rejected AND c.score_chosen IS c.score_rejected"
    cases = f"WHEN NOT ({same}) THEN {_CHANGES} WHEN c.source IS NULL THEN {_ALREADY} ELSE {_LOOK}"
    return _of_texts("swap", cases, (), swapped)


def _replace(find: str, put: str, side: TextSide) -> Plan:
    cases, values = _without(find, side)
    cases += f" ELSE {_ALREADY if find == put else _CHANGES}"
    return _of_texts("replace", cases, values, lambda pair: _replaced(pair, side, find, put))


def _correct(find: str, put: str) -> Plan:
    cases, values = _without(find, "rejected")
    if clean(put) == put:
        cases += f" WHEN c.chosen IS replace(c.rejected, ?, ?) THEN {_ALREADY}"
        values = (*values, clean(find), put)
    return _of_texts("correct", f"{cases} ELSE {_CHANGES}", values, lambda pair: corrected(pair, find, put))


def _without(find: str, side: TextSide) -> tuple[str, tuple[str, ...]]:
    """The case of a text without `find`, which a plain text is where `find` itself had to be cleaned."""
    if clean(find) != find:
        return f"WHEN ? IS NOT NULL THEN {_LEFT}", (clean(find),)
    return f"WHEN NOT coalesce(instr(c.{side}, ?), 0) THEN {_LEFT}", (find,)


def _replaced(pair: Pair, side: TextSide, find: str, put: str) -> Pair | None:
    """None without `find` in the side."""
    after = replaced(getattr(pair, side), find, put)
    return None if after is None else replace(pair, **{side: after})


def _outcome(plan: Plan, before: Pair) -> tuple[int, Pair]:
    after = plan.change(before)
    if after is None:
        return _LEFT, before
    if plan.of_texts and after == before:
        return _ALREADY, before
    return _CHANGES, after


def _decisions(
    connection: sqlite3.Connection, view: View, plan: Plan, search: TextSearch, cancel: threading.Event | None
) -> Iterator[list[tuple[int, int, int, int]]]:
    """(position, revision, content, what was decided) of all rows of the view, in chunks. Raises Stopped."""
    contents = " CROSS JOIN contents c ON c.id = r.content" if plan.of_texts else ""
    query = (
        f"SELECT r.position, r.revision, r.content, {plan.decided}"
        f" FROM json_each(?) j CROSS JOIN rows r ON r.position = j.value{contents}"
    )
    rows = array("q", all_positions(connection, view, search))
    for first in range(0, len(rows), CHUNK_ROWS):
        if cancel is not None and cancel.is_set():
            raise Stopped
        chunk = json.dumps(rows[first : first + CHUNK_ROWS].tolist())
        yield connection.execute(query, (*plan.values, chunk)).fetchall()


def preview(
    connection: sqlite3.Connection, view: View, plan: Plan, search: TextSearch, cancel: threading.Event | None
) -> BulkPreview:
    """What `bulk` would do; with `cancel` set, to the rows looked at so far."""
    counted: Counter[int] = Counter()
    examples: list[Example] = []
    with suppress(Stopped):
        for chunk in _decisions(connection, view, plan, search, cancel):
            for position, _, content, decided in chunk:
                if decided == _LOOK:
                    decided = _outcome(plan, pair_of_content(connection, content, position))[0]
                counted[decided] += 1
                if decided == _CHANGES and len(examples) < EXAMPLES:
                    before = held(connection, position).pair
                    after = _outcome(plan, before)[1]
                    examples.append(Example(position, before, replace(after, status=STATUSES[plan.status])))
    return BulkPreview(counted[_CHANGES], counted[_ALREADY], counted[_LEFT], tuple(examples))


def bulk(
    connection: sqlite3.Connection,
    view: View,
    plan: Plan,
    editor: str,
    search: TextSearch,
    progress: Callable[[int], None],
    cancel: threading.Event | None,
) -> BulkDone:
    """Raises Stopped once `cancel` is set: the transaction has to be taken back then."""
    counted: Counter[int] = Counter()
    action: int | None = None
    for chunk in _decisions(connection, view, plan, search, cancel):
        rows = [(position, revision, content) for position, revision, content, decided in chunk if decided >= _CHANGES]
        counted.update(decided for *_, decided in chunk if decided < _CHANGES)
        if plan.of_texts:
            rows = _changed(connection, plan, rows, counted)
        counted[_CHANGES] += len(rows)
        if rows:
            if action is None:
                action = begin_action(connection, editor_name(editor), plan.action)
            added = ((p, revision + 1, action, action, content, plan.status) for p, revision, content in rows)
            connection.executemany(ADD_REVISION, added)
            apply(connection, action, rows[0][0], rows[-1][0])
        progress(counted.total())
    return BulkDone(counted[_CHANGES], counted[_ALREADY], counted[_LEFT])


def _changed(
    connection: sqlite3.Connection, plan: Plan, rows: list[tuple[int, int, int]], counted: Counter[int]
) -> list[tuple[int, int, int]]:
    """Those of (position, revision, content) that change, with their new contents; the others are counted."""
    changed, after = [], []
    for (position, revision, _), before in zip(rows, pairs_at(connection, [row[0] for row in rows]), strict=True):
        outcome, pair = _outcome(plan, before)
        if outcome == _CHANGES:
            changed.append((position, revision))
            after.append(pair)
        else:
            counted[outcome] += 1
    contents = add_contents(connection, after)
    return [(position, revision, n) for (position, revision), n in zip(changed, contents, strict=True)]
