"""The workspace as the app and the commands use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.pair_workspace import bulk, edits, findings, read_rows, select_rows
from pipeline.pair_workspace.bulk import BulkAction
from pipeline.pair_workspace.connections import BUSY_SECONDS, Connections
from pipeline.pair_workspace.distribution import distribution
from pipeline.pair_workspace.import_pairs import import_pairs, now
from pipeline.pair_workspace.outcomes import (
    Action,
    BulkDone,
    BulkPreview,
    Conflict,
    Counts,
    Distribution,
    Held,
    Revision,
    RowShown,
    Saved,
    Undone,
)
from pipeline.pair_workspace.schema import check_file
from pipeline.pair_workspace.stored_pair import clean, swapped, with_texts
from pipeline.pair_workspace.text_search import TextSearch, last_action
from pipeline.pair_workspace.view import TextSide, View
from pipeline.pairs.pair import Message, Pair, Side, Status

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int], None]
"""Called now and then with the number of rows done so far."""


class Workspace:
    """Pairs of one file. May be used by several threads at once; other processes of this machine may have it open too.

    Whatever answers Saved, Undone or BulkDone is on disk by then. All raise Refused: for a file that is gone, damaged
    or read-only, a full disk, and where another process keeps writing for longer than the wait.
    """

    def __init__(self, connections: Connections) -> None:
        self.path = connections.path
        self._connections = connections
        self._search = TextSearch()
        self._streamed: int | None = None
        """The last action that the pairs read last held."""

    @classmethod
    def create(
        cls,
        path: Path,
        pairs: Iterable[Pair],
        *,
        source_name: str,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Workspace:
        """Import pairs, one after the other, into a new file, which appears when it is whole.

        source_name: what the pairs came from, as a person would call it. Raises Refused where there is a file already
        or none can be written, Cancelled once `cancel` is set, and what `pairs` raises; no file is left then.
        """
        import_pairs(path, pairs, source_name, progress, cancel)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Workspace:
        """Raises Refused for what is no workspace, was made by a newer version, or is damaged. busy_seconds: how long a
        write waits for another's."""
        check_file(path)
        return cls(Connections(path, busy_seconds))

    def close(self) -> None:
        """Calls still running in other threads come to their end, later ones raise ValueError."""
        self._connections.close()

    @property
    def source_name(self) -> str:
        with self._connections.reading() as connection:
            return str(connection.execute("SELECT value FROM facts WHERE name = 'source_name'").fetchone()[0])

    # --- reading ---

    def counts(self) -> Counts:
        """At once, at any size."""
        with self._connections.reading() as connection:
            return select_rows.counts(connection)

    def page(self, view: View, offset: int = 0, limit: int = 50) -> list[RowShown]:
        """Rows `offset` to `offset + limit` of the view."""
        with self._connections.reading() as connection:
            return select_rows.page(connection, view, self._search, offset, limit)

    def count(self, view: View) -> int:
        """Rows of the view. The first count of a text search reads every text; after that only what changed."""
        with self._connections.reading() as connection:
            return select_rows.count(connection, view, self._search)

    def get(self, position: int, revision: int | None = None) -> Held:
        """A row as it is, or as it was at `revision`. Raises Refused where there is no such row or revision."""
        with self._connections.reading() as connection:
            return read_rows.held(connection, position, revision)

    def next(self, position: int, view: View) -> int | None:
        """The row after this one in the order of the view, whether or not this one is still in it."""
        with self._connections.reading() as connection:
            return select_rows.neighbour(connection, view, self._search, position, back=False)

    def previous(self, position: int, view: View) -> int | None:
        """The row before this one."""
        with self._connections.reading() as connection:
            return select_rows.neighbour(connection, view, self._search, position, back=True)

    def pairs(self, view: View | None = None, discarded: bool = False) -> Iterator[Pair]:
        """All as they are at the first `next()`, with flags and status, whatever is edited meanwhile. discarded: also
        those; a view that asks for their status gets them anyway."""
        with self._connections.reading() as connection:
            as_of = last_action(connection)
            yield from read_rows.stream(connection, view or View(), self._search, discarded=discarded)
        self._streamed = as_of

    def revisions(self, position: int) -> list[Revision]:
        """The history of a row, the import first."""
        with self._connections.reading() as connection:
            return edits.revisions(connection, position)

    def distribution(self, column: str, view: View, bins: int = 40) -> Distribution:
        """How a column (see COLUMNS) is spread over the view. Whole numbers get bins of whole width, perhaps fewer."""
        with self._connections.reading() as connection:
            return distribution(connection, column, view, bins, self._search)

    # --- editing ---

    def save(
        self,
        position: int,
        base_revision: int,
        *,
        prompt: str | list[Message] | None = None,
        chosen: Side | None = None,
        rejected: Side | None = None,
        system: str | None = None,
        status: Status | None = None,
        editor: str,
    ) -> Saved | Conflict:
        """A new revision of what differs; None leaves a part as it is. status: `edited` if a text differs and none is
        given. Conflict where `base_revision` is no longer the latest.

        prompt as text: what the last turn says, the turns before stay. chosen, rejected as text: the whole answer, and
        where the text is what its turns said, the turns stay. system: "" takes it away.
        """

        def change(pair: Pair) -> Pair:
            return with_texts(pair, prompt, chosen, rejected, system)

        return self._edit(position, base_revision, editor, "save", change, status)

    def swap(self, position: int, base_revision: int, editor: str) -> Saved | Conflict:
        """Chosen and rejected change places with their scores and with how they were made."""
        return self._edit(position, base_revision, editor, "swap", swapped)

    def discard(self, position: int, base_revision: int, editor: str) -> Saved | Conflict:
        """The row stays and can be accepted or saved again."""
        return self._edit(position, base_revision, editor, "discard", _unchanged, "discarded")

    def accept(self, position: int, base_revision: int, editor: str) -> Saved | Conflict:
        """The pair is good as it is."""
        return self._edit(position, base_revision, editor, "accept", _unchanged, "accepted")

    def _edit(
        self,
        position: int,
        base_revision: int,
        editor: str,
        kind: Action,
        change: Callable[[Pair], Pair],
        status: Status | None = None,
    ) -> Saved | Conflict:
        with self._connections.writing() as connection:
            return edits.edit(connection, position, base_revision, editor, kind, change, status)

    def undo(self, editor: str) -> Undone | Conflict | None:
        """Take back the last action of this editor; None where there is none. Its rows become new revisions that hold
        what they held before it; rows that others changed since stay. Conflict where that are all of them: the action
        can't be taken back any more, and the next undo goes to the one before it."""
        with self._connections.writing() as connection:
            return edits.undo(connection, editor)

    def redo(self, editor: str) -> Undone | Conflict | None:
        """Do again what was undone last. What an editor does new makes an end of their redo."""
        with self._connections.writing() as connection:
            return edits.redo(connection, editor)

    def bulk(
        self,
        view: View,
        action: BulkAction,
        editor: str,
        *,
        find: str | None = None,
        replace: str | None = None,
        side: TextSide | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> BulkDone:
        """One action on every row of a view: all or nothing, undone as one. Others can read meanwhile, but not write.

        replace: `find` becomes `replace` in `side`, as plain text with its case. correct: chosen becomes the rejected
        answer with `find` replaced. progress gets the rows looked at. Raises Refused for an empty `find` or no `side`.
        """
        plan = bulk.plan(view, action, find, replace, side)
        note = progress or (lambda rows: None)
        if view.search:  # the long part, before others have to wait
            with self._connections.reading() as connection:
                self._search.positions(connection, view.search, view.side)
        try:
            with self._connections.writing() as connection:
                return bulk.bulk(connection, view, plan, editor, self._search, note, cancel)
        except bulk.Stopped:
            return BulkDone(0, 0, 0, cancelled=True)

    def preview(
        self,
        view: View,
        action: BulkAction,
        *,
        find: str | None = None,
        replace: str | None = None,
        side: TextSide | None = None,
        cancel: threading.Event | None = None,
    ) -> BulkPreview:
        """What `bulk` would do now."""
        plan = bulk.plan(view, action, find, replace, side)
        with self._connections.reading() as connection:
            return bulk.preview(connection, view, plan, self._search, cancel)

    # --- findings and measures ---

    def set_flags(self, flags: Mapping[str, Sequence[int]]) -> None:
        """Positions by finding, such as `PRF005/near_duplicates`; replaces all there were. Raises ValueError for a
        position that isn't there."""
        with self._connections.writing() as connection:
            findings.set_flags(connection, flags)

    def set_measures(self, measures: Mapping[str, np.ndarray]) -> None:
        """One float for each position by name, NaN where nothing was measured; other measures stay.

        A value belongs to the texts as they are now: it is missing while a row holds other ones, and there again after
        an undo. Raises ValueError for an array of another length or a name of COLUMNS other than `similarity`.
        """
        with self._connections.writing() as connection:
            findings.set_measures(connection, measures)

    def flags(self) -> dict[str, int]:
        """Rows by finding, without the discarded ones, most first."""
        with self._connections.reading() as connection:
            return findings.flags(connection)

    def measures(self) -> tuple[str, ...]:
        """Names of the measures there are."""
        with self._connections.reading() as connection:
            return findings.measure_names(connection)

    # --- exporting ---

    def exported(self, path: Path, format: str) -> None:
        """Note that the pairs were written to `path`: as they were read by the last `pairs()` that came to its end."""
        with self._connections.writing() as connection:
            as_of = last_action(connection) if self._streamed is None else self._streamed
            connection.execute(
                "INSERT INTO exports(path, format, at, action) VALUES (?, ?, ?, ?)",
                (clean(str(path)), format, now(), as_of),
            )

    def unexported(self) -> int:
        """Actions since the last export, an undo being one too."""
        with self._connections.reading() as connection:
            (as_of,) = connection.execute("SELECT coalesce(max(action), 0) FROM exports").fetchone()
            return int(connection.execute("SELECT count(*) FROM actions WHERE id > ?", (as_of,)).fetchone()[0])


def _unchanged(pair: Pair) -> Pair:
    return pair
