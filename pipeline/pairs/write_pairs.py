"""Pairs into a file of any format: .json (an indented array), .jsonl, .csv, .parquet; and from one file into another.

The file appears when it is whole: what was there before stays until then, also when it is the one being read.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipeline.pairs.all_formats import format_named
from pipeline.pairs.format import CannotHold, Format
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
_BATCH = 1000
_NAMED = 100  # lines of rows left out that are named for each reason


class UnknownSuffix(Refused):
    """A file name that says none of SUFFIXES."""

    def __init__(self, path: Path) -> None:
        super().__init__("suffix_unknown", path=path)


@dataclass
class WriteReport:
    """rows: pairs written; columns: of their records, in order. left_out: rows the format has no place for, by reason;
    lines: where the first of them stand, origins: in which file. dropped: columns, with the number of rows that had
    them. replaced: rows with characters that the file type can't hold."""

    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    origins: dict[str, list[str]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    replaced: int = 0


def write_pairs(
    pairs: Iterable[Pair],
    path: Path,
    format: str,
    *,
    before_replacing: Callable[[WriteReport], None] = lambda report: None,
) -> WriteReport:
    """Write all that `format`, a name or the user's own columns, can hold. Raises UnknownSuffix, UnknownFormat,
    OSError, and what `pairs` raises.

    A format of pairs takes sides that stand apart, as KTO has them, together by their prompt. before_replacing: called
    when all is written but what was there before is still in its place; where it raises, that stays.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnknownSuffix(path)
    report = WriteReport()
    into = format_named(format)
    if into.kind == "pairs":
        pairs = together(pairs)
    with written_whole(path, mode=0o666) as temporary:
        _WRITERS[suffix](_records(pairs, into, report), temporary, report)
        before_replacing(report)
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
            question = json.dumps([pair.system, pair.prompt], sort_keys=True, default=str)
            key = hashlib.blake2b(question.encode(), digest_size=16).digest()
            held = waiting.setdefault(key, [])
            wanted = pair.chosen is not None
            if not held or (held[0] > 0) == wanted:
                place = aside.seek(0, os.SEEK_END) + 1
                pickle.dump(pair, aside, pickle.HIGHEST_PROTOCOL)
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


def _records(pairs: Iterable[Pair], format: Format, report: WriteReport) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        try:
            written = format.write(pair)
        except CannotHold as reason:
            name = reason.args[0]
            report.left_out[name] += 1
            lines = report.lines.setdefault(name, [])
            if len(lines) < _NAMED:
                lines.append(pair.line)
                report.origins.setdefault(name, []).append(pair.origin)
            continue
        report.rows += 1
        for record in written.records:
            report.columns.update(dict.fromkeys(record))
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
