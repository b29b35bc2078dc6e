"""Logs that are one JSON document: trainer_state.json, a bare list of records, or an object of columns.

The records are read one after another, so a file that was cut off while it was written gives all that is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.json_file import collector_paused
from pipeline.logs.raw_text import RawText
from pipeline.logs.row_collector import RowCollector, as_number
from pipeline.logs.training_log import Note

# Where the records stand in the objects that are known: transformers, Trackio, plain dumps.
LISTS = (
    "log_history",
    "history",
    "logs",
    "metrics",
    "rows",
    "data",
    "records",
    "entries",
    "training_history",
    "steps",
    "episodes",
)
# trainer_state.json: fields of the run, by the setting they tell.
FIELDS = {
    "max_steps": "max_steps",
    "num_train_epochs": "num_train_epochs",
    "train_batch_size": "per_device_train_batch_size",
    "logging_steps": "logging_steps",
    "global_step": "end_step",
    "epoch": "end_epoch",
    "eval_steps": "eval_steps",
}
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[\s,]*")
_KEY = re.compile(r'"((?:[^"\\]|\\.){1,200})"\s*:\s*')
_BLOCK = 2**16
MAX_DOCUMENT = 2**30  # bytes


def looks_like_document(text: bytes) -> bool:
    """Whether this beginning of a file is one JSON document and not lines of records."""
    start = text.lstrip()
    if start[:1] == b"[":
        return re.match(rb"\[\s*[{\]]", start) is not None
    if start[:1] != b"{":
        return False
    line, _, rest = start.partition(b"\n")
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError):
        # the first line is no whole object: a document over several lines, or one of a single long line
        return re.match(rb'\{\s*(?:"(?:[^"\\]|\\.)*"\s*:|$)', start) is not None and b"': " not in line
    if rest.strip():
        return False
    return isinstance(whole, dict) and any(isinstance(v, (list, dict)) for v in whole.values())


def read_history(path: Path, rows: RowCollector) -> tuple[list[Note], str]:
    """Records of the document into `rows`; (what is to be said of the reading, name of the format), which is `lines`
    where it is no document but records one a line."""
    notes: list[Note] = []
    text = _text(path, notes)
    start = _BLANK.match(text).end()  # type: ignore[union-attr]
    if text[start : start + 1] == "[":
        whole = _add(rows, _records(text, start + 1))
        if not whole:
            notes.append(Note("truncated", {"file": path.name, "n": rows.records}))
        return notes, "json_list"
    fields: dict[str, Any] = {}
    found_list = False
    at = text.find("{", start) + 1
    whole = False
    while at > 0:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == "}":
            whole = True
            break
        key = _KEY.match(text, at)
        if key is None:
            break
        at = key.end()
        if key[1] in LISTS and re.compile(r"\[\s*[{\]]").match(text, at):
            ended: list[int] = []
            complete = _add(rows, _records(text, at + 1, ended))
            found_list = True
            if not complete:
                break
            at = ended[0]
            continue
        try:
            fields[key[1]], at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
    if whole and not found_list and text[at + 1 : at + 1000].lstrip()[:1] == "{":
        return [], "lines"  # the first of many records, longer than what the format was told by
    for key_name, setting in FIELDS.items():
        number = as_number(fields.get(key_name))
        if number is not None and number == number:
            rows.settings.setdefault(setting, number)
    if not found_list:
        _columns(fields, rows)
    if not whole:
        notes.append(Note("truncated", {"file": path.name, "n": rows.records}))
    return notes, "trainer_state" if found_list and (
        "global_step" in fields or "log_history" in text[:4000]
    ) else "json_object"


def _text(path: Path, notes: list[Note]) -> str:
    """The whole document; of one larger than MAX_DOCUMENT its beginning."""
    raw = RawText(max_line=MAX_DOCUMENT)
    parts: list[bytes] = []
    size = 0
    with open(path, "rb") as file:
        while piece := file.read(_BLOCK):
            parts.append(raw.feed(piece))
            size += len(piece) + len(parts[-1])
            if raw.too_much or size > 2 * MAX_DOCUMENT:
                notes.append(Note("unpacks_to_too_much" if raw.too_much else "document_cut", {"file": path.name}))
                break
    parts.append(raw.feed(b"", last=True))
    return b"".join(parts).decode("utf-8", errors="replace")


def _records(text: str, at: int, ended: list[int] | None = None) -> Iterator[dict[str, Any] | None]:
    """Objects of an array that begins before `at`; None at the end of one that is cut off."""
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == "]":
            if ended is not None:
                ended.append(at + 1)
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield None
            return
        if isinstance(value, dict):
            yield value


def _add(rows: RowCollector, records: Iterator[dict[str, Any] | None]) -> bool:
    """Puts all records into `rows`; whether the list came to its end."""
    batch: list[dict[str, Any]] = []
    whole = True
    with collector_paused():
        for record in records:
            if record is None:
                whole = False
                break
            batch.append(record)
            if len(batch) >= 4096:
                rows.add_records(batch)
                batch = []
    rows.add_records(batch)
    return whole


def _columns(fields: dict[str, Any], rows: RowCollector) -> None:
    """`{"loss": [..], "eval_loss": [..], "step": [..]}`, also below one more key; records as values of an object."""
    for value in fields.values():
        if isinstance(value, dict) and any(isinstance(v, list) for v in value.values()):
            _columns(value, rows)
    lists = {k: v for k, v in fields.items() if isinstance(v, list) and v and not isinstance(v[0], (dict, list))}
    longest = max((len(v) for v in lists.values()), default=0)
    for place in range(longest):
        rows.add_records([{k: v[place] for k, v in lists.items() if place < len(v)}])
    if not lists:
        flat = [v for v in fields.values() if isinstance(v, dict)]
        if flat and len(flat) == len(fields):
            rows.add_records(flat)
        else:
            rows.add_records([{k: v for k, v in fields.items() if not isinstance(v, (dict, list))}])
