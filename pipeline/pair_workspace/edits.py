"""Edits as revisions, with undo and redo for each editor.

Every action leaves on each of its rows one revision, and the row says which action's result it holds: `standing`. An
undo gives a row the state before its action back only where that action still stands, so it never touches what somebody
did later; a redo acts where the state from before stands again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from pipeline.pair_workspace.import_pairs import now
from pipeline.pair_workspace.outcomes import Action, Conflict, Held, Revision, Saved, Undone
from pipeline.pair_workspace.read_rows import held, pair_of_content, row_of, timestamp
from pipeline.pair_workspace.stored_pair import (
    CONTENT_COLUMNS,
    STATUSES,
    clean,
    content_columns,
    parts_changed,
    strategy_of,
)
from pipeline.pairs.pair import Pair, Status

_EDITOR_CHARS = 200


def editor_name(editor: str) -> str:
    return clean(editor)[:_EDITOR_CHARS]


def begin_action(connection: sqlite3.Connection, editor: str, kind: Action) -> int:
    """A new action of this editor, after which there is nothing to redo."""
    connection.execute("UPDATE actions SET state = 'spent' WHERE editor = ? AND state = 'undone'", (editor,))
    return _add_action(connection, editor, kind, "done")


def _add_action(connection: sqlite3.Connection, editor: str, kind: Action, state: str) -> int:
    added = connection.execute(
        "INSERT INTO actions(editor, kind, at, state, rows) VALUES (?, ?, ?, ?, 0)", (editor, kind, now(), state)
    )
    assert added.lastrowid is not None
    return added.lastrowid


def add_contents(connection: sqlite3.Connection, pairs: Sequence[Pair]) -> range:
    """New contents, their ids."""
    (first,) = connection.execute("SELECT coalesce(max(id), -1) + 1 FROM contents").fetchone()
    ids = range(first, first + len(pairs))
    strategies = {name: _strategy(connection, name) for name in {strategy_of(pair) for pair in pairs}}
    connection.executemany(
        f"INSERT INTO contents(id, {', '.join(CONTENT_COLUMNS)}) VALUES (?, {', '.join('?' * len(CONTENT_COLUMNS))})",
        ((n, *content_columns(pair, strategies[strategy_of(pair)])) for n, pair in zip(ids, pairs, strict=True)),
    )
    return ids


def _strategy(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT OR IGNORE INTO strategies(name) VALUES (?)", (name,))
    return int(connection.execute("SELECT id FROM strategies WHERE name = ?", (name,)).fetchone()[0])


ADD_REVISION = "INSERT INTO revisions(position, revision, action, standing, content, status) VALUES (?, ?, ?, ?, ?, ?)"


def apply(connection: sqlite3.Connection, action: int, first: int = 0, last: int = 2**62) -> int:
    """Rows `first` to `last` become what the revisions of `action` say. Returns how many those are."""
    given = {"action": action, "first": first, "last": last}
    of_action = "FROM revisions v WHERE v.action = :action AND v.position BETWEEN :first AND :last"
    moved = connection.execute(
        "SELECT r.status, v.status, count(*) FROM revisions v CROSS JOIN rows r ON r.position = v.position"
        " WHERE v.action = :action AND v.position BETWEEN :first AND :last GROUP BY 1, 2",
        given,
    ).fetchall()
    for old, new, rows in moved:
        connection.execute("UPDATE status_counts SET rows = rows - ? WHERE status = ?", (rows, old))
        connection.execute("UPDATE status_counts SET rows = rows + ? WHERE status = ?", (rows, new))
    connection.execute(
        "UPDATE rows SET (revision, content, status, standing, action) ="
        " (SELECT v.revision, v.content, v.status, v.standing, v.action FROM revisions v"
        f" WHERE v.action = :action AND v.position = rows.position) WHERE position IN (SELECT v.position {of_action})",
        given,
    )
    connection.execute(
        "UPDATE rows SET (strategy, turns, score_chosen, score_rejected, prompt_chars, chosen_chars, rejected_chars) ="
        " (SELECT c.strategy, c.turns, c.score_chosen, c.score_rejected, length(c.prompt), length(c.chosen),"
        " length(c.rejected) FROM contents c WHERE c.id = rows.content)"
        f" WHERE position IN (SELECT v.position {of_action}"
        # a change of status leaves the content, which then need not be read
        " AND v.content IS NOT coalesce((SELECT b.content FROM revisions b WHERE b.position = v.position"
        " AND b.revision = v.revision - 1), v.position))",
        given,
    )
    rows = sum(int(n) for _, _, n in moved)
    connection.execute("UPDATE actions SET rows = rows + ? WHERE id = ?", (rows, action))
    return rows


# --- one row ---


def edit(
    connection: sqlite3.Connection,
    position: int,
    base_revision: int,
    editor: str,
    kind: Action,
    change: Callable[[Pair], Pair],
    status: Status | None,
) -> Saved | Conflict:
    """change: from a pair to the pair it becomes. status: None for `edited` where the pair differs."""
    row = row_of(connection, position)
    if row.revision != base_revision:
        return conflict(held(connection, position))
    before = pair_of_content(connection, row.content, position)
    after = change(before)
    differs = after != before
    new_status = STATUSES.index(status) if status is not None else STATUSES.index("edited") if differs else row.status
    if not differs and new_status == row.status:
        return Saved(position, row.revision, changed=False)
    editor = editor_name(editor)
    action = begin_action(connection, editor, kind)
    content = add_contents(connection, [after])[0] if differs else row.content
    connection.execute(ADD_REVISION, (position, row.revision + 1, action, action, content, new_status))
    apply(connection, action)
    return Saved(position, row.revision + 1)


def conflict(found: Held, left: int = 1) -> Conflict:
    return Conflict(found.position, found.revision, found.editor, found.changed_at, found.pair, left)


# --- undo and redo ---

# For each row `w` of action :a its revision `v`, and what the row held before it: a revision `b` or the import `i`.
_BEFORE = (
    " FROM revisions v CROSS JOIN rows w ON w.position = v.position"
    " LEFT JOIN revisions b ON b.position = v.position AND b.revision = v.revision - 1"
    " JOIN imported i ON i.position = v.position WHERE v.action = :a"
)
_STANDING_BEFORE = "coalesce(b.standing, 0)"


def undo(connection: sqlite3.Connection, editor: str) -> Undone | Conflict | None:
    editor = editor_name(editor)
    found = connection.execute(
        "SELECT id, kind, rows FROM actions WHERE editor = ? AND state = 'done' ORDER BY id DESC LIMIT 1", (editor,)
    ).fetchone()
    if found is None:
        return None
    state = f"{_STANDING_BEFORE}, coalesce(b.content, v.position), coalesce(b.status, i.status)"
    return _step(connection, editor, "undo", found, state, "w.standing = v.action", "undone")


def redo(connection: sqlite3.Connection, editor: str) -> Undone | Conflict | None:
    editor = editor_name(editor)
    found = connection.execute(
        "SELECT id, kind, rows FROM actions WHERE editor = ? AND state = 'undone' ORDER BY id LIMIT 1", (editor,)
    ).fetchone()
    if found is None:
        return None
    state = "v.action, v.content, v.status"
    return _step(connection, editor, "redo", found, state, f"w.standing = {_STANDING_BEFORE}", "done")


def _step(
    connection: sqlite3.Connection,
    editor: str,
    kind: Action,
    found: tuple[int, Action, int],
    state: str,
    where: str,
    becomes: str,
) -> Undone | Conflict:
    """One undo or redo. state: SQL of standing, content and status that each row gets; where: which rows get them."""
    action, done_kind, rows = found
    first = connection.execute(f"SELECT v.position{_BEFORE} AND {where} ORDER BY 1 LIMIT 1", {"a": action}).fetchone()
    if first is None:
        connection.execute("UPDATE actions SET state = 'spent' WHERE id = ?", (action,))
        (position,) = connection.execute(
            "SELECT position FROM revisions WHERE action = ? ORDER BY position LIMIT 1", (action,)
        ).fetchone()
        return conflict(held(connection, position), rows)
    step = _add_action(connection, editor, kind, "spent")
    connection.execute(
        f"INSERT INTO revisions(position, revision, action, standing, content, status)"
        f" SELECT v.position, w.revision + 1, :step, {state}{_BEFORE} AND {where}",
        {"a": action, "step": step},
    )
    changed = apply(connection, step)
    connection.execute("UPDATE actions SET state = ? WHERE id = ?", (becomes, action))
    return Undone(done_kind, changed, rows - changed, int(first[0]))


# --- history ---


def revisions(connection: sqlite3.Connection, position: int) -> list[Revision]:
    """The history of a row, the import first."""
    row_of(connection, position)
    (status,) = connection.execute("SELECT status FROM imported WHERE position = ?", (position,)).fetchone()
    (created,) = connection.execute("SELECT value FROM facts WHERE name = 'created'").fetchone()
    history = [Revision(0, timestamp(created), "", "import", (), STATUSES[status], 1)]
    content, pair = position, pair_of_content(connection, position, position)
    found = connection.execute(
        "SELECT v.revision, a.at, a.editor, a.kind, v.status, a.rows, v.content"
        " FROM revisions v JOIN actions a ON a.id = v.action WHERE v.position = ? ORDER BY v.revision",
        (position,),
    )
    for revision, at, editor, kind, status, rows, now_content in found:
        parts: tuple[str, ...] = ()
        if now_content != content:
            after = pair_of_content(connection, now_content, position)
            parts = parts_changed(pair, after)
            content, pair = now_content, after
        if STATUSES[status] != history[-1].status:
            parts = (*parts, "status")
        history.append(Revision(revision, timestamp(at), editor, kind, parts, STATUSES[status], rows))
    return history
