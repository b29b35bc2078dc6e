"""Lines that are alike but for their numbers.

Learned from lines that were understood word by word, then matched over whole blocks at once.

A form is a regular expression: the words of the line literally, its numbers as numbers, those that mean something
captured. It is made from what the slow way understood, so both give the same rows; which way a line takes depends on
how blocks are cut, what is read does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from typing import Any

import numpy as np
import orjson

from pipeline.logs.line_slots import NUMBER, TIME, TQDM, Slot
from pipeline.logs.row_collector import RowBlock
from pipeline.logs.training_log import Floats

MAX_FORMS = 12
_LEARN_AFTER = 6
_LEARN_TRIES = 30_000  # lines looked at without learning from any before no more are
_LONGEST = 3000
# Possessive, so that nothing is tried twice: a line that doesn't match is left after one pass.
_NUMBER = rb"[-+]?+(?:[\d.]++(?:[eE][-+]?\d++)?+|(?:nan|NaN|NAN|Nan|inf|Inf|INF)(?:inity)?+)"
# The same where nothing of a number can follow: a third faster. What only looks like a number is found out later.
_NUMBER_FAST = rb"[-+.\dAEFINaefnity]++"
_TIME = rb"\d{4}[-/]\d\d[-/]\d\d[ T_]\d\d:\d\d:\d\d(?:[,.]\d{1,6})?+"
_OF_NUMBERS = frozenset("+-.")
_BLANKS = rb"[ \t]*+"
# What tqdm draws, up to its rate; behind that may stand further values.
_BAR_HEAD = (
    rb"[ \t]*+\d{1,3}%\|[^|\n]*+\|[ \t]++(\d++)/(\d++) \[[\d:?]++<[\d:?]++, *+"
    rb"(?:\d[\d.]*+|\?) ?(?!(?:examples|files|shards|[kKMG]?i?B)/s)[A-Za-z]{1,12}/[A-Za-z]{1,12}"
)
# The same that steps back, for texts that were decoded.
BAR_HEAD = re.compile(re.sub(r"(?<=[*+])\+", "", _BAR_HEAD.decode()))
_BAR_LINE = rb"(?:[A-Za-z][A-Za-z ]{0,40}: *+)?+" + _BAR_HEAD + rb"\][ \t]*+"


@dataclass
class Form:
    """One form of lines. slots: (what it means, number of the group); bar, time: groups of the progress bar's step and
    of the time; trains: such a line shows that no evaluation runs; judged: it holds more than a learning rate."""

    source: bytes
    kind: str
    groups: int
    slots: tuple[tuple[Slot, int], ...] = ()
    bar: int | None = None
    time: int | None = None
    trains: bool = False
    judged: bool = False
    used: int = 0


Bars = tuple[Any, Any, Any]  # lines of a block, the steps that progress bars show there, their totals


@dataclass(frozen=True)
class Part:
    """The lines of one form in a block. index: (size,) their places among its lines, None for all of them; columns:
    numbers by group, None for a group that holds none."""

    form: Form
    index: Any
    columns: Sequence[Any]
    size: int

    def without(self, taken: Collection[int], count: int) -> Part:
        """The same without some lines of the block."""
        index = self.places(count)
        kept = ~np.isin(index, list(taken))
        columns = [None if column is None else column[kept] for column in self.columns]
        return Part(self.form, index[kept], columns, int(kept.sum()))

    def places(self, count: int) -> Any:
        """(size,) places of the lines in a block of `count` lines."""
        return np.arange(count) if self.index is None else self.index

    def moved(self, places: Any) -> Part:
        """The same among more lines. places: by line of the smaller block its place in the larger one."""
        return Part(self.form, places if self.index is None else places[self.index], self.columns, self.size)

    def bars(self, count: int) -> Bars:
        """What the progress bars in these lines show."""
        assert self.form.bar is not None
        return self.places(count), self.columns[self.form.bar], self.columns[self.form.bar + 1]

    def rows(self, at: Any, bar: Any) -> RowBlock:
        """One row for each line."""
        places: dict[str, Any] = {}
        metrics: dict[str, tuple[Any, Any]] = {}
        for slot, group in self.form.slots:
            numbers = self.columns[group] / 100 if slot.percent else self.columns[group]
            if slot.place:
                places[slot.place] = numbers
            else:
                metrics[slot.name] = (None, numbers)
        time = None if self.form.time is None else self.columns[self.form.time]
        return RowBlock(at, metrics, places.get("step"), places.get("epoch"), time, bar)


@dataclass(frozen=True)
class Matched:
    """What the forms find in a text. count: lines; parts: (place of the form, lines it took, columns, how many) of each
    form that stands there; rest: lines of no form by their place."""

    count: int
    parts: Sequence[tuple[int, Any, Sequence[Any], int]]
    rest: Mapping[int, bytes]


class LineForms:
    """The forms learned so far and one expression that matches all of them. version: grows with every form."""

    def __init__(self) -> None:
        self.version = 0
        self.forms: list[Form] = []
        self.places: list[tuple[Form, int]] = []
        self.pattern: re.Pattern[bytes] = re.compile(rb"^(.*)$", re.MULTILINE)
        self._seen: dict[bytes, int] = {}
        self._clock = 0
        self._tries = 0
        self._bar_known = False

    def _next(self) -> int:
        """The next moment of a clock that tells which forms were used last."""
        self._clock += 1
        return self._clock

    def matched(self, text: bytes) -> Matched | None:
        """All lines of `text`, which ends with a line end; None where something is a number to a form only."""
        found = self.pattern.findall(text)
        found.pop()  # what is behind the last line end
        columns = list(zip(*found, strict=True)) if self.forms and found else [found]
        try:
            parts = self.parts(columns) if len(columns) > 1 else []
        except ValueError:
            return None
        last = columns[-1]
        slow = list(compress(range(len(found)), last)) if any(last) else []
        places = {id(form): place for place, form in enumerate(self.forms)}
        return Matched(
            len(found),
            [(places[id(part.form)], part.index, part.columns, part.size) for part in parts],
            {n: last[n] for n in slow},
        )

    def parts_of(self, matched: Matched) -> list[Part]:
        """The parts of what these forms found, also in another process."""
        parts = [Part(self.forms[place], index, columns, size) for place, index, columns, size in matched.parts]
        for part in parts:
            part.form.used = self._next()
        return parts

    def set(self, forms: Sequence[Form]) -> None:
        """Takes over forms that were learned elsewhere."""
        self.forms = list(forms)
        self._compile()

    def parts(self, columns: Sequence[Sequence[bytes]]) -> list[Part]:
        """Lines of each form in a block, from the groups of the whole expression. Raises ValueError for a number that
        only the form takes for one."""
        found = []
        for form, start in self.places:
            mark = columns[start]
            empty = mark.count(b"")
            if empty == len(mark):
                continue
            form.used = self._next()
            taken: Sequence[Sequence[bytes]] = columns[start : start + form.groups]
            index = None
            if empty:
                index = np.array(list(compress(range(len(mark)), mark)), dtype=np.int64)
                taken = [list(filter(None, column)) for column in taken]
            wanted = {group for _, group in form.slots} | ({form.bar, form.bar + 1} if form.bar is not None else set())
            numbers = [
                times_of(column) if group == form.time else numbers_of(column) if group in wanted else None
                for group, column in enumerate(taken)
            ]
            found.append(Part(form, index, numbers, len(mark) - empty))
        return found

    def learn_bar(self) -> None:
        """A line that is a progress bar and nothing else was seen."""
        if not self._bar_known:
            self._bar_known = True
            self._add(Form(_BAR_LINE, "bar", 2, bar=0))

    def learn_nothing(self, line: str) -> None:
        """A line that says nothing; others like it can be passed over."""
        if len(line) > 400 or self._tries > _LEARN_TRIES or not re.search(r"[A-Za-z]{2}", line):
            return
        parts, end = [], 0
        for found in NUMBER.finditer(line):
            parts += [_literal(line[end : found.start()]), _number(line, found.end())]
            end = found.end()
        self._learn(Form(b"(" + b"".join([*parts, _literal(line[end:])]) + b")", "nothing", 1))

    def learn(self, line: str, slots: Sequence[Slot], *, kind: str, trains: bool, judged: bool) -> None:
        """A line whose slots say all by themselves. Those with numbers a form can't hold are left out."""
        if len(line) > _LONGEST or self._tries > _LEARN_TRIES:
            return
        form = _form_of(line, slots, kind, trains, judged)
        if form is not None:
            self._learn(form)

    def _learn(self, form: Form) -> None:
        if len(self._seen) > 512:
            self._seen.clear()
        self._tries += 1
        count = self._seen[form.source] = self._seen.get(form.source, 0) + 1
        if count == _LEARN_AFTER:
            self._tries = 0
            self._add(form)

    def _add(self, form: Form) -> None:
        if any(form.source == known.source for known in self.forms):
            return
        form.used = self._next()
        self.forms.append(form)
        if len(self.forms) > MAX_FORMS:
            oldest = min(self.forms, key=lambda f: f.used)
            self.forms.remove(oldest)
            self._bar_known = self._bar_known and oldest.kind != "bar"
            self._seen.pop(oldest.source, None)
        self._compile()

    def _compile(self) -> None:
        self.version += 1
        start, self.places = 0, []
        for known in self.forms:
            self.places.append((known, start))
            start += known.groups
        sources = [b"^(?:" + known.source + b")$" for known in self.forms]
        self.pattern = re.compile(b"|".join([*sources, rb"^[ \t]++$", rb"^(.*)$"]), re.MULTILINE)


