"""A query run on a SQLite file: read-only, with hard limits on time, rows and memory.

Whatever the statement is, nothing is written and no other file is opened: the database is opened read-only, SQLite's
authorizer lets a statement select, read and call functions that compute values, and the process that does it can't
write to files at all. Time is bound twice: SQLite is interrupted at the limit, and where it can't be (inside one call
of a function such as `instr` on long texts) the process is ended and the next query gets a new one.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.json_file import LFS_START
from pipeline.line_child import ChildFailed, LineChild
from pipeline.refusal import Refused, Sentence
from pipeline.sql.limits import SqlLimits, default_limits, names_of
from pipeline.sql.schema import Schema

CHILD = Path(__file__).with_name("sqlite_child.py")
MAGIC = b"SQLite format 3\0"

Cell = int | float | str | bytes | None
# The statement itself is at fault, and would do or ask for something that no answer may.
REFUSED = frozenset({"not_a_query", "several_statements", "forbidden", "nul", "statement_too_long"})
# The file is at fault, whatever is asked.
DATABASE = frozenset(
    {"database_locked", "database_unreadable", "database_damaged", "not_a_database", "database_wal", "database_gone"}
)


@dataclass(frozen=True)
class QueryResult:
    """What a query gave, or its problem.

    rows: at most `rows` of the limits, then `truncated`. by_chance: it calls random(). seconds: of the run.

    Problems: of the statement, REFUSED: `not_a_query`, `several_statements`, `forbidden` (detail: what it wanted to
    do), `nul`, `statement_too_long`. Of the run: `failed` (detail: SQLite's
    words), `timeout`, `memory`, `too_large` (one value), `crashed`. Of the file: DATABASE.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    truncated: bool = False
    by_chance: bool = False
    seconds: float = 0.0
    problem: str | None = None
    detail: str = ""

    @property
    def refused(self) -> bool:
        return self.problem in REFUSED

    @property
    def sentence(self) -> Sentence | None:
        """The problem in a line."""
        if self.problem is None:
            return None
        return Sentence(f"sql_run_{self.problem}", {"detail": self.detail}, "candidates")


_DUMP = re.compile(r"--|/\*|(?:create|insert|pragma|drop|set)\s|begin\b", re.IGNORECASE)

# --- files -------------------------------------------------------------------------------------------------------


def checked_database(path: str | Path) -> Path:
    """`path` when it is a SQLite file that can be read. Raises Refused."""
    path = Path(path)
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise Refused("sql_database_is_folder", path=path)
        if not stat.S_ISREG(about.st_mode):
            raise Refused("sql_database_no_file", path=path)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("sql_database_not_found", path=path) from None
    except ValueError:  # a NUL in the name
        raise Refused("sql_database_not_found", path=str(path).replace("\0", "\\0")) from None
    except OSError as error:
        raise Refused("sql_database_unreadable", path=path, why=error.strerror or str(error)) from None
    answer = shared_runner().ask(path, {"do": "head"})
    if "problem" in answer:
        raise Refused("sql_database_unreadable", path=path, why=answer["detail"] or answer["problem"])
    head = bytes.fromhex(answer["head"])
    if head.startswith(MAGIC):
        return path
    if not head:
        raise Refused("sql_database_empty", path=path)
    if head.startswith(LFS_START):
        raise Refused("sql_database_lfs", path=path)
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if path.suffix.lower() == ".sql" or _DUMP.match(text):
        raise Refused("sql_database_is_dump", path=path, made=path.with_suffix(".db").name)
    raise Refused("sql_database_not_sqlite", path=path)


class Databases:
    """The databases of a data set in one folder, by id: `ROOT/ID/ID.sqlite` or `ROOT/ID.sqlite`, as Spider and BIRD lay
    them out. Nothing outside the folder is ever found, whatever an id says."""

    ENDINGS = (".sqlite", ".db", ".sqlite3")

    def __init__(self, root: str | Path) -> None:
        """Raises Refused when `root` is no folder."""
        self.root = Path(root)
        if not self.root.is_dir():
            raise Refused("sql_databases_no_folder", path=root)
        self._resolved = self.root.resolve()
        self._found: dict[str, Path | None] = {}

    def find(self, db_id: str) -> Path | None:
        """The file of `db_id`, None where there is none or the id leads out of the folder."""
        if db_id not in self._found:
            if len(self._found) > 10_000:
                self._found.clear()
            self._found[db_id] = self._look(db_id)
        return self._found[db_id]

    def _look(self, db_id: str) -> Path | None:
        if not isinstance(db_id, str) or not db_id.strip() or len(db_id) > 200 or db_id in (".", ".."):
            return None
        if any(c in "/\\:\0" or not c.isprintable() for c in db_id):
            return None
        for folder in (self.root / db_id, self.root):
            for ending in self.ENDINGS:
                path = folder / f"{db_id}{ending}"
                with suppress(OSError, ValueError):
                    if path.is_file() and path.resolve().is_relative_to(self._resolved):
                        return path
        return None

    def ids(self) -> list[str]:
        """The ids that are there, sorted."""
        names = set()
        with suppress(OSError):
            for entry in os.scandir(self.root):
                names.add(Path(entry.name).stem if entry.name.endswith(self.ENDINGS) else entry.name)
        return sorted(name for name in names if self.find(name) is not None)

    def path(self, db_id: str) -> Path:
        """`find`, or Refused with the nearest id."""
        import difflib

        found = self.find(db_id)
        if found is None:
            near = difflib.get_close_matches(str(db_id), self.ids(), n=1, cutoff=0.0)
            raise Refused("sql_database_id_unknown", value=db_id, folder=self.root, near=near[0] if near else "-")
        return found


