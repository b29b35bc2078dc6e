"""Pairs into a file of any format: .json (an indented array), .jsonl, .csv, .parquet; and from one file into another.

The file appears when it is whole: what was there before stays until then, also when it is the one being read.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipeline.pairs.all_formats import format_named
from pipeline.pairs.column_kinds import Columns, in_utf8, json_text
from pipeline.pairs.format import CannotHold, Format
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
MOST_COLUMNS = 10_000  # of a table, each row of which has all of them
_BATCH = 1000  # rows, of a group of rows in Parquet
_BATCH_BYTES = 32 * 2**20
_DEEPEST = 200  # lists and objects inside of one another
_NAMED = 100  # lines of rows left out that are named for each reason
# Bytes of a .jsonl file. `datasets` takes the columns of the first 10 MB and fails where another column, field or kind
# of value begins later; half of that, as rows may be written longer than they were put aside.
# https://github.com/huggingface/datasets, src/datasets/packaged_modules/json/json.py, chunksize
_LOOKED_AT = 5 * 2**20


class UnknownSuffix(Refused):
    """A file name that says none of SUFFIXES."""

    def __init__(self, path: Path) -> None:
        super().__init__("suffix_unknown", path=path)


@dataclass
class WriteReport:
    """rows: pairs written; columns: of their records, in order. left_out: rows the format has no place for, by reason;
    lines: where the first of them stand, origins: in which file. dropped: columns, with the number of rows that had
    them. replaced: rows with characters that the file type can't hold. as_text: columns where text stands for values
    that no column holds beside one another. in_turns: pairs that can't be text, where the format holds text or turns;
    with one of them all are turns. put_first: records moved to the front, as nothing like them stands in what is read
    of a .jsonl file to know its columns."""

    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    origins: dict[str, list[str]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    replaced: int = 0
    as_text: list[str] = field(default_factory=list)
    in_turns: int = 0
    put_first: int = 0


def write_pairs(
    pairs: Iterable[Pair],
    path: Path,
    format: str,
    *,
    before_replacing: Callable[[WriteReport], None] = lambda report: None,
) -> WriteReport:
    """Write all that `format`, a name or the user's own columns, can hold. Raises UnknownSuffix, UnknownFormat,
    Refused, OSError, and what `pairs` raises.

    A format of pairs takes sides that stand apart, as KTO has them, together by their prompt. before_replacing: called
    when all is written but what was there before is still in its place; where it raises, that stays.
    """
    into = format_named(format)
    if into.kind == "pairs":
        pairs = together(pairs)
    return _written(path, into, lambda rows, report: _put_aside(pairs, into, rows, report), before_replacing)


def write_records(records: Iterable[dict[str, Any]], path: Path) -> WriteReport:
    """Write rows with the columns they have, in the order they come; those nested too deeply are left out. Raises
    UnknownSuffix, Refused, OSError, and what `records` raises."""

    def put(rows: RowsAside, report: WriteReport) -> None:
        for record in records:
            try:
                rows.put([record])
                report.rows += 1
            except CannotHold as reason:
                report.left_out[reason.args[0]] += 1

    return _written(path, None, put, lambda report: None)


def _written(
    path: Path, into: Format | None, put: Callable[[RowsAside, WriteReport], None],
    before_replacing: Callable[[WriteReport], None],
) -> WriteReport:  # fmt: skip
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnknownSuffix(path)
    report = WriteReport()
    place = Path(os.path.realpath(path))  # a link stays one, and what it leads to is written
    with written_whole(place, mode=0o666) as temporary:
        with tempfile.TemporaryFile(dir=place.parent) as file:
            rows = RowsAside(file, into, path)
            put(rows, report)
            rows.settle(report)
            _WRITERS[suffix](rows, temporary)
        report.replaced = rows.replaced
        before_replacing(report)
        with contextlib.suppress(OSError):  # readable for whom it was before
            temporary.chmod(place.stat().st_mode & 0o777)
    return report


def together(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Sides that stand apart under one prompt as pairs, the first wanted with the first unwanted and so on; whole pairs
    as they are. What finds no other side comes last."""
    # Of one prompt only one kind of side waits at a time. The pairs themselves wait on disk.
    waiting: dict[bytes, list[int]] = {}
    with tempfile.TemporaryFile() as aside:
        for pair in pairs:
            if pair.paired or (pair.chosen is None and pair.rejected is None):
                yield pair
                continue
            try:
                question = json.dumps([pair.system, pair.prompt], sort_keys=True, default=str)
                packed = pickle.dumps(pair, pickle.HIGHEST_PROTOCOL)
            except RecursionError:  # nested too deeply to be written anyway
                yield pair
                continue
            key = hashlib.blake2b(question.encode(), digest_size=16).digest()
            held = waiting.setdefault(key, [])
            wanted = pair.chosen is not None
            if not held or (held[0] > 0) == wanted:
                place = aside.seek(0, os.SEEK_END) + 1
                aside.write(packed)
                held.append(place if wanted else -place)
                continue
            other = _set_aside(aside, held.pop(0))
            if not held:
                del waiting[key]
            better, worse = (pair, other) if wanted else (other, pair)
            better.rejected, better.score_rejected = worse.rejected, worse.score_rejected
            better.extra = {**worse.extra, **better.extra}
            yield better
        for held in waiting.values():
            for place in held:
                yield _set_aside(aside, place)


