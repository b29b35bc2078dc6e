"""What kinds of values the columns of a file hold, and the values made alike where rows differ.

Who reads rows as a table takes one kind of value for each column. Where a column holds several, `datasets` reads the
text "6" as a number or fails, depending on its version, and Parquet has no such columns at all.
https://huggingface.co/docs/datasets/loading, https://arrow.apache.org/docs/python/json.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

TRUTH, WHOLE, FRACTION, TEXT, LIST, OBJECT, LONG, WIDE = (1 << n for n in range(8))
# LONG: whole numbers that are rounded as fractions; WIDE: that have more than 64 bits.
_KINDS = {bool: TRUTH, int: WHOLE, float: FRACTION, str: TEXT, list: LIST, tuple: LIST, dict: OBJECT}
MOST_KEYS = 1000  # of one object, or objects inside of one another; with more they are no fields but data
MOST_PLACES = 50_000  # below the columns, of a whole file
DEEPEST = 30  # lists and objects inside of one another; Parquet ends at 100 levels, three of which are one list
# Objects that are told apart by one of these are turns, parts of a turn and calls: a field that one of them lacks may
# be null in it.
_TOLD_APART = ("role", "from", "type")
# What trainers read as JSON text too, where its fields are other ones in each row. https://huggingface.co/docs/trl,
# tools; https://platform.openai.com/docs/api-reference/chat, tool_calls
_READ_AS_TEXT = ("tools", "arguments")

Fit = Callable[[Any], Any]


class _Seen:
    """The values at one place: of a column, of the items of a list, of a field."""

    __slots__ = ("deep", "fields", "items", "kinds", "objects", "open", "parts", "times")

    def __init__(self) -> None:
        self.kinds = 0
        self.times = 0  # that the place was there, null or not
        self.objects = 0
        self.items: _Seen | None = None
        self.fields: dict[str, _Seen] = {}
        self.open = False  # has more fields than were counted
        self.deep = False  # holds more than DEEPEST allows
        self.parts = False  # text among lists of parts

    def add(self, value: Any, room: list[int], depth: int = 0) -> bool:
        """Whether no value before it told a kind for this place, or for one inside of it."""
        self.times += 1
        if value is None:
            return False
        kind = _KINDS.get(type(value)) or _kind(value)
        if kind == WHOLE and not -(2**53) <= value <= 2**53:
            kind = LONG if -(2**63) <= value < 2**63 else WIDE
        new = not self.kinds
        self.kinds |= kind
        if kind not in (LIST, OBJECT):
            return new
        if depth == DEEPEST:
            self.deep = True
            return new
        if kind == LIST:
            if self.items is None:
                self.items = _Seen()
            for item in value:
                new = self.items.add(item, room, depth + 1) or new
            return new
        self.objects += 1
        for name, held in value.items():
            field = self.fields.get(name)
            if field is None:
                if len(self.fields) >= MOST_KEYS or not room[0]:
                    self.open = True
                    continue
                room[0] -= 1
                field, new = _Seen(), True
                self.fields[name] = field
            elif type(held) is str and field.kinds & TEXT:  # most values, told apart quickly
                field.times += 1
                continue
            new = field.add(held, room, depth + 1) or new
        return new

    def alike(self) -> bool:
        """Whether all objects in it have the same fields."""
        if self.open or any(one.times != self.objects for one in self.fields.values()):
            return False
        return all(one.alike() for one in (*self.fields.values(), *([self.items] if self.items else [])))

    def settled(self, name: str, flat: bool) -> int:
        """The one kind its values get; 0 for none but null."""
        if self.kinds == WHOLE | FRACTION:
            return FRACTION
        if self.kinds in (LONG, WHOLE | LONG):
            return WHOLE
        if self.parts:
            return LIST
        if self.kinds & (self.kinds - 1) or self.kinds == WIDE or self.deep:
            return TEXT
        if flat and self.kinds == OBJECT and (self.open or not self.fields):
            return TEXT
        if flat and self.kinds & (OBJECT | LIST) and name in _READ_AS_TEXT and not self.alike():
            return TEXT
        return self.kinds


def _kind(value: Any) -> int:
    """Of a class of its own; what JSON doesn't know is written as its text."""
    return next((kind for known, kind in _KINDS.items() if isinstance(value, known)), TEXT)