def _form_of(line: str, slots: Sequence[Slot], kind: str, trains: bool, judged: bool) -> Form | None:
    wanted = {slot.start: slot for slot in slots}
    parts: list[bytes] = []
    captured: list[tuple[Slot, int]] = []
    groups = 0
    time_group = bar_group = None
    end = 0
    time = TIME.search(line[:80])
    bar = BAR_HEAD.search(line)
    drawn = TQDM.search(line)
    if drawn is not None and (bar is None or bar.start(1) != drawn.start(1)):
        return None
    jumps = [(m.start(), m) for m in (time, bar) if m is not None]
    if time is not None and bar is not None and time.end() > bar.start():
        return None
    for found in NUMBER.finditer(line):
        while jumps and found.start() >= jumps[0][0]:
            at, jump = jumps.pop(0)
            if at < end:
                return None
            parts.append(_literal(line[end:at]))
            if jump is time:
                parts.append(b"(" + _TIME + b")")
                time_group, groups = groups, groups + 1
            else:
                parts.append(_BAR_HEAD)
                bar_group, groups = groups, groups + 2
                if (slot := wanted.pop(jump.start(1), None)) is not None:
                    captured.append((slot, bar_group))
            end = jump.end()
        if found.start() < end:
            if found.start() in wanted:
                return None
            continue
        parts.append(_literal(line[end : found.start()]))
        slot = wanted.pop(found.start(), None)
        if slot is None:
            parts.append(_number(line, found.end()))
        else:
            if "," in found[0]:
                return None
            parts.append(
                rb"(\d++)" if slot.place == "step" and not slot.any_number else b"(" + _number(line, found.end()) + b")"
            )
            captured.append((slot, groups))
            groups += 1
        end = found.end()
    if wanted or not captured:
        return None
    parts.append(_literal(line[end:]))
    return Form(b"".join(parts), kind, groups, tuple(captured), bar_group, time_group, trains, judged)


