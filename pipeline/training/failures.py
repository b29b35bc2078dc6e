"""Why a run failed, from the end of its output, and what to change.

What is looked for stands in configs/log_messages.yaml, which the reader of training logs uses too. The output of
several processes is mixed, and the first that fails takes the others with it: the end of the log is searched for the
most telling message, in the order of that table, and of one message the first line counts. What stands before steps
that were still logged was survived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.config_files import load_config
from pipeline.logs.log_messages import MAX_SHOWN, RAISED, beginning, causes_of_messages, messages_in
from pipeline.logs.raw_text import RawText
from pipeline.refusal import Sentence
from pipeline.training.job_folder import Failure

HEAD_BYTES, TAIL_BYTES = 2**16, 2**18
# Lines between two messages of one ending: the frames of a traceback and of a C++ stack stay well below.
_APART = 80
# A process that was killed says nothing after its last line; an error further up than this was survived.
_LAST_LINES = 40
_MAX_COUNTED = 2**31  # bytes whose lines are counted; of a larger log the line number is left at 0
_ATTEMPT = re.compile(r"── attempt \d+, ")  # the supervisor's line before each start
_STEP = re.compile(rb"""['"](?:loss|reward|train_runtime)['"]\s*:""")
_OWN = re.compile(r"(?:\[\w+\]:\s*)?error: (.+)")  # of pipeline.training.run
_OF_LAUNCHERS = ("CalledProcessError", "ChildFailedError", "ProcessExitedException", "ProcessRaisedException")
_SIGNALS = {
    1: "terminated", 2: "interrupted", 4: "aborted", 6: "aborted", 7: "shared_memory", 9: "killed_from_outside",
    11: "segmentation_fault", 15: "terminated", 24: "processor_time", 25: "file_too_large",
}  # fmt: skip
_SUDDEN = (7, 9, 11, 15)  # a traceback in the log was survived: these end a process without one
_STATUSES = {126: "not_writable", 127: "missing_dependency"}
_OTHER_CAUSES = {"killed_from_outside": "out_of_memory"}
GENERIC = "run_crashed"
# Messages beside which a line of Python says more.
_WEAK = frozenset(("traceback", "collective_timeout", "killed", "killed_by_signal", "terminated", "sigterm"))


@dataclass(frozen=True)
class _Said:
    line: int
    text: str
    found: tuple[str, ...]


def classify(log: Path | str, exit_status: int | None, signal: int | None = None) -> Failure | None:
    """Why the last attempt of a run failed; None where it didn't.

    log: the file (Path), or its text. exit_status: of the launcher, negative for a signal, None where not known.
    signal: that ended it, where known by another way. An unreadable log counts as an empty one.
    """
    if exit_status == 0 and not signal:
        return None
    lines = list(_last_attempt(_lines(log)))
    number = signal or _signal_of(exit_status)
    region = _region(lines, number)
    found = _most_telling(region)
    if found is not None and found.message not in _WEAK:
        return found
    own = _own_words(region)
    if own is not None:
        return own
    if found is not None and found.message == "traceback":
        found = _with_exception(found, region)
    if found is not None and (number not in _SUDDEN or found.message != "traceback"):
        return found
    if number in _SIGNALS:
        return _by_signal(_SIGNALS[number], lines)
    if exit_status in _STATUSES:
        return _by_signal(_STATUSES[exit_status], lines)
    if found is not None:
        return found
    return None if exit_status is None and not number else _by_signal("ended_without_word", lines)


def advice(failure: Failure, lang: str) -> str:
    """What to change, one or two sentences; empty where the failure's text says it itself."""
    run = load_config(f"words/{lang}/RUN.yaml")["RUN001"]
    own = load_config(f"words/{lang}/training.yaml")["failures"]
    known = own["fixes"].get(failure.message, run.get(f"fix_{failure.message}"))
    if known is not None:
        return str(known)
    causes = load_config(f"words/{lang}/causes.yaml")
    return str(causes[failure.cause]["fix"]) if failure.cause in causes else str(run["fix"])


class Fields(Protocol):
    """A recipe, as far as advice needs it."""

    @property
    def method(self) -> str: ...

    def get(self, name: str, default: Any = None) -> Any: ...


@dataclass(frozen=True)
class Step:
    """One change of a recipe. fields: the new values by name; before: those it has now."""

    entry: str
    fields: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)

    def said(self, lang: str) -> str:
        changes = ", ".join(f"{k}: {_shown(self.before.get(k))} → {_shown(v)}" for k, v in self.fields.items())
        why = Sentence(f"failures/steps/{self.entry}", {}, "training")
        return Sentence("failures/step", {"changes": changes, "why": why}, "training").said(lang)


def steps(complaint: str, recipe: Fields) -> list[Step]:
    """What to change in this recipe, the change that alters the result least first.

    complaint: `out_of_memory`, `slow` or `not_converging`. Changes that were made already or that don't fit the method
    are left out. Raises KeyError for another complaint.
    """
    made = []
    for row in load_config("training_advice.yaml")[complaint]:
        if recipe.method not in row.get("methods", (recipe.method,)):
            continue
        if any(recipe.get(name) == value for name, value in row.get("unless", {}).items()):
            continue
        if any(recipe.get(name) not in values for name, values in row.get("only_if", {}).items()):
            continue
        before = {name: recipe.get(name) for name in row["change"]}
        after = {name: _after(before[name], change) for name, change in row["change"].items()}
        first = next(iter(after))
        if after[first] is not None and after[first] != before[first]:
            made.append(Step(row["entry"], {k: v for k, v in after.items() if v is not None}, before))
    return made


