"""Lines of a log that are no rows but say what happened: configs/log_messages.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pipeline.config_files import load_config
from pipeline.logs.training_log import Message

MAX_SHOWN = 300
MAX_READ = 4000  # bytes of a line: what comes later in it is not looked at
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


# An exception that was raised: `ValueError: `, `torch.OutOfMemoryError: `, the what() of one that ended a C++ program.
RAISED = re.compile(
    r"what\(\):\s|[\w.]*(?:Error|Exception|Conflict|Failure|IsEnabled|Refused)\b(?:\s*[:(]|\s*$)"
    r"|error while loading shared libraries:"
)
_SIGNS_OF_RAISED = (b"Error", b"xception", b"what():", b"Conflict", b"IsEnabled", b"error while loading")


@dataclass(frozen=True)
class _Known:
    """has: literals of which one stands in the line; first: whether the message begins its line, behind a rank or the
    like; raised: whether the line begins with an exception's name; otherwise it may stand anywhere."""

    name: str
    has: tuple[bytes, ...]
    matches: re.Pattern[str]
    first: bool
    raised: bool


@cache
def _table() -> list[_Known]:
    rows = load_config("log_messages.yaml")
    return [
        _Known(
            entry.get("is", name),
            tuple(str(h).encode() for h in (entry["has"] if isinstance(entry["has"], list) else [entry["has"]])),
            re.compile(entry["matches"]),
            bool(entry.get("first")),
            bool(entry.get("raised")),
        )
        for name, entry in rows.items()
    ]


@cache
def _any() -> re.Pattern[bytes]:
    """Matches in every line that says something. As a tree, a third of the time of a plain list of alternatives."""
    literals = {*_SIGNS_OF_RAISED, *(has for known in _table() if not known.raised for has in known.has)}
    return re.compile(_tree(sorted(literals)))


def _tree(literals: Sequence[bytes]) -> bytes:
    """An expression for any of these, common beginnings written once."""
    if b"" in literals:
        return b""
    by_first = {one[:1]: [other[1:] for other in literals if other[:1] == one[:1]] for one in literals}
    branches = [re.escape(first) + _tree(rest) for first, rest in by_first.items()]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


@dataclass(frozen=True)
class _Literals:
    """Literals of rows of the table in one expression. At each place of a line it finds the shortest that begins there;
    rows: by that one, the rows with a literal that begins with it, with their place in the table."""

    finds: re.Pattern[bytes]
    rows: dict[bytes, list[tuple[int, _Known]]]

    def of(self, raw: bytes) -> list[_Known]:
        """Rows of which a literal stands in the line, in the order of the table."""
        near = {number: known for found in set(self.finds.findall(raw)) for number, known in self.rows[found]}
        return [near[n] for n in sorted(near) if any(has in raw for has in near[n].has)]


@cache
def _literals(raised: bool) -> _Literals:
    """Of all rows, or without those that look for the text of exceptions."""
    chosen = [(n, known) for n, known in enumerate(_table()) if raised or not known.raised]
    literals = sorted({has for _, known in chosen for has in known.has})
    shortest = [one for one in literals if not any(one.startswith(o) for o in literals if o != one)]
    rows = {one: [(n, k) for n, k in chosen if any(has.startswith(one) for has in k.has)] for one in shortest}
    return _Literals(re.compile(b"(?=(" + _tree(literals) + b"))"), rows)


@cache
def causes_of_messages() -> Mapping[str, str]:
    """Cause of each message that can end a run, the more telling first."""
    rows = load_config("log_messages.yaml")
    return {entry.get("is", name): str(entry["cause"]) for name, entry in rows.items() if "cause" in entry}


def messages_in(raw: bytes) -> tuple[str, list[str]]:
    """What one line says, as ids of the table without repeats, and its text, decoded and cut."""
    if _any().search(raw) is None:
        return "", []
    text = raw[:MAX_READ].decode("utf-8", errors="replace").strip()
    if SPEAKER.match(text):
        return text, []
    start = beginning(text)
    raised = RAISED.match(text, start) is not None
    found: dict[str, None] = {}
    for known in _literals(raised).of(raw):
        look = known.matches.match if known.first else known.matches.search
        if look(text, start if known.first or known.raised else 0):
            found[known.name] = None
    return text, list(found)


def beginning(text: str) -> int:
    """Where a line begins behind its rank, time, level or progress bar."""
    before = _BEFORE.match(text)
    return before.end() if before is not None else 0


class MessageCounter:
    """Counts the messages of one log; keeps the first line of each."""

    def __init__(self) -> None:
        self._found: dict[str, Message] = {}

    def look(self, raw: bytes, line: int, row: int) -> bool:
        """One line that may be a message, and whether it is. row: metric rows before it."""
        text, found = messages_in(raw)
        for name in found:
            old = self._found.get(name)
            self._found[name] = (
                Message(name, line, row, 1, text[:MAX_SHOWN])
                if old is None
                else Message(name, old.line, old.row, old.count + 1, old.text)
            )
        return bool(found)

    def messages(self) -> tuple[Message, ...]:
        """In the order in which they first stood in the log."""
        return tuple(sorted(self._found.values(), key=lambda m: m.line))
