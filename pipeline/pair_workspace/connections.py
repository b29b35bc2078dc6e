"""Connections to one workspace file: one for each call that runs, and SQLite's errors in a user's words."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.pair_workspace.schema import check_tables
from pipeline.pair_workspace.stored_pair import Damaged
from pipeline.refusal import Refused

BUSY_SECONDS = 20.0  # that a write waits for another's; discarding 500,000 rows takes 5 s, rewriting all of them 30
_IDLE = 4  # connections kept open between calls
_CACHE_KIB = 32 * 1024  # of each connection: the filtered columns of 500,000 rows are 25 MiB
_WAL_LIMIT = 64 * 2**20  # bytes that the log keeps on disk once a bulk edit is over

# The log (WAL) lets others read while one writes. What is committed is in the hands of the system before the answer, so
# that the end of this process takes nothing back at any setting of `synchronous`; FULL also syncs the log at each
# commit, so that a power cut takes nothing back either. https://www.sqlite.org/pragma.html#pragma_synchronous
# All who have the file open must be on one machine: the log's index is memory that they share.
# https://www.sqlite.org/wal.html
_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA cache_size = -{_CACHE_KIB}",
    f"PRAGMA journal_size_limit = {_WAL_LIMIT}",
)

# https://www.sqlite.org/rescode.html
_ENTRIES = {
    sqlite3.SQLITE_BUSY: "workspace_busy", sqlite3.SQLITE_LOCKED: "workspace_busy",
    sqlite3.SQLITE_READONLY: "workspace_read_only", sqlite3.SQLITE_PERM: "workspace_read_only",
    sqlite3.SQLITE_CANTOPEN: "workspace_read_only", sqlite3.SQLITE_FULL: "workspace_disk_full",
    sqlite3.SQLITE_CORRUPT: "workspace_damaged", sqlite3.SQLITE_NOTADB: "workspace_damaged",
    sqlite3.SQLITE_TOOBIG: "workspace_too_big",
}  # fmt: skip
_OF_SYSTEM = {errno.ENOSPC: "workspace_disk_full", errno.EDQUOT: "workspace_disk_full",
              errno.EACCES: "workspace_read_only", errno.EPERM: "workspace_read_only",
              errno.EROFS: "workspace_read_only"}  # fmt: skip


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """SQLite's errors, and values that aren't what was written, as Refused."""
    try:
        yield
    except Damaged as failed:
        raise Refused("workspace_damaged", path=path, why=str(failed)) from failed
    except sqlite3.Error as failed:
        # without a code: a text that is no UTF-8
        code = getattr(failed, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if isinstance(failed, sqlite3.ProgrammingError) or code == sqlite3.SQLITE_ERROR:  # a mistake in this package
            raise
        entry = _ENTRIES.get(code, "workspace_unreadable")
        if getattr(failed, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
            entry = "workspace_gone"
        raise Refused(entry, path=path, why=str(failed)) from failed


def refused_by_system(failed: OSError, path: Path) -> Refused:
    """For what the system said while a file was made."""
    entry = _OF_SYSTEM.get(failed.errno or 0, "workspace_unreadable")
    return Refused(entry, path=path, why=failed.strerror or type(failed).__name__)


def connect(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection with every setting; transactions are begun and ended by hand. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy_seconds, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    try:
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        connection.create_function("holds", 2, _holds, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _holds(text: str | None, folded: str) -> bool:
    """folded: in lower case."""
    if text is None or (folded[0] not in text and folded[0].upper() not in text):  # lower() takes ten times as long
        return False
    return folded in text.lower()


class Connections:
    """Of one file. A connection belongs to one call at a time, so that no thread waits for another's reading."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        with refusing(path):
            connection = connect(path, busy_seconds=busy_seconds)
            try:
                check_tables(connection, path)
            except BaseException:
                connection.close()
                raise
        self._file = self._identity()
        self._idle.append(connection)

    def close(self) -> None:
        """Now what is idle, the others when their calls end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """All that is read in the block is of one moment."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All that is written in the block is on disk at its end, or, where it raises, none of it.

        IMMEDIATE: what is compared in the block can't be changed by another before it is written.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            self._check_place()  # the log would be written beside a file that nobody finds again
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with refusing(self.path), self._taken() as connection:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    @contextmanager
    def _taken(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise ValueError("the workspace is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            self._check_place()
            connection = connect(self.path, busy_seconds=self._busy_seconds)
        try:
            yield connection
        except BaseException:
            connection.close()  # whatever it was, the next call begins with a sound one
            raise
        with self._lock:
            kept = not self._closed and len(self._idle) < _IDLE
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def _check_place(self) -> None:
        if self._identity() != self._file:
            raise Refused("workspace_gone", path=self.path)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
