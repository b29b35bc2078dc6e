"""Prompts a person wants to see answered: one a line, or rows with or without their answers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from pipeline.instruction_rows import (
    MAX_SCANNED,
    InstructionRow,
    InstructionRows,
    raw_rows,
    read_rows,
    spread,
    turns,
)
from pipeline.record_files import Unreadable, text_lines

PROMPT_KEYS = ("prompt", "instruction", "question", "query", "input", "text", "user", "problem", "问题", "指令")
ROW_FILES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


def read_prompts(path: str | Path, *, limit: int | None = None) -> InstructionRows:
    """Prompts of one file. Rows that hold an answer keep it as gold; the others have an empty `answer`.

    .json, .jsonl, .csv, .parquet: rows, or a list of strings. Anything else: one prompt a line. Problems are those of
    `read_rows`.
    """
    place = Path(path)
    if place.suffix.lower() in ROW_FILES:
        found = read_rows(place, limit=limit)
        if found.problem not in ("no_known_columns", "empty"):
            return found
        try:
            rows = _without_answers(place)
        except (Unreadable, OSError):
            return found
        return InstructionRows(tuple(spread(rows, limit))) if rows else found
    try:
        lines = [line.strip() for line in islice(text_lines(place), MAX_SCANNED)]
    except Unreadable as reason:
        return InstructionRows(problem=reason.args[0], detail=reason.args[1])
    except OSError as failed:
        return InstructionRows(problem="unreadable", detail=f"{place.name}: {failed.strerror or failed}")
    rows = [_row(line, f"{place.name}:{number}") for number, line in enumerate(lines, 1) if line]
    return InstructionRows(tuple(spread(rows, limit)), None if rows else "empty", "" if rows else place.name)


def _row(prompt: str, id: str) -> InstructionRow:
    return InstructionRow(({"role": "user", "content": prompt},), "", id)


def _without_answers(path: Path) -> list[InstructionRow]:
    """Rows of a JSON file or table that only ask."""
    rows = []
    for number, raw in enumerate(islice(raw_rows(path), MAX_SCANNED), 1):
        name = f"{path.name}:{number}"
        if isinstance(raw, str) and raw.strip():
            rows.append(_row(raw.strip(), name))
        elif isinstance(raw, Mapping):
            messages = next((m for key in ("messages", "conversations", "prompt") if (m := turns(raw.get(key)))), None)
            while messages and messages[-1]["role"] == "assistant":
                messages = messages[:-1]
            if messages:
                rows.append(InstructionRow(tuple(messages), "", name))
            else:
                texts = (raw[k].strip() for k in PROMPT_KEYS if isinstance(raw.get(k), str))
                if text := next(filter(None, texts), ""):
                    rows.append(_row(text, name))
    return rows
