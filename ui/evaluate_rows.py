"""Rows of a finished evaluation, one JSON object a line: found by their number without reading the others again."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.evaluation.answers_of_rows import RowAnswers

MOST_LINE = 16 * 2**20  # bytes of one row that is looked at
MOST_ROWS = 5_000_000


class LineRows:
    """offsets: where each line begins, 8 bytes a row. wanted: what is kept of all rows while they are read once, by
    name; a number that is none is NaN."""

    def __init__(self, path: Path, wanted: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> None:
        """Raises OSError."""
        self.path = path
        self.offsets = array("q")
        self.numbers: dict[str, array[float]] = {name: array("d") for name in wanted}
        place = 0
        with open(path, "rb") as file:
            for line in file:
                if line.strip() and len(self.offsets) < MOST_ROWS:
                    self.offsets.append(place)
                    row = _object(line) if wanted else {}
                    for name, value in wanted.items():
                        self.numbers[name].append(_number(value(row)))
                place += len(line)

    def __len__(self) -> int:
        return len(self.offsets)

    def row(self, number: int) -> dict[str, Any] | None:
        """The row of this number, from 0; None where there is none. Raises OSError."""
        if not 0 <= number < len(self.offsets):
            return None
        with open(self.path, "rb") as file:
            file.seek(self.offsets[number])
            return _object(file.readline(MOST_LINE)) or None


def _object(line: bytes) -> dict[str, Any]:
    try:
        held = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _number(value: Any) -> float:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if ok else math.nan


@lru_cache(maxsize=4)
def _score_rows(path: Path, changed: int, size: int) -> LineRows:
    return LineRows(path, {name: lambda row, name=name: row.get(name)  # type: ignore[misc]
                           for name in ("score_chosen", "score_rejected", "score")})  # fmt: skip


def score_rows(path: Path) -> LineRows:
    """Rows of `score` with their rewards, read once as long as the file stays as it is. Raises OSError."""
    there = path.stat()
    return _score_rows(path, there.st_mtime_ns, there.st_size)


def answers_in(record: Mapping[str, Any], columns: Mapping[str, str]) -> RowAnswers | None:
    """The prompt and the answers of one row, whatever its format; None where it holds none. columns: what names of it
    stand for."""
    from pipeline.evaluation.answers_of_rows import AnswerRows
    from pipeline.pairs.open_source import OpenSource
    from pipeline.pairs.read_pairs import PairSource
    from pipeline.record_files import Record
    from pipeline.refusal import Refused

    source = OpenSource("row", lambda: PairSource("row", lambda: [Record(1, dict(record))], columns=columns or None))
    try:
        return next(iter(AnswerRows(source)), None)
    except Refused:
        return None


def reason_said(reason: str, lang: str) -> str:
    """Why a row is left out, in words; one that is unknown by its own name."""
    from pipeline.config_files import load_config

    for file, entry in (("formats", "row"), ("evaluation", "score_unscored"), ("evaluation", "score_left_out"),
                        ("interface", "replay_left_out")):  # fmt: skip
        said = load_config(f"words/{lang}/{file}.yaml").get(f"{entry}_{reason}")
        if said:
            return str(said).rstrip(".。")
    return reason.replace("_", " ")
