"""Lines that a logger or a container wrapped in JSON: `{"level": "INFO", "message": "step=10 loss=2.3"}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

_SAID = ("message", "msg", "log", "event")
_NEEDLES = tuple(f'"{key}"'.encode() for key in _SAID)
# What stands beside the words where a logger wrote them, and not in a data set of messages.
_BESIDE = frozenset(
    (
        "level",
        "levelname",
        "severity",
        "stream",
        "timestamp",
        "@timestamp",
        "time",
        "ts",
        "asctime",
        "logger",
        "levelno",
    )
)


def unwrapped(block: bytes, is_judged: Callable[[Mapping[str, Any]], bool]) -> bytes:
    """The same number of lines with the words that such lines wrap. is_judged: whether a record is a row by itself."""
    # one byte first: looking for four words costs a long log of other lines a fifth of its time
    if b'"' not in block or not any(needle in block for needle in _NEEDLES):
        return block
    lines = block.split(b"\n")
    for place, line in enumerate(lines):
        if line[:1] == b"{" and any(needle in line for needle in _NEEDLES) and (said := _said(line, is_judged)):
            lines[place] = said
    return b"\n".join(lines)


def _said(line: bytes, is_judged: Callable[[Mapping[str, Any]], bool]) -> bytes:
    try:
        record = orjson.loads(line)
    except ValueError:
        return b""
    if not isinstance(record, dict) or not _BESIDE & record.keys() or is_judged(record):
        return b""
    said = next((record[key] for key in _SAID if isinstance(record.get(key), str)), "")
    return b" ".join(said.encode(errors="replace").split(b"\n")).strip()
