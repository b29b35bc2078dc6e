"""Pairs of a data file, one at a time; what is no pair is counted and named by its line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.pairs.all_formats import Found, format_named, format_of, under_own_names
from pipeline.pairs.format import Format, Kind
from pipeline.pairs.pair import Pair
from pipeline.pairs.rated_formats import PKU, read_pku
from pipeline.pairs.turns import NotThisShape
from pipeline.record_files import Record, Unreadable, records
from pipeline.refusal import Sentence

LOOKED_AT = 200  # records that decide on the format of a file
PROMPT_ALONE = "prompt"  # what rows without an answer are counted as, where they are wanted
_LACKING = ("side_absent", "label_absent")  # what makes a row of preference data look like a supervised one
NAMED = 1000  # rows left out that are named, beside the first for each reason; the others are counted
# Columns a table can only hold as JSON text. Answers are not among them: one may well be JSON itself.
_NESTED = ("history", "generations", "ratings", "input")


@dataclass(frozen=True)
class LeftOut:
    """A row that gives no pair. line: from 1. reason: a Record's problem, a NotThisShape's reason, or `not_an_object`,
    `unknown_columns` (detail names them), `supervised_row` among preference data, `preference_row` among supervised."""

    line: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Recognised:
    """agreed: how many of the records looked at are in this format. columns: names that stand for others. reason: why
    the first of those records is in it."""

    format: Format
    columns: Mapping[str, str]
    agreed: int
    looked_at: int
    reason: Sentence


def recognise(path: Path, columns: Mapping[str, str] | None = None) -> Recognised | None:
    """The format of most of the first records; None where none is known. Raises Unreadable, OSError."""
    return _most_common((_unpacked(path, record.value) for record in records(path)), columns)


def _most_common(values: Iterable[Any], columns: Mapping[str, str] | None) -> Recognised | None:
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    first: dict[tuple[str, tuple[tuple[str, str], ...]], Found] = {}
    looked_at = 0
    for value in islice(values, LOOKED_AT):
        looked_at += 1
        if (one := format_of(value, columns)) is not None:
            key = (one.format.name, tuple(one.columns.items()))
            counts[key] += 1
            first.setdefault(key, one)
    if not counts:
        return None
    key, agreed = counts.most_common(1)[0]
    return Recognised(first[key].format, first[key].columns, agreed, looked_at, first[key].reason)


class PairSource:
    """Iterate for the pairs; what was left out is known afterwards. Rows of supervised data have no `rejected`.

    open: the records, anew at each call. format: a name of EVERY_FORMAT, None recognises it. columns: what names of
    the source stand for. axis: of PKU's two, which decides, as in read_pku. prepare: done to each record that is an
    object. Raises UnknownFormat, and when iterated Unreadable (also `no_known_columns`, and `empty` for no record at
    all) and OSError.
    """

    def __init__(
        self,
        name: str,
        open: Callable[[], Iterable[Record]],
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        axis: str | None = None,
        prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.name = name
        self.recognised: Recognised | None = None
        self.left_out: list[LeftOut] = []
        self.reasons: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        """How many pairs were read in each format."""
        self.absent = set(columns or ())
        """Columns given that no record had so far."""
        self.otherwise: Callable[[Any], Pair | None] | None = None
        """Reads what is no pair and no supervised row: rows without an answer, for whoever has a use for them. They
        count as the format `prompt`."""
        self.records = open
        """All records from the beginning; may be set to what takes them from the source in another way."""
        self._format = format_named(format) if format else None
        self._columns, self._axis, self._prepare = columns, axis, prepare

    @property
    def format(self) -> Format | None:
        """The one given or that of most of the first rows; None where none is known. Raises Unreadable, OSError."""
        self._look()
        return self._format

    @property
    def kind(self) -> Kind | None:
        """What the rows of that format hold."""
        return self.format.kind if self.format is not None else None

    def _look(self) -> None:
        if self._format is None:
            self.recognised = _most_common((self._prepared(record.value) for record in self.records()), self._columns)
            self._format = self.recognised.format if self.recognised is not None else None

    def __iter__(self) -> Iterator[Pair]:
        return (found for _, found in self.with_records() if isinstance(found, Pair))

    def with_records(self) -> Iterator[tuple[Record, Pair | LeftOut]]:
        """Every record of the source beside its pair, or beside why it is none. Raises as iterating does."""
        self._look()
        renamed = self.recognised.columns if self.recognised is not None else self._columns or {}
        for record in self.records():
            found = self._pair(record, renamed)
            if isinstance(found, LeftOut) and self.otherwise is not None and found.reason != "axes_disagree":
                found = self._asked(record.value, self.otherwise) or found
            if isinstance(found, Pair):
                found.line, found.origin = record.line, self.name
                yield record, found
                continue
            self.reasons[found.reason] += 1
            if len(self.left_out) < NAMED or self.reasons[found.reason] == 1:
                self.left_out.append(found)
            yield record, found
        if not self.formats and not self.reasons:
            raise Unreadable("empty", self.name)
        if not self.formats and self._format is None:
            detail = next((one.detail for one in self.left_out if one.reason == "unknown_columns"), self.name)
            raise Unreadable("no_known_columns", detail)

    def _asked(self, value: Any, read: Callable[[Any], Pair | None]) -> Pair | None:
        value = self._prepared(value)
        if isinstance(value, dict) and (given := {k: v for k, v in (self._columns or {}).items() if k in value}):
            value = under_own_names(value, given)
        pair = read(value)
        if pair is not None:
            self.formats[PROMPT_ALONE] += 1
        return pair

    def _prepared(self, value: Any) -> Any:
        return self._prepare(value) if self._prepare is not None and isinstance(value, dict) else value

    def _pair(self, record: Record, renamed: Mapping[str, str]) -> Pair | LeftOut:
        if record.problem is not None:
            return LeftOut(record.line, record.problem, record.detail)
        if not isinstance(record.value, Mapping):
            return LeftOut(record.line, "not_an_object", type(record.value).__name__)
        value = self._prepared(record.value)
        self.absent -= self.absent and value.keys()
        failed: NotThisShape | None = None
        if self._format is not None:
            try:
                return self._read(self._format, under_own_names(value, renamed) if renamed else value)
            except NotThisShape as reason:
                failed = reason
        other = format_of(value, self._columns)  # files in which several sources were put together
        if other is not None and other.format is not self._format:
            if self._format is not None and (strange := _strange(self._format, other.format)) is not None:
                if failed is not None and failed.args[0] in _LACKING:
                    return LeftOut(record.line, *map(str, failed.args[:2]))
                return LeftOut(record.line, strange, other.format.name)
            try:
                return self._read(other.format, under_own_names(value, other.columns))
            except NotThisShape as reason:
                failed = reason
        if failed is None:
            return LeftOut(record.line, "unknown_columns", ", ".join(map(str, islice(value, 12)))[:200])
        return LeftOut(record.line, *map(str, failed.args[:2]))

    def _read(self, format: Format, value: Mapping[str, Any]) -> Pair:
        pair = read_pku(value, self._axis) if format is PKU else format.read(value)
        self.formats[format.name] += 1
        return pair


def _strange(ours: Format, other: Format) -> str | None:
    """Why a row of another format has no place beside the others; None where it has one."""
    if (ours.kind == "supervised") == (other.kind == "supervised"):
        return None
    return "supervised_row" if other.kind == "supervised" else "preference_row"


class PairFile(PairSource):
    """Pairs of one file: .json, .jsonl, .csv, .tsv, .parquet. The options are those of PairSource."""

    def __init__(
        self,
        path: Path,
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        axis: str | None = None,
        prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.path = path
        super().__init__(
            path.name, lambda: records(path), format=format, columns=columns, axis=axis, prepare=prepare
        )

    def _prepared(self, value: Any) -> Any:
        return super()._prepared(_unpacked(self.path, value))


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
