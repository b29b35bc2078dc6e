"""Tables: CSV and TSV of W&B, Trackio, TensorBoard and of the user's own, a column for each metric or one for all."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pipeline.logs.metric_names import meaning
from pipeline.logs.pasted_table import of_evaluation
from pipeline.logs.raw_text import RawText
from pipeline.logs.row_collector import RowCollector
from pipeline.logs.training_log import Note

DELIMITERS = ",\t;"  # tables with `|` are pasted into texts: pasted_table.py
# W&B names its columns `run - train/loss`, and adds the spread over a group of runs.
_RUN = re.compile(r"^.{1,200}? - (?=\S)")
_SPREAD = re.compile(r"__(?:MIN|MAX)$")
# A table of long form: one column names the metric, another holds its value.
_NAMES = ("metric", "metric_name", "tag", "name", "key")
_VALUES = ("value", "metric_value")
_BATCH = 4096
_MAX_FIELD = 2**20


def looks_like_table(text: bytes, columns: Collection[str] = ()) -> bool:
    """Whether this beginning of a file is a header with a name known here, and a line of as many fields below it.

    columns: further names that count as known."""
    lines = text[:8192].decode("utf-8", errors="replace").split("\n")
    header = lines[0].strip()
    delimiter = _delimiter(header)
    if delimiter is None:
        return False
    names = _cells(header, delimiter)
    if len(names) < 2 or any(len(n) > 200 for n in names) or sum(bool(re.search(r"[:=]\s*[-\d]", n)) for n in names):
        return False
    told = any(n in columns or _plain(n) in columns for n in names)
    if not told and not _long_form(names) and not _is_training([_plain(n) for n in names]):
        return False
    below = next((line for line in lines[1:6] if line.strip()), None)
    return below is None or len(_cells(below, delimiter)) == len(names)


def _is_training(names: Sequence[str]) -> bool:
    """Whether columns of these names are of a training: they bear a step, an epoch or a time that loggers write, or
    several metrics. A column `loss` or `score` beside dates, money or texts is of something else."""
    found = [meaning(name) for name in names if name]
    if any(what.kind == "place" for what in found):
        return True
    return len({what.name for what in found if what.kind in ("metric", "summary")}) > 1


def read_table(path: Path, rows: RowCollector) -> list[Note]:
    """Rows of one table. Columns no table of names knows stay curves under their own name."""
    lines = _lines(path)
    header = next(lines, "").strip("\r\n")
    delimiter = _delimiter(header) or ","
    names = _cells(header, delimiter)
    long_form = _long_form(names)
    keys = [name if name in rows.renamed else _plain(name) for name in names]
    keys = list(of_evaluation(keys)) if not rows.renamed else keys
    if [key.lower() for key in keys] == ["wall time", "step", "value"] and "Value" not in rows.renamed:
        keys = ["wall_time", "step", _metric_of(path)]  # what TensorBoard's page gives for one tag
    before, count = rows.records, len(rows)
    left_out = 0
    csv.field_size_limit(_MAX_FIELD)
    cells = _rows(lines, delimiter)
    rows.tables.append(len(rows))
    while batch := list(islice(cells, _BATCH)):
        records: list[dict[str, object]] = []
        for values in batch:
            if not any(c.isdigit() for v in values for c in v):
                continue
            if len(values) != len(names):
                left_out += any(v.strip() for v in values)
                continue
            if long_form:
                at, value = long_form
                record: dict[str, object] = {values[at]: values[value]}
                record |= {k: v for n, (k, v) in enumerate(zip(keys, values, strict=True)) if n not in long_form and v}
            else:
                record = {k: v.strip() for k, v in zip(keys, values, strict=True) if k and v.strip()}
            if record:
                records.append(record)
        rows.add_records(records)
    rows.records = before + len(rows) - count
    return [Note("rows_left_out", {"file": path.name, "n": left_out})] if left_out else []


def _metric_of(path: Path) -> str:
    """`run-x-tag-train_loss.csv`: the metric a file of one tag is named after; the loss where that tells nothing."""
    name = path.name.split(".")[0].rpartition("tag-")[2]
    return name if meaning(name).kind == "metric" else "loss"


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue


def _plain(name: str) -> str:
    """A column's name without the run it belongs to; empty for the spread of a group of runs."""
    name = name.strip().strip('"')
    return "" if _SPREAD.search(name) else _RUN.sub("", name)


def _long_form(names: Sequence[str]) -> tuple[int, int] | None:
    low = [n.strip().lower() for n in names]
    name = next((low.index(n) for n in _NAMES if n in low), None)
    value = next((low.index(v) for v in _VALUES if v in low), None)
    return (name, value) if name is not None and value is not None else None


def _delimiter(header: str) -> str | None:
    counted = {d: header.count(d) for d in DELIMITERS}
    best = max(counted, key=lambda d: counted[d])
    return best if counted[best] else None


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def _lines(path: Path) -> Iterator[str]:
    raw = RawText()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            yield from io.StringIO(raw.feed(piece).decode("utf-8", errors="replace"))
    yield from io.StringIO(raw.feed(b"", last=True).decode("utf-8", errors="replace"))