def _after(now: Any, change: Any) -> Any:
    """The new value; None where there is no number to multiply."""
    if not (isinstance(change, str) and change.startswith("x ")):
        return change
    if isinstance(now, bool) or not isinstance(now, (int, float)) or now <= 0:
        return None
    times = now * float(change[2:])
    return max(1, int(times)) if isinstance(now, int) else float(f"{times:.3g}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# The lines of the log


def _lines(log: Path | str) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of the beginning and the end; carriage returns end lines too, as for the log readers."""
    if isinstance(log, str):
        yield from enumerate(_split(log.encode("utf-8", errors="replace")), 1)
        return
    with suppress(OSError), open(log, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size <= HEAD_BYTES + TAIL_BYTES:
            yield from enumerate(_split(file.read(HEAD_BYTES + TAIL_BYTES)), 1)
            return
        head = file.read(HEAD_BYTES)
        numbered = list(enumerate(_split(head), 1))
        if head[-1:] not in b"\r\n":
            del numbered[-1:]  # it goes on in what is left out
        yield from numbered
        left_out, before = size - TAIL_BYTES - HEAD_BYTES, head[-1:]
        passed = len(numbered)
        while size <= _MAX_COUNTED and left_out > 0 and (piece := file.read(min(left_out, 2**20))):
            passed += _line_ends(before[-1:] + piece) - _line_ends(before[-1:])
            left_out, before = left_out - len(piece), piece
        file.seek(size - TAIL_BYTES)
        tail = file.read(TAIL_BYTES)
        passed -= before[-1:] == b"\r" and tail[:1] == b"\n"  # one line end, cut in two
        for number, line in enumerate(_split(tail)[1:], passed + 2):  # the first one began in what is left out
            yield number if size <= _MAX_COUNTED else 0, line


def _line_ends(piece: bytes) -> int:
    return piece.count(b"\n") + piece.count(b"\r") - piece.count(b"\r\n")


def _split(piece: bytes) -> list[bytes]:
    return RawText().feed(piece, last=True).split(b"\n")[:-1]


def _last_attempt(lines: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """What stands after the last line that says a new start."""
    kept: list[tuple[int, bytes]] = []
    for number, line in lines:
        if b"attempt" in line and _ATTEMPT.match(line.decode("utf-8", errors="replace")):
            kept = []
        else:
            kept.append((number, line))
    return kept


# What ended it


def _region(lines: list[tuple[int, bytes]], number: int | None) -> list[_Said]:
    """The lines of the ending that say something, in order: after the last logged step, without long gaps."""
    last_step = max((at for at, (_, line) in enumerate(lines) if _STEP.search(line)), default=-1)
    # Python's own errors come before the exit; a process that was killed ends in the middle of whatever it said.
    least = max(last_step + 1, len(lines) - _LAST_LINES if number == 9 else 0)
    said: list[_Said] = []
    before = len(lines)
    for at in range(len(lines) - 1, least - 1, -1):
        if said and before - at > _APART:
            break
        line_number, raw = lines[at]
        text, found = messages_in(raw)
        if not text:
            text = raw[:MAX_SHOWN].decode("utf-8", errors="replace").strip()
        if found or RAISED.match(text, beginning(text)) or _OWN.match(text):
            said.append(_Said(line_number, text[:MAX_SHOWN], tuple(found)))
            before = at
    return said[::-1]


def _most_telling(region: list[_Said]) -> Failure | None:
    for name, cause in causes_of_messages().items():
        for said in region:
            if name in said.found:
                return Failure(cause, name, said.line, said.text)
    for said in region:
        if "interrupted" in said.found:
            return Failure(GENERIC, "interrupted", said.line, said.text)
    return None


def _own_words(region: list[_Said]) -> Failure | None:
    """What the training process of this project refused: `error: ` and a sentence that says what to do."""
    for said in region:
        match = _OWN.match(said.text)
        if match and not RAISED.match(match[1]):
            if match[1] == "interrupted":
                return Failure(GENERIC, "interrupted", said.line, said.text)
            return Failure("bad_config", "refused", said.line, match[1])
    return None


def _with_exception(found: Failure, region: list[_Said]) -> Failure:
    """With the exception in place of the line `Traceback`: the first that isn't a launcher's word of another's."""
    for said in region:
        start = beginning(said.text)
        if RAISED.match(said.text, start) and not any(name in said.text for name in _OF_LAUNCHERS):
            return Failure(found.cause, found.message, said.line, said.text)
    return found


def _signal_of(exit_status: int | None) -> int | None:
    if exit_status is None:
        return None
    if exit_status < 0:
        return -exit_status
    return exit_status - 128 if 128 < exit_status < 160 else None


def _by_signal(message: str, lines: list[tuple[int, bytes]]) -> Failure:
    """Nothing but how the process ended is known; the last line is what it had come to."""
    cause = causes_of_messages().get(message) or _OTHER_CAUSES.get(message, GENERIC)
    number, last = next(((n, line) for n, line in reversed(lines) if line.strip()), (0, b""))
    return Failure(cause, message, number, last.decode("utf-8", errors="replace").strip()[:MAX_SHOWN])