def _number(line: str, end: int) -> bytes:
    """An expression for a number that ends there in the line."""
    return _NUMBER if line[end : end + 1] in _OF_NUMBERS else _NUMBER_FAST


def _literal(text: str) -> bytes:
    """Text for a form. Blanks beside numbers and digits inside words, as in `7B` or `cuda:0x1f`, may differ."""
    inner = text.strip(" \t")
    if not inner:
        return _BLANKS if text else b""
    head, tail = text[: len(text) - len(text.lstrip(" \t"))], text[len(text.rstrip(" \t")) :]
    made = b"".join(
        rb"\d++" if part.isdecimal() else re.escape(part.encode()) for part in re.split(r"(\d+)", inner) if part
    )
    return (rb"[ \t]++" if head else b"") + made + (rb"[ \t]++" if tail else b"")


def numbers_of(column: Sequence[bytes]) -> Floats:
    """(n,) the numbers of a column. Raises ValueError where one is none."""
    try:
        return np.array(orjson.loads(b"[" + b",".join(column) + b"]"), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return np.array(list(map(float, column)), dtype=np.float64)


def times_of(column: Sequence[bytes]) -> Floats:
    """(n,) seconds since 1970 of times as logged, whole seconds; zones are seldom said, so all are taken as UTC."""
    digits = np.array(column, dtype="S19").view(np.uint8).reshape(-1, 19).astype(np.int64) - 48
    day = digits[:, [0, 1, 2, 3, 5, 6, 8, 9]] @ (10 ** np.arange(7, -1, -1))
    hour, minute, second = (digits[:, at] * 10 + digits[:, at + 1] for at in (11, 14, 17))
    days, inverse = np.unique(day, return_inverse=True)
    begins = np.array([_day(int(d)) for d in days])[inverse]
    stamp = begins + hour * 3600 + minute * 60 + second
    return np.where((hour < 24) & (minute < 60) & (second < 60), stamp, np.nan)


def _day(number: int) -> float:
    try:
        return datetime(number // 10000, number // 100 % 100, number % 100, tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")
