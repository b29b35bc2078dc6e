"""What was found out about the rows: findings by position, measures by content."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.pair_workspace.stored_pair import DISCARDED, cell, clean, from_cell
from pipeline.pair_workspace.view import COLUMNS


def set_flags(connection: sqlite3.Connection, flags: Mapping[str, Sequence[int]]) -> None:
    """See Workspace.set_flags."""
    (rows,) = connection.execute("SELECT count(*) FROM rows").fetchone()
    by_finding = [np.unique(np.asarray(positions, dtype=np.int64)) for positions in flags.values()]
    for name, positions in zip(flags, by_finding, strict=True):
        if positions.size and (positions[0] < 0 or positions[-1] >= rows):
            raise ValueError(f"{name}: a position outside of 0 to {rows - 1}")
    connection.execute("DELETE FROM flags")
    connection.execute("DELETE FROM findings")
    findings = [(n, cell(name), by_finding[n].size) for n, name in enumerate(flags)]
    connection.executemany("INSERT INTO findings VALUES (?, ?, ?)", findings)
    if by_finding:
        connection.executemany("INSERT INTO flags VALUES (?, ?, ?)", _flags(by_finding))


def _flags(by_finding: list[np.ndarray]) -> Iterator[tuple[int, int, int]]:
    """(position, place, finding) in the order of the table, where inserting is quick."""
    positions = np.concatenate(by_finding)
    findings = np.repeat(np.arange(len(by_finding)), [one.size for one in by_finding])
    order = np.lexsort((findings, positions))
    before, place = -1, 0
    for position, finding in zip(positions[order].tolist(), findings[order].tolist(), strict=True):
        place = place + 1 if position == before else 0
        before = position
        yield position, place, finding


def flags(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows by finding without the discarded ones, most first."""
    gone = dict(
        connection.execute(
            "SELECT f.finding, count(*) FROM rows r CROSS JOIN flags f ON f.position = r.position"
            " WHERE r.status = ? GROUP BY 1",
            (DISCARDED,),
        ).fetchall()
    )
    found = connection.execute("SELECT id, name, rows FROM findings ORDER BY id")
    counted = {str(from_cell(name)): int(rows - gone.get(n, 0)) for n, name, rows in found}
    return dict(sorted(counted.items(), key=lambda one: -one[1]))


def set_measures(connection: sqlite3.Connection, measures: Mapping[str, np.ndarray]) -> None:
    """See Workspace.set_measures."""
    contents = np.array([c for (c,) in connection.execute("SELECT content FROM rows ORDER BY position")], np.int64)
    for name, values in measures.items():
        if name in ("position", *(column for column in COLUMNS if column != "similarity")) or not name:
            raise ValueError(f"{name!r} is a column of its own")
        array = np.asarray(values, dtype=np.float64)
        if array.shape != contents.shape:
            raise ValueError(f"{name}: {array.shape} values for {contents.size} rows")
        connection.execute("INSERT OR IGNORE INTO measures(name) VALUES (?)", (clean(name),))
        (measure,) = connection.execute("SELECT id FROM measures WHERE name = ?", (clean(name),)).fetchone()
        connection.execute("DELETE FROM measured WHERE measure = ?", (measure,))
        order = np.argsort(contents, kind="stable")
        order = order[~np.isnan(array[order])]
        pairs = zip(contents[order].tolist(), array[order].tolist(), strict=True)
        connection.executemany(f"INSERT INTO measured VALUES ({int(measure)}, ?, ?)", pairs)


def measure_names(connection: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(name for (name,) in connection.execute("SELECT name FROM measures ORDER BY id"))