def _set_aside(file: IO[bytes], place: int) -> Pair:
    file.seek(abs(place) - 1)
    pair: Pair = pickle.load(file)  # written a moment ago by `together`, to a file without a name
    return pair


def _put_aside(pairs: Iterable[Pair], format: Format, rows: RowsAside, report: WriteReport) -> None:
    for pair in pairs:
        try:
            written = format.write(pair)
            rows.put(written.records)
        except CannotHold as reason:
            name = reason.args[0]
            report.left_out[name] += 1
            lines = report.lines.setdefault(name, [])
            if len(lines) < _NAMED:
                lines.append(pair.line)
                report.origins.setdefault(name, []).append(pair.origin)
            continue
        report.rows += 1
        report.in_turns += format.in_turns is not None and not written.text
        report.dropped.update(written.dropped)
        for what, there in (("source", pair.source), ("flags", pair.flags), ("status", pair.status != "new")):
            report.dropped[what] += bool(there)
    report.dropped = +report.dropped


class RowsAside:
    """Records that wait on disk, as only all of them tell which columns there are and what these hold."""

    def __init__(self, file: IO[bytes], format: Format | None, path: Path) -> None:
        self._file, self._in_turns, self._path = file, format.in_turns if format is not None else None, path
        self._in_order = format is None  # rows of a data set keep their numbers
        self._suffix = path.suffix.lower()
        self._table = self._suffix in (".csv", ".parquet")
        self._columns = Columns(flat=self._suffix == ".parquet")
        self._size = 0
        self._late: list[int] = []
        self._changes: list[Callable[[dict[str, Any]], dict[str, Any]]] = []
        self.replaced = 0

    def put(self, records: Sequence[dict[str, Any]]) -> None:
        """The records of one pair. Raises CannotHold where they can't be written, Refused for too many columns."""
        try:
            lines = [f"{json_text(record)}\n".encode() for record in records]
        except RecursionError:
            raise CannotHold("nested_too_deeply") from None
        if any(_too_deep(record, line) for record, line in zip(records, lines, strict=True)):
            raise CannotHold("nested_too_deeply")
        for line, record in zip(lines, records, strict=True):
            new = self._columns.add(record)
            if new and self._table and len(self._columns) > MOST_COLUMNS:
                raise Refused("too_many_columns", path=self._path, most=f"{MOST_COLUMNS:,}")
            self._note(new, self._size)
            self._file.write(line)
            self._size += len(line)

    def _note(self, new: bool, at: int) -> None:
        if new and at > _LOOKED_AT and self._suffix == ".jsonl" and not self._in_order:
            self._late.append(at)

    def settle(self, report: WriteReport) -> None:
        """All were put: what the columns hold is known."""
        if self._in_turns is not None and 0 < report.in_turns < report.rows:
            self._changes.append(self._in_turns)
            self._columns, self._late = Columns(flat=self._suffix == ".parquet"), []
            at = 0
            for line in self.lines():
                self._note(self._columns.add(self._in_turns(json.loads(line))), at)
                at += len(line)
        if self._suffix != ".csv":
            fit, report.as_text = self._columns.fit()
            self._changes += [fit] if fit is not None else []
        if self._size < 2 * _LOOKED_AT and not self._changes:
            self._late = []
        report.columns = dict.fromkeys(self._columns.names)
        report.put_first = len(self._late)

    def header(self) -> list[str]:
        """The columns of a table."""
        return [in_utf8(name) for name in self._columns.names]

    def arrow_schema(self) -> Any:
        return self._columns.arrow_schema()

    def lines(self) -> Iterator[bytes]:
        """The records as lines of JSON, as they came: first those with what no record in the first part of the file
        has."""
        self._file.seek(0)
        if not self._late:
            yield from self._file
            return
        for at in self._late:
            self._file.seek(at)
            yield self._file.readline()
        self._file.seek(0)
        late, at = set(self._late), 0
        for line in self._file:
            if at not in late:
                yield line
            at += len(line)

    def unchanged(self) -> bool:
        """Whether the lines are what is to be written."""
        return not self._changes

    def record(self, line: bytes) -> dict[str, Any]:
        """What is to be written of one of the lines."""
        found: dict[str, Any] = json.loads(line)
        for change in self._changes:
            found = change(found)
        if self._table and b"\\ud" in line:  # perhaps half a character
            text = json.dumps(found, ensure_ascii=False)
            whole = in_utf8(text)
            self.replaced += whole != text
            found = json.loads(whole)
        return found


