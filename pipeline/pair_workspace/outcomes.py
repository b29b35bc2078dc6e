"""What a workspace answers. Times are ISO 8601 in UTC, as in `2026-11-21T01:02:03Z`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.pairs.pair import Pair, Status

Action = Literal["save", "swap", "discard", "accept", "replace", "correct", "undo", "redo", "import"]


class Cancelled(Exception):
    """The import was cancelled; no file was made."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of the workspace, and of each status."""

    total: int
    new: int = 0
    accepted: int = 0
    edited: int = 0
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class RowShown:
    """One line of a list. prompt, chosen, rejected: the first 160 characters of the text, None where there is no such
    side; *_chars: characters of the whole. flags: findings. turns: whether any part is more than one plain text."""

    position: int
    prompt: str
    chosen: str | None
    rejected: str | None
    prompt_chars: int
    chosen_chars: int | None
    rejected_chars: int | None
    score_chosen: float | None
    score_rejected: float | None
    status: Status
    strategy: str
    flags: tuple[str, ...]
    revision: int
    turns: bool


@dataclass(frozen=True, slots=True)
class Held:
    """One row as a whole. revision: 0 as imported. changed_at, editor: of that revision; that of the import is ""."""

    pair: Pair
    revision: int
    position: int
    changed_at: str
    editor: str


@dataclass(frozen=True, slots=True)
class Saved:
    """What was asked now holds, on disk. changed: False where it held before, and nothing was written."""

    position: int
    revision: int
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody was quicker; nothing was written. revision, editor, changed_at, pair: what the row holds now.

    left: of an undo or redo, how many rows of the action were changed since by others (here all of them).
    """

    position: int
    revision: int
    editor: str
    changed_at: str
    pair: Pair
    left: int = 1


@dataclass(frozen=True, slots=True)
class Undone:
    """An action taken back, or done again. action: which kind. rows: put back. left: rows of it that others changed
    since, which stay as they are. position: the first row put back."""

    action: Action
    rows: int
    left: int
    position: int


@dataclass(frozen=True, slots=True)
class Example:
    """A row before and after a bulk action."""

    position: int
    before: Pair
    after: Pair


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """What a bulk action would do. changes, already, left: rows as in BulkDone. examples: the first 5 that change."""

    changes: int
    already: int
    left: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class BulkDone:
    """What a bulk action did. already: rows that were so before. left: rows it can't be done to: a text that doesn't
    hold `find`, a side that isn't there, discarded rows of a view that doesn't ask for them. cancelled: nothing was
    written."""

    changed: int
    already: int
    left: int
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of a row's history. changed: which of prompt, chosen, rejected, system, scores, source, status differ
    from the revision before. rows: how many rows the action changed, more than 1 in bulk."""

    revision: int
    changed_at: str
    editor: str
    action: Action
    changed: tuple[str, ...]
    status: Status
    rows: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram. edges: one more than counts, the last bin holds its upper edge; both empty where no row has a value.
    missing: rows without a finite value."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int