# --- running -----------------------------------------------------------------------------------------------------


_LEADING = re.compile(r"(?:[ \t\r\n\f\ufeff]+|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)*+")
_QUERY_WORD = re.compile(r"(?:select|with|values)(?![\w$])", re.IGNORECASE | re.ASCII)


class QueryRunner:
    """Runs queries one at a time in a process of its own, for any number of databases. Safe for several threads. Close
    it; also usable as a context manager."""

    def __init__(self, limits: SqlLimits | None = None) -> None:
        self.limits = limits or default_limits()
        self._lock = threading.Lock()
        self._child: LineChild | None = None

    def __enter__(self) -> QueryRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.end()
            self._child = None

    def run(self, database: str | Path, sql: str) -> QueryResult:
        """Run one query. Never raises for what the statement or the file is."""
        sql = sql.rstrip("; \t\r\n\f")
        if "\0" in sql:
            return QueryResult(problem="nul")
        if len(sql) > self.limits.statement_bytes:
            return QueryResult(problem="statement_too_long", detail=f"{len(sql):,}")
        leading = _LEADING.match(sql)
        if not _QUERY_WORD.match(sql, leading.end() if leading else 0):
            return QueryResult(problem="not_a_query")
        limits = self.limits
        answer = self.ask(
            database, {"do": "query", "sql": sql, "rows": limits.rows, "result_bytes": limits.result_bytes}
        )
        if "problem" in answer:
            return QueryResult(problem=answer["problem"], detail=answer["detail"])
        rows = tuple(tuple(bytes.fromhex(c["x"]) if isinstance(c, dict) else c for c in row) for row in answer["rows"])
        return QueryResult(tuple(answer["columns"]), rows, answer["truncated"], answer["by_chance"], answer["seconds"])

    def schema(self, database: str | Path) -> Schema | None:
        """Tables and columns; None where the file can't be read."""
        answer = self.ask(database, {"do": "schema"})
        if "problem" in answer:
            return None
        return Schema({name: tuple(columns) for name, _, columns in answer["tables"]}, answer["collated"])

    def ask(self, database: str | Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request to the process about one file; its answer, or a dictionary with `problem` and `detail`.

        The file is never opened in this process: closing it again would drop the locks that a connection of this
        process holds on it (sqlite.org/howtocorrupt.html, 2.2).
        """
        try:
            regular = stat.S_ISREG(os.stat(database).st_mode)
        except (OSError, ValueError):
            return {"problem": "database_gone", "detail": str(database).replace("\0", "\\0")}
        if not regular:
            return {"problem": "not_a_database", "detail": ""}
        limits = self.limits
        with self._lock:
            if self._child is not None and (self._child.busy > limits.process_busy_seconds or not self._child.alive):
                self._child.end()
                self._child = None
            try:
                if self._child is None:
                    self._child = self._new_child()
                return self._child.ask(
                    {**request, "database": os.path.abspath(database), "seconds": limits.seconds},
                    limits.seconds + limits.grace_seconds,
                )
            except ChildFailed as failed:
                self._child = None
                return {"problem": failed.args[0], "detail": ""}
            except OSError as error:  # no process could be started
                self._child = None
                return {"problem": "crashed", "detail": error.strerror or str(error)}

    def _new_child(self) -> LineChild:
        limits = self.limits
        child = LineChild(
            [sys.executable, "-I", "-S", "-X", "utf8", str(CHILD)], memory_bytes=limits.process_bytes,
            cpu_seconds=limits.process_cpu_seconds, env={"MALLOC_ARENA_MAX": "1"},
        )  # fmt: skip
        told = {
            "do": "limits", "limits": asdict(limits), "functions": sorted(names_of("functions")),
            "random": sorted(names_of("random_functions")), "hidden": sorted(names_of("hidden_tables")),
        }  # fmt: skip
        child.ask(told, 30.0)  # a busy machine may take its time to start a process
        return child


@cache
def shared_runner() -> QueryRunner:
    """One for the whole program. Its process ends with the program."""
    return QueryRunner()


def run_query(database: str | Path, sql: str) -> QueryResult:
    """Run one query on a SQLite file, within the limits of configs/sql.yaml."""
    return shared_runner().run(database, sql)


def schema_of(database: str | Path) -> Schema:
    """Tables and columns of a SQLite file. Raises Refused when it is none that can be read."""
    path = checked_database(database)
    schema = shared_runner().schema(path)
    if schema is None:
        raise Refused("sql_database_damaged", path=path)
    return schema
