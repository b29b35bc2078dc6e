"""Rows to answer, from the files of the demo."""

from __future__ import annotations

from pathlib import Path

from pipeline.candidates.candidate import SourceRow
from pipeline.instruction_rows import read_rows
from pipeline.pairs.pair import Pair


def source_rows(path: str | Path, count: int | None = None) -> list[SourceRow]:
    """`count` rows of a file, evenly spread, with their right answers."""
    return [
        SourceRow(number, Pair([{"role": "user", "content": row.question}], row.answer, None))
        for number, row in enumerate(read_rows(path, limit=count).rows)
    ]
