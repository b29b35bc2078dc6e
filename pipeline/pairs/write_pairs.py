"""Pairs into a file of any format: .json (an indented array), .jsonl, .csv, .parquet; and from one file into another.

The file appears when it is whole: what was there before stays until then, also when it is the one being read.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipeline.pairs.all_formats import FORMATS
from pipeline.pairs.format import CannotHold
from pipeline.pairs.pair import Pair
from pipeline.whole_file import written_whole

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
_BATCH = 1000
_NAMED = 100  # lines of rows left out that are named for each reason


class UnknownSuffix(ValueError):
    """A file name that says none of SUFFIXES."""


@dataclass
class WriteReport:
    """left_out: rows the format has no place for, by reason; lines: where the first of them stand. dropped: columns,
    with the number of rows that had them. replaced: rows with characters that the file type can't hold."""

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    replaced: int = 0


def write_pairs(pairs: Iterable[Pair], path: Path, format: str) -> WriteReport:
    """Write all that `format` can hold. Raises UnknownSuffix, OSError, and what `pairs` raises.

    A format of pairs takes sides that stand apart, as KTO has them, together by their prompt.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnknownSuffix(path.name)
    report = WriteReport()
    if format != "kto":
        pairs = together(pairs)
    rows = _records(pairs, format, report)
    with written_whole(path, mode=0o666) as temporary:
        _WRITERS[suffix](rows, temporary, report)
    return report


def together(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Sides that stand apart under one prompt as pairs, the first wanted with the first unwanted and so on; whole pairs
    as they are. What finds no other side comes last."""
    waiting: dict[str, tuple[deque[Pair], deque[Pair]]] = {}
    for pair in pairs:
        if pair.paired or (pair.chosen is None and pair.rejected is None):
            yield pair
            continue
        key = json.dumps([pair.system, pair.prompt], sort_keys=True, default=str)
        wanted, unwanted = waiting.setdefault(key, (deque(), deque()))
        (wanted if pair.chosen is not None else unwanted).append(pair)
        if wanted and unwanted:
            better, worse = wanted.popleft(), unwanted.popleft()
            better.rejected, better.score_rejected = worse.rejected, worse.score_rejected
            better.extra = {**worse.extra, **better.extra}
            yield better
    for queues in waiting.values():
        for queue in queues:
            yield from queue


def _records(pairs: Iterable[Pair], format: str, report: WriteReport) -> Iterator[dict[str, Any]]:
    write = FORMATS[format].write
    for pair in pairs:
        try:
            written = write(pair)
        except CannotHold as reason:
            name = reason.args[0]
            report.left_out[name] += 1
            lines = report.lines.setdefault(name, [])
            if len(lines) < _NAMED:
                lines.append(pair.line)
            continue
        report.rows += 1
        report.dropped.update(written.dropped)
        for what, there in (("source", pair.source), ("flags", pair.flags)):
            report.dropped[what] += bool(there)
        yield from written.records
    report.dropped = +report.dropped


def _json_text(value: Any, **options: Any) -> str:
    """JSON as people read it; lone surrogates, which UTF-8 has no bytes for, as escapes."""
    text = json.dumps(value, ensure_ascii=False, default=str, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, default=str, **options)
    return text


def _lines(rows: Iterable[Mapping[str, Any]], path: Path, report: WriteReport) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_json_text(row)}\n" for row in rows)


def _array(rows: Iterable[Mapping[str, Any]], path: Path, report: WriteReport) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        between = "[\n"
        for row in rows:
            indented = _json_text(row, indent=2).replace("\n", "\n  ")
            file.write(f"{between}  {indented}")
            between = ",\n"
        file.write("[]\n" if between == "[\n" else "\n]\n")


def _table(rows: Iterable[Mapping[str, Any]], path: Path, report: WriteReport) -> None:
    with _spool(path.parent) as spool:
        names = list(_spooled(rows, spool))
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for row in _again(spool, report):
                writer.writerow([_cell(row.get(name)) for name in names])


def _cell(value: Any) -> Any:
    return _json_text(value) if isinstance(value, (dict, list, bool)) else value


@contextmanager
def _spool(folder: Path) -> Iterator[IO[str]]:
    """Where rows wait, half characters (lone surrogates) as they are."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", dir=folder) as file:
        yield file


def _spooled(rows: Iterable[Mapping[str, Any]], spool: IO[str]) -> dict[str, None]:
    """Puts the rows aside, as only all of them tell which columns there are. Returns those, in order."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
        spool.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    return names


def _again(spool: IO[str], report: WriteReport) -> Iterator[dict[str, Any]]:
    """The rows put aside, with a question mark for what UTF-8 has no bytes for."""
    spool.seek(0)
    for line in spool:
        whole = line.encode("utf-8", "replace")
        report.replaced += whole != line.encode("utf-8", "surrogatepass")
        yield json.loads(whole)


def _parquet(rows: Iterable[Mapping[str, Any]], path: Path, report: WriteReport) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    with _spool(path.parent) as spool:
        names = list(_spooled(rows, spool))
        schema, as_text = arrow.schema([]), set[str]()
        for batch in _batches(_again(spool, WriteReport())):
            for name in names:
                try:  # one kind of value for the whole column, or JSON text of all of them
                    found = arrow.array([row.get(name) for row in batch]).type
                    both = [arrow.schema([(name, found)])]
                    if name in schema.names:
                        both.insert(0, arrow.schema([schema.field(name)]))
                    schema = _with_field(schema, arrow.unify_schemas(both, promote_options="permissive").field(0))
                except (arrow.ArrowInvalid, arrow.ArrowTypeError):
                    as_text.add(name)
        for name in as_text:
            schema = _with_field(schema, arrow.field(name, arrow.string()))
        with parquet.ParquetWriter(path, schema) as writer:
            for batch in _batches(_again(spool, report)):
                for row in batch:
                    row.update({n: _json_text(row[n]) for n in as_text if not isinstance(row.get(n), str | None)})
                writer.write_table(arrow.Table.from_pylist(batch, schema=schema))


def _with_field(schema: Any, field: Any) -> Any:
    at = schema.get_field_index(field.name)
    return schema.append(field) if at < 0 else schema.set(at, field)


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


_WRITERS: dict[str, Callable[[Iterable[Mapping[str, Any]], Path, WriteReport], None]] = {
    ".json": _array, ".jsonl": _lines, ".csv": _table, ".parquet": _parquet,
}  # fmt: skip
