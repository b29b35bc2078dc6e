"""Pairs into a new workspace file, which appears when it is whole."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.pair_workspace.connections import refused_by_system, refusing
from pipeline.pair_workspace.outcomes import Cancelled
from pipeline.pair_workspace.schema import make_tables
from pipeline.pair_workspace.stored_pair import (
    CONTENT_COLUMNS,
    STATUSES,
    cell,
    clean,
    content_columns,
    measured_columns,
    pack,
    strategy_of,
)
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

BATCH_ROWS = 1000
BATCH_CHARS = 4_000_000  # of texts that wait; a row may be as long as a book


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def import_pairs(
    path: Path,
    pairs: Iterable[Pair],
    source_name: str,
    progress: Callable[[int], None] | None,
    cancel: threading.Event | None,
) -> None:
    """See Workspace.create."""
    of_pairs: OSError | None = None
    try:
        _refuse_taken(path)
        with written_whole(path) as temporary:
            connection = sqlite3.connect(temporary, isolation_level=None)
            try:
                with refusing(path):
                    _fill(connection, pairs, source_name, progress or (lambda rows: None), cancel)
            except OSError as failed:  # SQLite raises none: it is the file that is read
                of_pairs = failed
                raise
            finally:
                connection.close()
            _refuse_taken(path)  # somebody else's, made meanwhile
    except OSError as failed:
        if failed is of_pairs:
            raise
        raise refused_by_system(failed, path) from failed


def _refuse_taken(path: Path) -> None:
    """An import replaces nothing: what stands there may hold somebody's edits, and so may a log left beside it."""
    if not path.parent.is_dir():
        raise Refused("workspace_no_folder", path=path, folder=path.parent)
    if path.exists() or path.is_symlink():
        raise Refused("workspace_exists", path=path)
    for mark in ("-wal", "-journal"):
        beside = path.with_name(path.name + mark)
        if beside.exists():
            raise Refused("workspace_log_left", path=path, log=beside)


def _fill(
    connection: sqlite3.Connection,
    pairs: Iterable[Pair],
    source_name: str,
    progress: Callable[[int], None],
    cancel: threading.Event | None,
) -> None:
    connection.execute("PRAGMA journal_mode = OFF")  # a file that fails is deleted, there is nothing to go back to
    connection.execute("PRAGMA synchronous = OFF")
    make_tables(connection)
    connection.execute("BEGIN")
    facts = [("source_name", clean(source_name)), ("created", now())]
    connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
    rows = _Rows(connection)
    for pair in pairs:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        rows.add(pair)
        if rows.full:
            rows.flush()
            progress(rows.total)
    rows.flush()
    rows.finish()
    if cancel is not None and cancel.is_set():
        raise Cancelled
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")  # stands in the file from now on
    progress(rows.total)


class _Rows:
    """Rows on their way into the tables."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.total = 0
        self._chars = 0
        self._waiting: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _INSERT}
        self._statuses: Counter[int] = Counter()
        self._strategies = {"": 0}
        self._origins: dict[str, int] = {}
        self._findings: dict[str, int] = {}
        self._flagged: Counter[int] = Counter()
        connection.execute("INSERT INTO strategies VALUES (0, '')")

    def add(self, pair: Pair) -> None:
        position, status = self.total, STATUSES.index(pair.status)
        strategy = self._strategies.setdefault(strategy_of(pair), len(self._strategies))
        content = content_columns(pair, strategy)
        waiting = self._waiting
        waiting["contents"].append((position, *content))
        origin = self._origins.setdefault(pair.origin, len(self._origins))
        identity = cell(pair.id) if isinstance(pair.id, str) else None if pair.id is None else pack(pair.id)
        extra = pack(pair.extra) if pair.extra else None
        waiting["imported"].append((position, status, pair.line, origin, identity, extra))
        waiting["rows"].append((position, 0, position, status, 0, 0, *measured_columns(content)))
        for place, flag in enumerate(dict.fromkeys(pair.flags)):
            finding = self._findings.setdefault(flag, len(self._findings))
            self._flagged[finding] += 1
            waiting["flags"].append((position, place, finding))
        self._statuses[status] += 1
        self.total += 1
        self._chars += sum(len(text) for text in content[4:8] if text) + len(content[8] or b"") + len(extra or b"")

    @property
    def full(self) -> bool:
        return len(self._waiting["rows"]) >= BATCH_ROWS or self._chars >= BATCH_CHARS

    def flush(self) -> None:
        for table, values in self._waiting.items():
            self._connection.executemany(_INSERT[table], values)
            values.clear()
        self._chars = 0

    def finish(self) -> None:
        """What is known of all rows together."""
        run = self._connection.executemany
        run("INSERT OR IGNORE INTO strategies VALUES (?, ?)", ((n, name) for name, n in self._strategies.items()))
        findings = ((n, cell(name), self._flagged[n]) for name, n in self._findings.items())
        run("INSERT INTO origins VALUES (?, ?)", ((n, cell(name)) for name, n in self._origins.items()))
        run("INSERT INTO findings VALUES (?, ?, ?)", findings)
        run("INSERT INTO status_counts VALUES (?, ?)", ((n, self._statuses[n]) for n in range(len(STATUSES))))


_INSERT = {
    "contents": f"INSERT INTO contents VALUES (?, {', '.join('?' * len(CONTENT_COLUMNS))})",
    "imported": "INSERT INTO imported VALUES (?, ?, ?, ?, ?, ?)",
    "rows": f"INSERT INTO rows VALUES ({', '.join('?' * 13)})",
    "flags": "INSERT INTO flags VALUES (?, ?, ?)",
}