class Columns:
    """The columns of rows that are added one by one.

    flat: for a file that holds typed columns, where objects need fields that are known, as Parquet's.
    """

    def __init__(self, *, flat: bool = False) -> None:
        self._seen: dict[str, _Seen] = {}
        self._flat, self._room = flat, [MOST_PLACES]
        self._as_text: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def names(self) -> list[str]:
        return list(self._seen)

    def add(self, row: Mapping[str, Any]) -> bool:
        """Whether it has a column, a field or an item where rows before it had none or null."""
        new = False
        for name, value in row.items():
            seen = self._seen.get(name)
            if seen is None:
                seen, new = _Seen(), True
                self._seen[name] = seen
            elif type(value) is str and seen.kinds & TEXT:
                continue
            new = seen.add(value, self._room) or new
        return new

    def fit(self) -> tuple[Callable[[dict[str, Any]], dict[str, Any]] | None, list[str]]:
        """What makes a row like the others, None where all are alike; and the columns in which text then stands for
        other values. Whole numbers among fractions become fractions, text among lists of a turn's parts a part, and
        everything else that differs text."""
        for seen in self._seen.values():
            _make_parts(seen)
        self._as_text = set()
        fits = {name: fit for name, seen in self._seen.items() if (fit := self._fit(seen, name, name)) is not None}
        if not fits:
            return None, []

        def fitted(row: dict[str, Any]) -> dict[str, Any]:
            return {name: fits[name](value) if name in fits else value for name, value in row.items()}

        return fitted, [name for name in self._seen if name in self._as_text]

    def _fit(self, seen: _Seen, name: str, column: str) -> Fit | None:
        kind = seen.settled(name, self._flat)
        if kind == FRACTION:
            return _or_null(float) if seen.kinds & WHOLE else None
        if kind == TEXT:
            if seen.kinds == TEXT:
                return None
            self._as_text.add(column)
            return _or_null(as_text)
        if kind == LIST and seen.items is not None:
            item = self._fit(seen.items, "", column)
            return _items(item, seen.parts) if item is not None or seen.parts else None
        if kind == OBJECT:
            fields = {n: fit for n, one in seen.fields.items() if (fit := self._fit(one, n, column)) is not None}
            return _fields(fields) if fields else None
        return None

    def arrow_schema(self) -> Any:
        """The pyarrow.Schema of rows that were fitted."""
        import pyarrow as arrow

        scalars = {0: arrow.null(), TRUTH: arrow.bool_(), WHOLE: arrow.int64(), FRACTION: arrow.float64()}
        scalars[TEXT] = arrow.string()

        def type_of(seen: _Seen | None, name: str) -> Any:
            if seen is None:
                return arrow.null()
            kind = seen.settled(name, self._flat)
            if kind == LIST:
                return arrow.list_(type_of(seen.items, ""))
            if kind == OBJECT:
                return arrow.struct([(in_utf8(n), type_of(one, n)) for n, one in seen.fields.items()])
            return scalars[kind]

        return arrow.schema([(in_utf8(name), type_of(seen, name)) for name, seen in self._seen.items()])


def _make_parts(seen: _Seen) -> None:
    """Marks contents of turns that are text in some and lists of parts in others."""
    content = seen.fields.get("content")
    if content is not None and "role" in seen.fields and content.kinds == TEXT | LIST and content.items is not None:
        content.parts = True
        content.items.add(_part(""), [2])
    for one in (*seen.fields.values(), *([seen.items] if seen.items else [])):
        _make_parts(one)


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _or_null(fit: Fit) -> Fit:
    return lambda value: None if value is None else fit(value)


def _items(item: Fit | None, parts: bool) -> Fit:
    def fit(value: Any) -> Any:
        if value is None:
            return None
        if parts and isinstance(value, str):
            value = [_part(value)]
        return [item(one) for one in value] if item is not None else value

    return fit


def _fields(fields: Mapping[str, Fit]) -> Fit:
    def fit(value: Any) -> Any:
        if value is None:
            return None
        return {name: fields[name](held) if name in fields else held for name, held in value.items()}

    return fit


def as_text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def json_text(value: Any, **options: Any) -> str:
    """JSON as people read it; lone surrogates, which UTF-8 has no bytes for, as escapes."""
    text = json.dumps(value, ensure_ascii=False, default=str, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, default=str, **options)
    return text


def in_utf8(text: str) -> str:
    """The text with a question mark for what UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode()
