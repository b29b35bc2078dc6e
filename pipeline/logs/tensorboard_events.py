"""TensorBoard event files: scalars by tag. Read without TensorFlow; the format is documented and small.

Source: https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto and summary.proto;
records are framed as in tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from pipeline.logs.row_collector import NAN, RowCollector
from pipeline.logs.training_log import Note

HEADER = 12  # length and its checksum
MAX_RECORD = 2**28
_FILE_VERSION = b"brain.Event:"


class _Damaged(Exception):
    """Bytes that are no protocol buffer."""


def looks_like_events(first: bytes) -> bool:
    """Whether a file begins with a record that names the format, as every writer puts there."""
    if len(first) < HEADER:
        return False
    (length,) = struct.unpack_from("<Q", first)
    return 0 < length < 1024 and _FILE_VERSION in first[HEADER : HEADER + length]


def read_events(path: Path, rows: RowCollector) -> list[Note]:
    """Scalars of one event file into `rows`: those of one step and one writing make one row."""
    values: dict[str, float] = {}
    at, time = NAN, NAN
    ended = NAN  # step at which the Trainer wrote its summary
    notes: list[Note] = []
    evaluates = summary = False
    for record in _records(path, notes):
        try:
            when, step, scalars = _event(record)
        except _Damaged:
            if not any(note.id == "damaged_events" for note in notes):
                notes.append(Note("damaged_events", {"file": path.name}))
            continue
        for tag, value in scalars:
            what = rows.meaning(tag)
            if what.kind in ("summary", "speed", "place"):
                summary = summary or tag.endswith("train_runtime")
                if what.name == "epoch":  # the Trainer logs the epoch as a curve of its own
                    values.setdefault("\0epoch", value)
                elif what.kind == "summary":
                    ended = step
                continue
            if tag == "train/train_loss" and step == ended:
                continue  # the mean over the whole run, which stands in the summary too
            name = what.name
            if step != at or name in values or (values and name.startswith("eval_") != evaluates):
                _add(rows, values, at, time)
                values, at, time = {}, step, when
            values[name] = value
            evaluates = name.startswith("eval_")
    rows.records += summary  # the means at the end are a record too
    _add(rows, values, at, time)
    return notes


def _add(rows: RowCollector, values: dict[str, float], step: float, time: float) -> None:
    epoch = values.pop("\0epoch", NAN)
    if values:
        rows.records += 1
        rows.add(values, step, epoch, time)


def _records(path: Path, notes: list[Note]) -> Iterator[bytes]:
    """Bodies of the records; a file that ends inside one gives all before it."""
    with open(path, "rb") as file:
        while header := file.read(HEADER):
            if len(header) < HEADER:
                break
            (length,) = struct.unpack_from("<Q", header)
            if length > MAX_RECORD:
                notes.append(Note("damaged_events", {"file": path.name}))
                return
            body = file.read(length + 4)
            if len(body) < length + 4:
                break
            yield body[:length]
        else:
            return
    notes.append(Note("truncated", {"file": path.name, "n": 0}))


def _event(record: bytes) -> tuple[float, float, list[tuple[str, float]]]:
    """(seconds since 1970, step, [(tag, value)]) of one event."""
    when, step = NAN, 0.0
    scalars: list[tuple[str, float]] = []
    for number, value in _fields(record):
        if number == 1 and isinstance(value, bytes) and len(value) == 8:
            (when,) = struct.unpack("<d", value)
        elif number == 2 and isinstance(value, int):
            step = float(value - 2**64 if value >= 2**63 else value)
        elif number == 5 and isinstance(value, bytes):
            for inner, summary in _fields(value):
                if inner == 1 and isinstance(summary, bytes):
                    scalar = _scalar(summary)
                    if scalar is not None:
                        scalars.append(scalar)
    return when, step, scalars


def _scalar(summary: bytes) -> tuple[str, float] | None:
    tag, found = "", None
    for number, value in _fields(summary):
        if number == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", errors="replace")
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            (found,) = struct.unpack("<f", value)
        elif number == 8 and isinstance(value, bytes):
            found = _tensor(value)
    return (tag, found) if tag and found is not None else None


def _tensor(tensor: bytes) -> float | None:
    """The value of a tensor that holds one number; newer writers store scalars so. None for text and histograms."""
    dtype, content, shaped = 0, b"", False
    for number, value in _fields(tensor):
        if number == 1 and isinstance(value, int):
            dtype = value
        elif number == 2 and isinstance(value, bytes):
            shaped = len(value) > 0
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in (5, 6) and isinstance(value, bytes) and len(value) == (4 if number == 5 else 8):
            return float(struct.unpack("<f" if number == 5 else "<d", value)[0])
    kinds = {1: ("<f", 4), 2: ("<d", 8), 3: ("<i", 4), 9: ("<q", 8)}
    if dtype in kinds and len(content) == kinds[dtype][1] and not shaped:
        return float(struct.unpack(kinds[dtype][0], content)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protocol buffer: varints as int, everything else as bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 1:
            size = 8
        elif kind == 2:
            size, at = _varint(message, at)
        elif kind == 5:
            size = 4
        else:
            raise _Damaged
        if at + size > end:
            raise _Damaged
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise _Damaged
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
