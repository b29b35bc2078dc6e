"""Preference pairs being read and edited: one SQLite file, every edit a revision, several people at once."""

from pipeline.pair_workspace.outcomes import (
    BulkDone,
    BulkPreview,
    Cancelled,
    Conflict,
    Counts,
    Distribution,
    Example,
    Held,
    Revision,
    RowShown,
    Saved,
    Undone,
)
from pipeline.pair_workspace.view import COLUMNS, View
from pipeline.pair_workspace.workspace import Workspace

__all__ = [
    "COLUMNS", "BulkDone", "BulkPreview", "Cancelled", "Conflict", "Counts", "Distribution", "Example", "Held",
    "Revision", "RowShown", "Saved", "Undone", "View", "Workspace",
]  # fmt: skip
