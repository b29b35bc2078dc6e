"""The tables of a workspace file, and which files are one.

Texts stand apart from what is filtered and sorted by, so that a scan over lengths or statuses touches a fiftieth of
the file. A text is never overwritten: an edit adds a content and a revision that names it, an undo adds a revision that
names the content before.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from functools import cache
from pathlib import Path

from pipeline.refusal import Refused, Sentence

APPLICATION_ID = int.from_bytes(b"DPOw")
VERSION = 1
"""Of the tables. One more for every change that a version before can't read."""

# Rows of 400 characters a side: with pages of 4 KiB a Chinese one fills a page alone, and the file is half as large
# again. https://www.sqlite.org/fileformat2.html#b_tree_pages
PAGE_BYTES = 16384
_USER_VERSION, _APPLICATION = 60, 68

TABLES = """
CREATE TABLE facts(name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- The content that a row was imported with has the row's position as its id.
CREATE TABLE contents(id INTEGER PRIMARY KEY, strategy INTEGER NOT NULL, turns INTEGER NOT NULL, score_chosen,
    score_rejected, prompt TEXT NOT NULL, chosen TEXT, rejected TEXT, system TEXT, exact BLOB, source BLOB);
CREATE TABLE imported(position INTEGER PRIMARY KEY, status INTEGER NOT NULL, line INTEGER NOT NULL,
    origin INTEGER NOT NULL, id, extra BLOB);
CREATE TABLE origins(id INTEGER PRIMARY KEY, name NOT NULL);
CREATE TABLE strategies(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- What a row is now. standing: the action whose result it holds, 0 the import; action: the one that wrote it, which
-- after an undo is another. From strategy on: of its content.
CREATE TABLE rows(position INTEGER PRIMARY KEY, revision INTEGER NOT NULL, content INTEGER NOT NULL,
    status INTEGER NOT NULL, standing INTEGER NOT NULL, action INTEGER NOT NULL, strategy INTEGER NOT NULL,
    turns INTEGER NOT NULL, score_chosen REAL, score_rejected REAL, prompt_chars INTEGER NOT NULL,
    chosen_chars INTEGER, rejected_chars INTEGER);
CREATE TABLE status_counts(status INTEGER PRIMARY KEY, rows INTEGER NOT NULL);

-- state: done, undone, or spent where it can be neither.
CREATE TABLE actions(id INTEGER PRIMARY KEY AUTOINCREMENT, editor TEXT NOT NULL, kind TEXT NOT NULL,
    at INTEGER NOT NULL, state TEXT NOT NULL, rows INTEGER NOT NULL);
CREATE INDEX actions_of_editor ON actions(editor, state, id);
CREATE TABLE revisions(position INTEGER NOT NULL, revision INTEGER NOT NULL, action INTEGER NOT NULL,
    standing INTEGER NOT NULL, content INTEGER NOT NULL, status INTEGER NOT NULL,
    PRIMARY KEY(position, revision)) WITHOUT ROWID;
CREATE INDEX revisions_of_action ON revisions(action, position);

CREATE TABLE findings(id INTEGER PRIMARY KEY, name NOT NULL UNIQUE, rows INTEGER NOT NULL);
CREATE TABLE flags(position INTEGER NOT NULL, place INTEGER NOT NULL, finding INTEGER NOT NULL,
    PRIMARY KEY(position, place)) WITHOUT ROWID;
CREATE INDEX flags_of_finding ON flags(finding, position);
CREATE TABLE measures(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE measured(measure INTEGER NOT NULL, content INTEGER NOT NULL, value REAL NOT NULL,
    PRIMARY KEY(measure, content)) WITHOUT ROWID;

CREATE TABLE exports(id INTEGER PRIMARY KEY, path TEXT NOT NULL, format TEXT NOT NULL, at INTEGER NOT NULL,
    action INTEGER NOT NULL);
"""


def make_tables(connection: sqlite3.Connection) -> None:
    """In an empty file."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.executescript(TABLES)


def check_file(path: Path) -> None:
    """Raises Refused for what is no workspace file of this version, by its first bytes alone: no SQLite runs on it."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("workspace_no_workspace", path=path)
        with open(path, "rb") as file:
            first = file.read(100)
    except (FileNotFoundError, ValueError):  # ValueError: NUL in a name
        raise Refused("workspace_not_found", path=path) from None
    except OSError as failed:
        raise Refused("workspace_unreadable", path=path, why=failed.strerror or type(failed).__name__) from None
    if len(first) < 100 or not first.startswith(b"SQLite format 3\0"):
        raise Refused("workspace_no_workspace", path=path)
    version, application = (int.from_bytes(first[at : at + 4]) for at in (_USER_VERSION, _APPLICATION))
    if application != APPLICATION_ID or version < 1:
        raise Refused("workspace_no_workspace", path=path)
    if version > VERSION:
        raise Refused("workspace_newer", path=path, version=version, known=VERSION)
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):  # the log lies beside the file
        raise Refused("workspace_read_only", path=path)


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raises Refused unless the file holds exactly the tables of this version: a trigger or a view would be code of
    somebody else's that an edit runs."""
    if _tables(connection) != _expected():
        raise Refused("workspace_damaged", path=path, why=Sentence("workspace_other_tables"))


@cache
def _expected() -> frozenset[tuple[str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(TABLES)
        return _tables(connection)
    finally:
        connection.close()


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND NOT"
        " (type = 'table' AND name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4'))"
    )
    return frozenset((str(name), str(sql)) for name, sql in found)
