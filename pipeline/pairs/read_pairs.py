"""Pairs of a data file, one at a time; what is no pair is counted and named by its line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.pairs.all_formats import FORMATS, format_of, under_own_names
from pipeline.pairs.format import Format
from pipeline.pairs.pair import Pair
from pipeline.pairs.rated_formats import PKU, read_pku
from pipeline.pairs.turns import NotThisShape
from pipeline.record_files import Record, Unreadable, records

LOOKED_AT = 200  # records that decide on the format of a file
NAMED = 1000  # rows left out that are named; the others are counted
# Columns a table can only hold as JSON text. Answers are not among them: one may well be JSON itself.
_NESTED = ("history", "generations", "ratings", "input")


@dataclass(frozen=True)
class LeftOut:
    """A row that gives no pair. line: from 1. reason: a Record's problem, a NotThisShape's reason, or `not_an_object`,
    `unknown_columns` (detail names them)."""

    line: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Recognised:
    """agreed: how many of the records looked at are in this format. columns: names that stand for others."""

    format: Format
    columns: Mapping[str, str]
    agreed: int
    looked_at: int


def recognise(path: Path, columns: Mapping[str, str] | None = None) -> Recognised | None:
    """The format of most of the first records; None where none is known. Raises Unreadable, OSError."""
    found: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    looked_at = 0
    for record in islice(records(path), LOOKED_AT):
        looked_at += 1
        if (one := format_of(_unpacked(path, record.value), columns)) is not None:
            found[one[0].name, tuple(one[1].items())] += 1
    if not found:
        return None
    (name, renamed), agreed = found.most_common(1)[0]
    return Recognised(FORMATS[name], dict(renamed), agreed, looked_at)


class PairFile:
    """Iterate once for the pairs; what was left out is known afterwards.

    format: a name of FORMATS, None recognises it. columns: names of the file by what they stand for. axis: of PKU's
    two, which decides. Raises Unreadable (also `no_known_columns`) and OSError when iterated.
    """

    def __init__(
        self,
        path: Path,
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        axis: str | None = None,
    ) -> None:
        self.path = path
        self.recognised: Recognised | None = None
        self.left_out: list[LeftOut] = []
        self.reasons: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        """How many pairs were read in each format."""
        self._format = FORMATS[format] if format else None
        self._columns, self._axis = columns, axis

    def __iter__(self) -> Iterator[Pair]:
        renamed = self._columns or {}
        if self._format is None:
            self.recognised = recognise(self.path, self._columns)
            if self.recognised is not None:
                self._format, renamed = self.recognised.format, self.recognised.columns
        for record in records(self.path):
            found = self._pair(record, renamed)
            if isinstance(found, Pair):
                found.line = record.line
                yield found
                continue
            self.reasons[found.reason] += 1
            if len(self.left_out) < NAMED:
                self.left_out.append(found)
        if not self.formats and self._format is None:
            detail = next((one.detail for one in self.left_out if one.reason == "unknown_columns"), self.path.name)
            raise Unreadable("no_known_columns", detail)

    def _pair(self, record: Record, renamed: Mapping[str, str]) -> Pair | LeftOut:
        if record.problem is not None:
            return LeftOut(record.line, record.problem, record.detail)
        if not isinstance(record.value, Mapping):
            return LeftOut(record.line, "not_an_object", type(record.value).__name__)
        value = _unpacked(self.path, record.value)
        failed: NotThisShape | None = None
        if self._format is not None:
            try:
                return self._read(self._format, under_own_names(value, renamed))
            except NotThisShape as reason:
                failed = reason
        other = format_of(value, self._columns)  # files in which several sources were put together
        if other is not None and other[0] is not self._format:
            try:
                return self._read(other[0], under_own_names(value, other[1]))
            except NotThisShape as reason:
                failed = reason
        if failed is None:
            return LeftOut(record.line, "unknown_columns", ", ".join(map(str, islice(value, 12)))[:200])
        return LeftOut(record.line, *map(str, failed.args[:2]))

    def _read(self, format: Format, value: Mapping[str, Any]) -> Pair:
        pair = read_pku(value, self._axis) if format is PKU else format.read(value)
        self.formats[format.name] += 1
        return pair


def _unpacked(path: Path, value: Any) -> Any:
    """A row of a table with the columns that hold JSON text as what they hold."""
    if not isinstance(value, dict) or path.name.lower().removesuffix(".gz")[-4:] not in (".csv", ".tsv"):
        return value
    for name in _NESTED:
        text = value.get(name)
        if isinstance(text, str) and text[:1] in ("[", "{"):
            try:
                held = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if name != "input" or (isinstance(held, dict) and "messages" in held):
                value = {**value, name: held}
    return value