def _too_deep(record: dict[str, Any], line: bytes) -> bool:
    """Whether lists and objects stand in one another so often that json, which calls itself for each, may give up."""
    if line.count(b"[") + line.count(b"{") <= _DEEPEST:
        return False
    levels: list[Any] = [record]
    for _ in range(_DEEPEST):
        held = (value.values() if isinstance(value, dict) else value for value in levels)
        levels = [inner for values in held for inner in values if isinstance(inner, (dict, list, tuple))]
        if not levels:
            return False
    return True


def _lines(rows: RowsAside, path: Path) -> None:
    with open(path, "wb") as file:
        if rows.unchanged():
            file.writelines(rows.lines())
        else:
            file.writelines(f"{json_text(rows.record(line))}\n".encode() for line in rows.lines())


def _array(rows: RowsAside, path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        between = "[\n"
        for line in rows.lines():
            indented = json_text(rows.record(line), indent=2).replace("\n", "\n  ")
            file.write(f"{between}  {indented}")
            between = ",\n"
        file.write("[]\n" if between == "[\n" else "\n]\n")


def _table(rows: RowsAside, path: Path) -> None:
    names = rows.header()
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for line in rows.lines():
            record = rows.record(line)
            writer.writerow([_cell(record.get(name)) for name in names])


def _cell(value: Any) -> Any:
    return json_text(value) if isinstance(value, (dict, list, bool)) else value


def _parquet(rows: RowsAside, path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    schema = rows.arrow_schema()
    with parquet.ParquetWriter(path, schema) as writer:
        for lines in _batches(rows.lines()):
            writer.write_table(arrow.Table.from_pylist([rows.record(line) for line in lines], schema=schema))


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if len(held) == _BATCH or size > _BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


_WRITERS: dict[str, Callable[[RowsAside, Path], None]] = {
    ".json": _array, ".jsonl": _lines, ".csv": _table, ".parquet": _parquet,
}  # fmt: skip
