"""Which rows of a workspace are looked at, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.pairs.pair import Status

TextSide = Literal["prompt", "chosen", "rejected", "system"]
TEXT_SIDES: tuple[TextSide, ...] = ("prompt", "chosen", "rejected", "system")

COLUMNS = (
    "prompt_chars", "chosen_chars", "rejected_chars", "length_ratio", "similarity", "score_chosen", "score_rejected",
)  # fmt: skip
"""Columns that ranges, sorting and distributions know without `set_measures`; any measure's name joins them.

*_chars: characters; length_ratio: chosen_chars / rejected_chars; similarity: a measure, all missing until it is set."""


@dataclass(frozen=True)
class View:
    """Rows that fulfil all that is given; as it is, every row in the order of reading.

    search: a part of the text, whatever the case, in any side or in `side` alone. finding: as in Workspace.flags().
    strategy: how the rejected side was made; "" are the rows that don't say. ranges: (least, most) by column, both ends
    included, None leaves one open; a row without the value is in no range. sort: `position` or a column; rows without
    the value come last either way.
    """

    search: str = ""
    finding: str | None = None
    strategy: str | None = None
    status: Status | None = None
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    sort: str = "position"
    descending: bool = False
    side: TextSide | None = None
