"""Lines of a log that are no rows but say what happened: configs/log_messages.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pipeline.config_files import load_config
from pipeline.logs.training_log import Message

MAX_SHOWN = 300
# What stands before an error: rank, time, process, level, the words of the logger, a progress bar that was being drawn.
_BEFORE = re.compile(
    r"""(?:\s|
    \[[^\]\n]{0,80}\](?:<std\w+>)?:?|
    \([^()\n]{0,40}\bpid=[^()\n]{0,40}\)|
    [Rr]ank\s?\d+\s*:?|
    \d{4}[-/]\d\d[-/]\d\d[T ][\d:.,+]+Z?|
    \d{1,4}:(?=\s)|
    [\w.-]{1,60}\s*\|(?=\s)|
    [IWEF]\d{4}\ [\d:.]+\s+\d+\s+[\w./]+:\d+\]|
    (?:ERROR|CRITICAL|FATAL|WARNING|INFO|error|fatal|E)\b(?::[\w.]+)?[:\s]|
    [\w.]+:[\w.<>]+:\d+|
    [\u4e00-\u9fff]{2,12}[:：]|
    [|:>❌🔥-]|
    [^\n]{0,300}?\d/\d+\ \[[^\]\n]{0,200}/(?:it|s|step|batch)[^\]\n]{0,300}\]
    )*""",
    re.VERBOSE,
)
# What was said in a conversation about errors is none.
SPEAKER = re.compile(r"(?i)\W{0,3}(?:user|assistant|human|gpt|bot)\W{0,3}:")


@dataclass(frozen=True)
class _Known:
    """has: literals of which one stands in the line; first: whether the message begins the line, behind a rank or the
    like; otherwise it may stand anywhere."""

    name: str
    has: tuple[bytes, ...]
    matches: re.Pattern[str]
    first: bool


@cache
def _table() -> list[_Known]:
    rows = load_config("log_messages.yaml")
    return [
        _Known(
            name,
            tuple(str(h).encode() for h in (entry["has"] if isinstance(entry["has"], list) else [entry["has"]])),
            re.compile(entry["matches"]),
            bool(entry.get("first")),
        )
        for name, entry in rows.items()
    ]


@cache
def _any() -> re.Pattern[bytes]:
    return re.compile(b"|".join(sorted({re.escape(has) for known in _table() for has in known.has}, reverse=True)))


class MessageCounter:
    """Counts the messages of one log; keeps the first line of each."""

    def __init__(self) -> None:
        self._found: dict[str, Message] = {}

    def look(self, raw: bytes, line: int, row: int) -> bool:
        """One line that may be a message, and whether it is. row: metric rows before it."""
        if _any().search(raw) is None:
            return False
        noted = False
        text = raw[:4000].decode("utf-8", errors="replace").strip()
        if SPEAKER.match(text):
            return False
        begins = _BEFORE.match(text)
        start = begins.end() if begins is not None else 0
        for known in _table():
            if not any(has in raw for has in known.has):
                continue
            if known.matches.match(text, start) if known.first else known.matches.search(text):
                noted = True
                old = self._found.get(known.name)
                self._found[known.name] = (
                    Message(known.name, line, row, 1, text[:MAX_SHOWN])
                    if old is None
                    else Message(known.name, old.line, old.row, old.count + 1, old.text)
                )
        return noted

    def messages(self) -> tuple[Message, ...]:
        """In the order in which they first stood in the log."""
        return tuple(sorted(self._found.values(), key=lambda m: m.line))
