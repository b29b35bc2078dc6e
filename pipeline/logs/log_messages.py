"""Lines of a log that are no rows but say what happened: configs/log_messages.yaml."""

from __future__ import annotations

import re
from functools import cache

from pipeline.config_files import load_config
from pipeline.logs.training_log import Message

MAX_SHOWN = 300


@cache
def _table() -> list[tuple[str, bytes, re.Pattern[str]]]:
    """(id, a literal that must stand in the line, the expression that decides)."""
    rows = load_config("log_messages.yaml")
    return [(name, str(entry["has"]).encode(), re.compile(entry["matches"])) for name, entry in rows.items()]


@cache
def _any() -> re.Pattern[bytes]:
    return re.compile(b"|".join(sorted({re.escape(has) for _, has, _ in _table()}, reverse=True)))


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
        for name, has, pattern in _table():
            if has in raw and pattern.search(text):
                noted = True
                old = self._found.get(name)
                self._found[name] = (
                    Message(name, line, row, 1, text[:MAX_SHOWN])
                    if old is None
                    else Message(name, old.line, old.row, old.count + 1, old.text)
                )
        return noted

    def messages(self) -> tuple[Message, ...]:
        """In the order in which they first stood in the log."""
        return tuple(sorted(self._found.values(), key=lambda m: m.line))
