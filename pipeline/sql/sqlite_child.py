"""The process behind `pipeline.sql.run_query`: SQLite on statements and files of strangers.

One JSON object a line on standard input, one a line back. Started by file path, imports nothing of the project. What
a statement may do is decided here by SQLite's own authorizer: select, read, call listed functions, nothing else. The
process can't write a byte to any file. One call of a SQLite function can't be interrupted from here; whoever started
the process ends it then.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.path and not sys.flags.isolated:
    del sys.path[0]  # this file's own folder: its modules must never shadow the standard library's

import contextlib
import json
import os
import sqlite3
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]

CHECK_EVERY = 2000  # virtual machine instructions between looks at the clock: some 20 microseconds
# By the lower byte of SQLite's result code (sqlite.org/rescode.html).
PROBLEMS = {
    3: "database_unreadable", 5: "database_locked", 6: "database_locked", 7: "memory", 8: "database_unreadable",
    9: "timeout", 10: "database_unreadable", 11: "database_damaged", 13: "memory", 14: "database_unreadable",
    18: "too_large", 23: "forbidden", 26: "not_a_database",
}  # fmt: skip
ACTIONS = {
    value: name.removeprefix("SQLITE_").lower().replace("_", " ")
    for name, value in vars(sqlite3).items()
    if name.startswith(("SQLITE_CREATE_", "SQLITE_DROP_")) or name in (
        "SQLITE_ALTER_TABLE", "SQLITE_ANALYZE", "SQLITE_ATTACH", "SQLITE_DELETE", "SQLITE_DETACH", "SQLITE_FUNCTION",
        "SQLITE_INSERT", "SQLITE_PRAGMA", "SQLITE_READ", "SQLITE_REINDEX", "SQLITE_SAVEPOINT", "SQLITE_TRANSACTION",
        "SQLITE_UPDATE")
}  # fmt: skip
ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})


class Refused(Exception):
    """(problem, detail)"""


class Server:
    """Holds a few open databases and what queries may cost."""

    def __init__(self) -> None:
        self.limits: Json = {}
        self.functions: frozenset[str] = frozenset()
        self.random: frozenset[str] = frozenset()
        self.hidden: frozenset[str] = frozenset()
        self.open: OrderedDict[tuple[Any, ...], sqlite3.Connection] = OrderedDict()
        self.passing: sqlite3.Connection | None = None
        self.denied = ""
        self.by_chance = False
        self.deadline = 0.0

    def answer(self, request: Json) -> Json:
        what = request["do"]
        if what == "limits":
            self.limits = request["limits"]
            self.functions = frozenset(request["functions"])
            self.random = frozenset(request["random"])
            self.hidden = frozenset(request["hidden"])
            return {}
        self.deadline = time.monotonic() + request["seconds"]
        if what == "query":
            return self.query(request)
        if what == "schema":
            return self.schema(request)
        if what == "head":
            with open(request["database"], "rb") as file:
                return {"head": file.read(4096).hex()}
        raise Refused("unknown_request", what)

    # --- databases ---

    def connect(self, path: str, *, guarded: bool) -> sqlite3.Connection:
        """Open for reading. Raises Refused and sqlite3.Error.

        A database with a write-ahead log is opened `immutable` where the log is gone, since SQLite would have to create
        files beside it; where the log is there, its index has to be there too.
        """
        about = os.stat(path)
        wal = os.path.exists(path + "-wal") and os.stat(path + "-wal").st_size > 0
        key = (path, about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size, wal, guarded)
        if key in self.open:
            self.open.move_to_end(key)
            return self.open[key]
        with open(path, "rb") as file:
            head = file.read(100)
        if not head.startswith(b"SQLite format 3\0"):
            raise Refused("not_a_database", "")
        mode = "ro"
        if head[18:20] == b"\x02\x02":
            if wal and not os.path.exists(path + "-shm"):
                raise Refused("database_wal", "")
            mode = "ro" if wal else "ro&immutable=1"
        uri = f"file:{quote(os.path.abspath(path))}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=min(1.0, self.limits["seconds"]), cached_statements=0
        )
        try:
            self.restrict(connection, guarded)
        except BaseException:
            connection.close()
            raise
        if not wal:
            self.open[key] = connection
        else:  # held open, it would keep the program that writes from tidying up its log
            self.passing = connection
        while len(self.open) > self.limits["open_databases"]:
            self.open.popitem(last=False)[1].close()
        return connection

    def restrict(self, connection: sqlite3.Connection, guarded: bool) -> None:
        limits = self.limits
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        with contextlib.suppress(AttributeError, sqlite3.Error):  # built without extensions: there are none to load
            connection.enable_load_extension(False)
        for setting in (
            f"hard_heap_limit={int(limits['heap_bytes'])}", "trusted_schema=OFF", "query_only=ON", "temp_store=MEMORY",
            "mmap_size=0", "cache_size=-8000", "cell_size_check=ON",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {setting}").close()
        for name, value in (
            ("LENGTH", "value_bytes"), ("SQL_LENGTH", "statement_bytes"), ("EXPR_DEPTH", "expression_depth"),
            ("COMPOUND_SELECT", "compound_terms"), ("VDBE_OP", "instructions"),
            ("LIKE_PATTERN_LENGTH", "pattern_bytes"),
        ):  # fmt: skip
            connection.setlimit(getattr(sqlite3, f"SQLITE_LIMIT_{name}"), int(limits[value]))
        for name in ("ATTACHED", "TRIGGER_DEPTH", "VARIABLE_NUMBER", "WORKER_THREADS"):
            connection.setlimit(getattr(sqlite3, f"SQLITE_LIMIT_{name}"), 0)
        connection.set_progress_handler(lambda: time.monotonic() > self.deadline, CHECK_EVERY)
        if guarded:
            connection.execute("SELECT count(*) FROM sqlite_master").close()  # is it a database at all?
            for table in ("json_each", "json_tree"):  # made at first use, by what the authorizer would take for writing
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute(f"SELECT 1 FROM {table}('[]')").close()
            connection.set_authorizer(self.authorize)

    def authorize(self, action: int, first: str | None, second: str | None, *_: Any) -> int:
        """What a statement may do; asked by SQLite while it compiles it."""
        if action in ALLOWED:
            return sqlite3.SQLITE_OK
        name = ((second if action == sqlite3.SQLITE_FUNCTION else first) or "").lower()
        if action == sqlite3.SQLITE_READ:
            if name not in self.hidden and not name.startswith("pragma_"):
                return sqlite3.SQLITE_OK
        elif action == sqlite3.SQLITE_FUNCTION and name in self.functions:
            self.by_chance = self.by_chance or name in self.random
            return sqlite3.SQLITE_OK
        if not self.denied:
            self.denied = f"{ACTIONS.get(action, action)} {name}".strip()
        return sqlite3.SQLITE_DENY

    # --- requests ---

    def query(self, request: Json) -> Json:
        started = time.monotonic()
        connection = self.connect(request["database"], guarded=True)
        self.denied, self.by_chance = "", False
        rows: list[list[Any]] = []
        size, truncated = 0, False
        cursor = connection.cursor()
        try:
            cursor.execute(request["sql"])
            if cursor.description is None:
                raise Refused("not_a_query", "")
            for row in cursor:
                if len(rows) >= request["rows"]:
                    truncated = True
                    break
                rows.append([{"x": cell.hex()} if isinstance(cell, bytes) else cell for cell in row])
                size += sum(len(cell) if isinstance(cell, (str, bytes)) else 8 for cell in row)
                if size > request["result_bytes"]:
                    truncated = True
                    break
                if time.monotonic() > self.deadline:
                    raise Refused("timeout", "")
            names = [str(column[0]) for column in cursor.description]
        finally:
            cursor.close()
        return {
            "columns": names, "rows": rows, "truncated": truncated, "by_chance": self.by_chance,
            "seconds": time.monotonic() - started,
        }  # fmt: skip

    def schema(self, request: Json) -> Json:
        connection = self.connect(request["database"], guarded=False)
        listed = connection.execute(
            "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') "
            f"AND substr(name, 1, 7) <> 'sqlite_' ORDER BY rowid LIMIT {int(self.limits['schema_tables'])}"
        )
        tables, collated = [], False
        for name, kind, sql in listed.fetchall():
            collated = collated or "collate" in str(sql).lower()
            try:
                quoted = str(name).replace('"', '""')
                columns = [row[1] for row in connection.execute(f'PRAGMA table_xinfo("{quoted}")')]
            except sqlite3.Error:  # a view of what is gone, a virtual table of another program
                columns = []
            tables.append([name, kind, columns])
        return {"tables": tables, "collated": collated}


def problem_of(error: BaseException, denied: str) -> tuple[str, str]:
    """What SQLite or Python said, as (problem, detail)."""
    if isinstance(error, Refused):
        return error.args[0], str(error.args[1])
    if isinstance(error, MemoryError):
        return "memory", ""
    said = str(error)
    if isinstance(error, (sqlite3.Warning, sqlite3.ProgrammingError)):
        if "one statement" in said:
            return "several_statements", ""
        if "null character" in said:
            return "nul", ""
    if isinstance(error, ValueError) and "null character" in said:
        return "nul", ""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if denied and (code is None or code & 0xFF in (1, 23)):
            return "forbidden", denied
        problem = PROBLEMS.get(code & 0xFF, "failed") if code is not None else "failed"
        return problem, denied or said
    if isinstance(error, OSError):
        return "database_unreadable", error.strerror or said
    if isinstance(error, UnicodeError):
        return "failed", "not valid Unicode"
    return "failed", f"{type(error).__name__}: {said}"


def serve(requests: Any, answers: Any) -> None:
    """Answer until the requests end. Whatever goes wrong in one of them is its answer."""
    server = Server()
    for line in requests:
        request = json.loads(line)
        server.denied = ""
        try:
            answer = server.answer(request)
            text = json.dumps(answer).encode("ascii")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            problem, detail = problem_of(error, server.denied)
            text = json.dumps({"problem": problem, "detail": detail[:300]}).encode("ascii")
        if server.passing is not None:
            server.passing.close()
            server.passing = None
        answers.write(text + b"\n")
        answers.flush()


def shut_in() -> None:
    """No file grows, few are open, no core is dumped (Linux, macOS)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, most in (("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 64)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, name), (most, most))


def main() -> None:
    """Serve on the standard streams."""
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    shut_in()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
