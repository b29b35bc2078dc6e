"""Which SQLite database the SQL of a row is about."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.candidates.candidate import SourceRow
from pipeline.refusal import Refused
from pipeline.sql.run_query import Databases, checked_database

COLUMNS = ("db_id", "database_id", "database", "db", "db_name")
"""Columns by which a row names its database, as Spider and BIRD have them first."""


class RowDatabases:
    """One file for all rows, or a folder in which each row names its own by COLUMNS.

    rows: that were asked about with `count`; without: of those, rows whose database isn't there.
    """

    def __init__(self, given: str | Path) -> None:
        """Raises Refused for what is no SQLite file and no folder."""
        path = Path(given)
        if not os.path.lexists(path):
            raise Refused("option_not_found", option="--database", path=path)
        self._folder = Databases(path) if path.is_dir() else None
        self._file = None if self._folder is not None else checked_database(path)
        self.rows, self.without = 0, 0

    def of(self, row: SourceRow) -> Path | None:
        """None where the row names none, or one that isn't in the folder."""
        if self._folder is None:
            return self._file
        for column in COLUMNS:
            if name := row.pair.extra.get(column):
                return self._folder.find(str(name).strip())
        return None

    def count(self, row: SourceRow) -> None:
        self.rows += 1
        self.without += self.of(row) is None

    def check(self) -> int:
        """How many of the counted rows have no database here. Raises Refused where none has one."""
        if self.rows and self.without == self.rows and self._folder is not None:
            raise Refused("sql_no_row_has_database", path=self._folder.root, columns=", ".join(COLUMNS))
        return self.without
