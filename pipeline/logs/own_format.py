"""The form of a log that no reader knows: one regular expression of the user's, or the columns that hold the metrics.

Forms that worked are remembered in the user's data folder and tried where a log holds no loss otherwise. The expression
is input: it runs in the `regex` package, whose searches can be ended after a time (those of `re` can't).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline.data_folder import data_folder
from pipeline.logs.metric_names import Meaning, meaning, plain
from pipeline.logs.row_collector import NAN, as_number
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

MAX_REMEMBERED = 20
MAX_PATTERN = 4000
MAX_COLUMNS = 100
MAX_STORE_BYTES = 2**20
_SECONDS_A_LINE = 0.2  # a sound expression needs microseconds
_SLOW = 0.01
_SECONDS_LOST = 2.0  # all slow searches together; after that the expression is given up


@dataclass(frozen=True)
class OwnFormat:
    """How the user's log is to be read.

    pattern: a regular expression searched in each line; its named groups are `step`, `epoch`, or metrics, `/` written
    as `__` (`(?P<rewards__chosen>\\S+)`). columns: by our name the name of the column, key or tag that holds it.
    Raises `Refused` for an expression that is none, and where neither names a metric.
    """

    pattern: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self._names()
        if not any(what.kind != "place" for what in names.values()):
            if self.pattern or not self.columns:
                raise Refused("pattern_without_metric", pattern=self.pattern)
            raise Refused("columns_without_metric", names=", ".join(self.columns))

    def _names(self) -> dict[str, Meaning]:
        """What each group and each column given stands for."""
        if len(self.pattern) > MAX_PATTERN or len(self.columns) > MAX_COLUMNS:
            raise Refused("pattern_too_long", most=MAX_PATTERN)
        for name, column in self.columns.items():
            if not name.strip() or not column.strip():
                raise Refused("column_wrong", given=f"{name}={column}")
        groups = dict.fromkeys(self.compiled.groupindex) if self.pattern else {}
        return {**{group: _meaning(group) for group in groups}, **self.column_meanings}

    @cached_property
    def compiled(self) -> Any:
        """The expression. Raises `Refused` with what is wrong with it."""
        import regex

        try:
            return regex.compile(self.pattern)
        except (regex.error, RecursionError, OverflowError, MemoryError, ValueError) as wrong:
            raise Refused("pattern_wrong", pattern=self.pattern, why=str(wrong) or type(wrong).__name__) from None

    @cached_property
    def column_meanings(self) -> dict[str, Meaning]:
        """By the column's name what it stands for."""
        return {column.strip(): meaning(name.strip()) for name, column in self.columns.items()}

    @property
    def given(self) -> str:
        """As the user wrote it, for a sentence."""
        parts = [self.pattern] if self.pattern else []
        return " ".join(parts + [f"{name}={column}" for name, column in self.columns.items()])


@dataclass
class PatternSearch:
    """One log's searches with the user's expression. given_up: it took too long on too many lines."""

    own: OwnFormat
    lost: float = 0.0

    @property
    def given_up(self) -> bool:
        return self.lost >= _SECONDS_LOST

    def row(self, line: str) -> tuple[dict[str, float], float, float] | None:
        """(values by our names, step, epoch) of a line, None where the expression doesn't match or finds no number."""
        if self.given_up:
            return None
        began = perf_counter()
        try:
            match = self.own.compiled.search(line, timeout=_SECONDS_A_LINE)
        except TimeoutError:
            match = None
        if (took := perf_counter() - began) > _SLOW:
            self.lost += took
        if match is None:
            return None
        values: dict[str, float] = {}
        places: dict[str, float] = {}
        for group, text in match.groupdict().items():
            number = as_number(text.strip(" ,;")) if text else None
            if number is None:
                continue
            what = _meaning(group)
            (places if what.kind == "place" else values)[what.name] = number
        if not values:
            return None
        return values, places.get("step", NAN), places.get("epoch", NAN)


def _meaning(group: str) -> Meaning:
    """Of a group of the user's expression, whose name can hold no slash."""
    return meaning(group.replace("__", "/"))


def columns_of(given: Sequence[str]) -> dict[str, str]:
    """`NAME=COLUMN` words as a mapping. Raises `Refused` for one of another form."""
    found = {}
    for word in given:
        name, equals, column = word.partition("=")
        if not equals or not plain(name) or not column.strip():
            raise Refused("column_wrong", given=word)
        found[name.strip()] = column.strip()
    return found


def _store() -> Path:
    return data_folder() / "log_formats.json"


def remembered_formats() -> list[OwnFormat]:
    """Forms that worked before, the last one first; an unreadable or damaged store is an empty one."""
    try:
        with open(_store(), "rb") as file:
            rows = json.loads(file.read(MAX_STORE_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    found = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        pattern, columns = row.get("pattern", ""), row.get("columns", {})
        if isinstance(pattern, str) and isinstance(columns, dict) and all(isinstance(c, str) for c in columns.values()):
            with contextlib.suppress(Refused):
                found.append(OwnFormat(pattern, columns))
    return found[:MAX_REMEMBERED]


def remember(own: OwnFormat) -> bool:
    """Puts a form first among those remembered. False where the data folder can't be written."""
    kept = [own, *(f for f in remembered_formats() if (f.pattern, dict(f.columns)) != (own.pattern, dict(own.columns)))]
    rows = [{"pattern": f.pattern, "columns": dict(f.columns)} for f in kept[:MAX_REMEMBERED]]
    path = _store()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
        return True
    except (OSError, ValueError):
        return False
